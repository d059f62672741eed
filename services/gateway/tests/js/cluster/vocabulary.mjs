// The vocabulary with clients on different nodes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, connected, record } from "../lib/clients.mjs";
import { request } from "../lib/http.mjs";
import { until } from "../lib/wait.mjs";
import { metric } from "./setup.mjs";

const options = { transports: ["websocket"] };

export function vocabulary(nodes) {
  const on = (index) => connected(nodes[index].url, options);

  test("rooms are the same on every node", async () => {
    const [a, b, c] = await Promise.all([on(0), on(1), on(2)]);
    const heard = [a, b].map((socket) => ["joined", "updated", "left", "message"].map((event) => record(socket, event)));
    const [[joinedA, updatedA, leftA, messagesA], [joinedB, , leftB, messagesB]] = heard;

    assert.deepEqual((await ask(a, "join", "hall", { name: "a" })).members, []);
    assert.deepEqual((await ask(b, "join", "hall", { name: "b" })).members, [{ id: a.id, name: "a" }]);
    const { members } = await ask(c, "join", "hall", { name: "c" });
    assert.deepEqual(members.map(({ name }) => name).sort(), ["a", "b"]);
    await until(() => joinedA.length === 2 && joinedB.length === 1, "those who were there hear of those who come");
    assert.deepEqual(joinedA.map(([{ id }]) => id), [b.id, c.id]);

    const data = { text: "hello", bytes: Buffer.from([1, 2, 3]) };
    assert.deepEqual(await ask(c, "message", "hall", data), { ok: true });
    await until(() => messagesA.length === 1 && messagesB.length === 1, "the message is everywhere");
    for (const [[got, from]] of [messagesA, messagesB]) {
      assert.deepEqual({ ...got, bytes: Buffer.from(got.bytes) }, data);
      assert.deepEqual(from, { room: "hall", from: c.id });
    }

    await ask(b, "join", "hall", { name: "bee" });
    await until(() => updatedA.length === 1, "a new profile is told");
    assert.deepEqual(updatedA[0], [{ id: b.id, room: "hall", name: "bee" }]);
    const listed = await ask(a, "members", "hall");
    assert.deepEqual(listed.members.map(({ name }) => name).sort(), ["a", "bee", "c"]);

    const third = c.id;
    c.disconnect();
    await until(() => leftA.length === 1 && leftB.length === 1, "the farewell is everywhere");
    assert.deepEqual(leftA[0], [{ id: third, room: "hall", name: "c" }]);
    assert.deepEqual(await ask(b, "leave", "hall"), { ok: true, room: "hall" });
    await until(() => leftA.length === 2, "who leaves is gone");
    assert.equal(messagesA.length + messagesB.length, 2, "nobody heard anything twice");
  });

  test("a signal finds its socket on another node, or says that it is nowhere", async () => {
    const [a, b] = await Promise.all([on(0), on(1)]);
    const signals = record(b, "signal");
    assert.deepEqual(await ask(a, "signal", b.id, { sdp: "x" }), { ok: true });
    await until(() => signals.length === 1, "the signal arrives");
    assert.deepEqual(signals[0], [{ sdp: "x" }, { from: a.id }]);
    const gone = b.id;
    b.disconnect();
    await until(async () => (await ask(a, "signal", gone, 1)).error === "not-found", "a socket that is gone is nowhere");
    assert.equal((await ask(a, "signal", "AAAAAAAAAAAAAAAAAAAA", 1)).error, "not-found");
  });

  test("users are those of all nodes", async () => {
    const sockets = await Promise.all(nodes.map((_, index) => on(index)));
    const ids = sockets.map(({ id }) => id).sort();
    for (const socket of sockets) {
      await until(async () => {
        const { users } = await ask(socket, "users");
        return ids.every((id) => users.some((user) => user.id === id));
      }, "everybody is listed");
    }
  });

  test("the nodes know each other", async () => {
    for (const node of nodes) {
      await until(async () => (await metric(node, "signalbox_cluster_nodes")) === nodes.length, "all nodes are known");
      assert.equal((await request(node.adminUrl, "GET", "/livez")).status, 200);
    }
  });
}

/** What a single Redis has to do for it. */
export function costs(redis, nodes) {
  const on = (index) => connected(nodes[index].url, options);

  test("nodes without members of a room receive nothing of it", async () => {
    const [a, b] = await Promise.all([on(0), on(0)]);
    await ask(a, "join", "corner");
    await ask(b, "join", "corner");
    const channels = await redis.ask("PUBSUB CHANNELS *corner*");
    assert.match(channels, /^\*1\r\n/);
    assert.match(await redis.ask(`PUBSUB NUMSUB ${/(signalbox\S+corner)/.exec(channels)[1]}`), /:1\r\n/);
    a.disconnect();
    b.disconnect();
    await until(async () => (await redis.ask("PUBSUB CHANNELS *corner*")).startsWith("*0"), "nobody hears an empty room");
  });

  test("what an operation costs in commands", async () => {
    const [a, b] = await Promise.all([on(0), on(1)]);
    await ask(a, "join", "priced");
    const before = { scripts: await redis.calls("evalsha"), subscribes: await redis.calls("subscribe"), says: await redis.calls("publish") };
    const messages = record(a, "message");
    for (let n = 0; n < 50; n += 1) await ask(b, n === 0 ? "join" : "message", "priced", n === 0 ? {} : n);
    await until(() => messages.length === 49, "all are heard");
    const publishes = (await redis.calls("publish")) - before.says;
    // Beside them: the script publishes the change of the join.
    assert.equal(publishes, 49 + 1, "a message to a room is one command");
    assert.equal((await redis.calls("subscribe")) - before.subscribes, 1, "a join subscribes once");
    const scripts = (await redis.calls("evalsha")) - before.scripts;
    // The join, and what heartbeats and the list of users cost anyway in that time.
    assert.ok(scripts < 49, `${scripts} scripts: messages cost none`);
  });
}
