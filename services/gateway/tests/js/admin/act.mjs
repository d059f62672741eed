// What is said to clients and done with them through one node, with clients on the others, and while their sessions move.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { ask, client, connected, record, upgraded } from "../lib/clients.mjs";
import { PeerSocket, socketUrl } from "../lib/peer-socket.mjs";
import { PollingSession } from "../lib/polling.mjs";
import { moveTo } from "../lib/upgrading.mjs";
import { nextEvent, until, within } from "../lib/wait.mjs";
import { claims, hs256 } from "../lib/jwt.mjs";
import { Redis, balance, ready, sessionTransfers, startNode } from "../cluster/setup.mjs";
import { call, get } from "./setup.mjs";

const websocket = { transports: ["websocket"] };

/** What a POST answers, which must be a success. */
async function post(node, path, body, options) {
  const answer = await call(node, "POST", `/admin/v1/${path}`, { body, ...options });
  assert.equal(answer.status, 200, `${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

export function act(nodes) {
  describe("what the admin API does", () => {
    it("emits to rooms, sockets and everybody, and to nobody else", async () => {
      const sockets = await Promise.all(nodes.map((node) => connected(node.url, websocket)));
      const seen = sockets.map((socket) => record(socket, "news"));
      await Promise.all(sockets.slice(0, 2).map((socket) => ask(socket, "join", "act-emit", {})));
      const count = () => seen.map((list) => list.length).join();
      await post(nodes[2], "emit", { to: { rooms: ["act-emit"] }, event: "news", args: [1, { a: [{ $binary: "AQI=" }] }] });
      await until(() => count() === "1,1,0", "the room has it");
      assert.deepEqual(seen[0][0], [1, { a: [Buffer.from([1, 2])] }]);
      await post(nodes[0], "emit", { to: { sockets: [sockets[2].id], rooms: ["act-emit"], except: [sockets[0].id] }, event: "news", args: ["x"] });
      await until(() => count() === "1,2,1", "those that are named have it");
      await post(nodes[1], "batch", { events: [1, 2, 3].map((n) => ({ to: { everyone: true, except: ["act-emit"] }, event: "news", args: [n] })) });
      await until(() => count() === "1,2,4", "everybody else has it");
      assert.deepEqual(seen[2].slice(1), [[1], [2], [3]]);
    });

    it("collects acknowledgements from all nodes, and says who gave none", async () => {
      const sockets = await Promise.all(nodes.map((node) => connected(node.url, websocket)));
      await Promise.all(sockets.map((socket) => ask(socket, "join", "act-ack", {})));
      sockets.slice(0, 2).forEach((socket, index) => socket.on("question", (number, answer) => answer(number + index, Buffer.from([7]))));
      const { sockets: asked, acks, nodes: each, partial } = await post(nodes[1], "emit", {
        to: { rooms: ["act-ack"] }, event: "question", args: [40], ack: { timeout: 1_000 },
      });
      assert.deepEqual([asked, partial, each.map(({ done }) => done).sort()], [3, [], [0, 1, 1]]);
      const expected = sockets.slice(0, 2).map(({ id }, index) => [id, [40 + index, { $binary: "Bw==" }]]);
      assert.deepEqual(acks.map(({ socket, args }) => [socket, args]).sort(), expected.sort());
    });

    it("lets sockets of other nodes join and leave rooms, and the members know", async () => {
      const [watcher, moved] = [await connected(nodes[0].url, websocket), await connected(nodes[1].url, websocket)];
      await ask(watcher, "join", "act-join", {});
      const [joined, left] = [record(watcher, "joined"), record(watcher, "left")];
      const request = { to: { sockets: [moved.id] }, rooms: ["act-join", "act-join-2"], profile: { name: "ada", id: "forged", room: "other" } };
      const outcome = await post(nodes[2], "join", request);
      assert.deepEqual([outcome.matched, outcome.done, outcome.partial], [1, 1, []]);
      await until(() => joined.length === 1, "the member is told");
      assert.deepEqual(joined[0], [{ id: moved.id, room: "act-join", name: "ada" }]);
      const { members } = await ask(watcher, "members", "act-join");
      assert.ok(members.some(({ id, name }) => id === moved.id && name === "ada"));
      await post(nodes[0], "leave", { to: { rooms: ["act-join"], except: [watcher.id] }, rooms: ["act-join"] });
      await until(() => left.length === 1, "the member is told that it has left");
      assert.deepEqual((await get(nodes[2], `sockets/${moved.id}`)).memberships.map(({ room }) => room), ["act-join-2"]);
    });

    it("reaches sockets while their sessions move", async () => {
      for (let round = 0; round < 5; round += 1) {
        const socket = client(nodes[round % 3].url);
        await nextEvent(socket, "connect");
        const rooms = [`act-move-${round}`];
        const news = record(socket, "news");
        // The upgrade is under way.
        const [outcome] = await Promise.all([
          post(nodes[(round + 1) % 3], "join", { to: { sockets: [socket.id] }, rooms }),
          post(nodes[(round + 2) % 3], "emit", { to: { sockets: [socket.id] }, event: "news", args: [round] }),
        ]);
        assert.deepEqual([outcome.matched, outcome.done], [1, 1]);
        await until(() => news.length === 1, "the event has come");
        await until(() => socket.io.engine.transport.name === "websocket", "it has moved");
        const found = async () => (await call(nodes[0], "GET", `/admin/v1/sockets/${socket.id}`)).body.memberships?.map(({ room }) => room);
        await until(async () => (await found())?.join() === rooms.join(), "it is in the room");
        socket.disconnect();
      }
    });

    it("does everything with sockets whose sessions move from node to node", async () => {
      // Each request of a client lands on another node, its WebSocket too.
      const url = await balance(nodes);
      const moves = async () => (await Promise.all(nodes.map(sessionTransfers))).reduce((a, b) => a + b);
      const before = await moves();
      const round = async (number) => {
        const socket = client(url);
        await nextEvent(socket, "connect");
        const [to, rooms, via] = [{ sockets: [socket.id] }, [`act-far-${number}`], (shift) => nodes[(number + shift) % 3]];
        const news = record(socket, "news");
        let questions = 0;
        socket.on("question", (answer) => answer(number, (questions += 1)));
        // However it moves, it is there, once, and its room has it.
        let looks = true;
        const times = async (node) => (await get(node, "sockets", { address: "127.0.0.1", limit: 1_000 })).items.filter(({ id }) => id === socket.id).length;
        const looking = (async () => {
          for (let turn = 0; looks; turn += 1) {
            const node = nodes[turn % 3];
            const [{ status, body }, listed] = await Promise.all([call(node, "GET", `/admin/v1/sockets/${socket.id}`), times(node)]);
            assert.equal(status, 200, `look ${turn} at ${number}: ${JSON.stringify(body)}`);
            // On a busy machine its old node may have been asked long after its new one.
            assert.equal(listed || (await times(node)), 1, `list ${turn} at ${number}`);
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        })();
        looking.catch(() => {});
        // The upgrade is under way.
        const [joined, , asked] = await Promise.all([
          post(via(0), "join", { to, rooms, profile: { number } }),
          post(via(1), "emit", { to, event: "news", args: [number] }),
          post(via(2), "emit", { to, event: "question", ack: { timeout: 10_000 } }),
        ]);
        // Its old node and its new one may both select one that is just moving: it does what it is told once, and is counted once.
        assert.deepEqual([joined.matched, joined.done], [1, 1], `join ${number}: ${JSON.stringify(joined)}`);
        assert.deepEqual([asked.sockets, asked.acks], [1, [{ socket: socket.id, args: [number, 1] }]], `question ${number}: ${JSON.stringify(asked)}`);
        await until(() => news.length > 0, "the event has come");
        // Of some the upgrade is still under way, or does not come.
        if (number % 3 > 0) await until(() => socket.io.engine.transport.name === "websocket", "it has moved");
        const again = await post(via(2), "emit", { to, event: "question", ack: { timeout: 10_000 } });
        assert.deepEqual([again.sockets, again.acks.map(({ args }) => args)], [1, [[number, 2]]], `question ${number} once it is there: ${JSON.stringify(again)}`);
        looks = false;
        await looking;
        // It has both events of a batch, in order, and minds nothing that is revoked of others.
        await Promise.all([
          post(via(0), "batch", { events: ["one", "two"].map((name) => ({ to, event: "news", args: [name] })) }),
          post(via(1), "revoke", { tokenId: `of nobody ${number}` }),
        ]);
        assert.equal((await post(via(1), "emit", { to: { rooms }, event: "quiet", ack: { timeout: 1 } })).sockets, 1, `room ${number}`);
        const left = await post(via(2), "leave", { to, rooms });
        assert.deepEqual([left.matched, left.done], [1, 1], `leave ${number}: ${JSON.stringify(left)}`);
        assert.equal((await post(via(1), "emit", { to: { rooms }, event: "quiet", ack: { timeout: 1 } })).sockets, 0, `room ${number} that it has left`);
        const gone = nextEvent(socket, "disconnect");
        const closed = await post(via(0), "disconnect", { to, close: number % 2 === 0 });
        assert.deepEqual([closed.matched, closed.done], [1, 1], `disconnect ${number}: ${JSON.stringify(closed)}`);
        await gone;
        assert.deepEqual(news, [[number], ["one"], ["two"]]);
        socket.disconnect();
      };
      // A node answers 32 questions at once, and a round may have four under way.
      for (const first of [0, 6]) await Promise.all(Array.from({ length: 6 }, (_, number) => round(first + number)));
      assert.ok((await moves()) > before, "some have moved");
    });

    it("collects each acknowledgement once of a client that gives it on another node than it was asked on", async () => {
      const session = await PollingSession.join(nodes[0].url);
      const to = { sockets: [session.socketId] };
      const emit = (event, timeout) => post(nodes[1], "emit", { to, event, ack: { timeout } });
      const answers = [emit("plain", 10_000), emit("binary", 10_000), emit("never", 1_000)];
      // Each has the number that its answer bears.
      const asked = {};
      const names = ["plain", "binary", "never"];
      await session.poll((packet) => {
        const [, id, event] = /^42(\d+)\["(\w+)"\]$/.exec(packet) ?? [];
        if (event) asked[event] = id;
        return names.every((name) => asked[name] !== undefined);
      }, "the questions");
      const socket = await moveTo(nodes[2], session);
      socket.send(`43${asked.plain}["there"]`, `461-${asked.binary}[{"_placeholder":true,"num":0}]`, Buffer.from([1, 2]));
      // One that comes twice is nobody's.
      socket.send(`43${asked.plain}["again"]`);
      const [plain, binary, never] = await Promise.all(answers);
      for (const [answer, expected] of [[plain, ["there"]], [binary, [{ $binary: "AQI=" }]]]) {
        assert.deepEqual([answer.sockets, answer.acks, answer.partial], [1, [{ socket: session.socketId, args: expected }], []]);
      }
      assert.deepEqual([never.sockets, never.acks, never.partial], [1, [], []]);
      assert.deepEqual(never.nodes.map(({ matched, done }) => [matched, done]).filter(([matched]) => matched > 0), [[1, 0]]);
      // Nobody waits for the answer of a client that has gone.
      const last = emit("last", 20_000);
      await socket.until((packet) => /^42\d+\["last"\]$/.test(packet), "the last question");
      const began = performance.now();
      socket.end();
      assert.deepEqual((await last).acks, []);
      assert.ok(performance.now() - began < 10_000);
    });

    it("disconnects sockets and peers of other nodes", async () => {
      const [gone, stays] = [await connected(nodes[0].url, websocket), await upgraded(nodes[1].url)];
      await Promise.all([gone, stays].map((socket) => ask(socket, "join", "act-disconnect", {})));
      const peer = new PeerSocket(socketUrl(nodes[2].url, { key: "peerjs", id: "act-peer", token: "t" }));
      assert.ok(await peer.until(() => peer.messages[0]?.type === "OPEN"));
      const told = await post(nodes[0], "peers/act-peer/messages", { type: "OFFER", src: "server", payload: { a: 1 } });
      assert.deepEqual([told.matched, told.done], [1, 1]);
      assert.ok(await peer.until(() => peer.messages.length === 2));
      assert.deepEqual(peer.messages[1], { type: "OFFER", src: "server", dst: "act-peer", payload: { a: 1 } });
      const reason = nextEvent(gone, "disconnect");
      const to = { rooms: ["act-disconnect"], except: [stays.id] };
      const outcome = await post(nodes[1], "disconnect", { to, peers: [{ id: "act-peer" }, { id: "act-nobody" }] });
      assert.deepEqual([outcome.matched, outcome.done], [2, 2]);
      assert.deepEqual((await reason)[0], "io server disconnect");
      assert.ok(await peer.until(() => peer.closed !== undefined));
      assert.ok(stays.connected);
      assert.equal((await call(nodes[0], "GET", "/admin/v1/peers/act-peer")).status, 404);
    });

    it("does what bears a key once, whichever node is asked again", async () => {
      const socket = await connected(nodes[0].url, websocket);
      const news = record(socket, "once");
      const body = { to: { sockets: [socket.id] }, event: "once" };
      const options = { headers: { "idempotency-key": `key-${socket.id}` } };
      for (const node of [nodes[0], nodes[0], nodes[1], nodes[2]]) await post(node, "emit", body, options);
      await post(nodes[1], "emit", { ...body, event: "once", args: ["last"] });
      await until(() => news.at(-1)?.[0] === "last", "the last one has come");
      assert.equal(news.length, 2);
      const other = await call(nodes[0], "POST", "/admin/v1/emit", { body: { ...body, args: [1] }, ...options });
      assert.deepEqual([other.status, other.body.parameter], [400, "Idempotency-Key"]);
    });

    it("reaches the sockets of a subject, and revokes its tokens", async () => {
      const secret = "a secret of the tests, of more than 32 bytes";
      const redis = await Redis.start();
      const flags = ["--auth", "required", "--jwt-secret", secret];
      const guarded = [await startNode(redis, flags), await startNode(redis, flags)];
      await Promise.all(guarded.map(ready));
      const token = hs256(secret, claims({ sub: "ops", signalbox: { admin: ["emit", "control"] } }));
      const user = (sub) => connected(guarded[0].url, { ...websocket, auth: { token: hs256(secret, claims({ sub })) } });
      const [ada, bob] = [await user("ada"), await user("bob")];
      const [for_ada, for_bob] = [record(ada, "news"), record(bob, "news")];
      const { sockets } = await post(guarded[1], "emit", { to: { subjects: ["ada"] }, event: "news" }, { token });
      assert.equal(sockets, 1);
      await until(() => for_ada.length === 1, "the subject has it");
      const gone = nextEvent(ada, "disconnect");
      await post(guarded[1], "revoke", { subject: "ada" }, { token });
      await gone;
      assert.deepEqual([for_bob.length, bob.connected], [0, true]);
      // Nodes look for those of a subject: one whose session moves from node to node is found once, whichever has it when it is asked.
      const url = await balance(guarded);
      const moving = async (number) => {
        const [sub, expected] = [`mover ${number}`, Array.from({ length: 8 }, (_, turn) => [turn])];
        const socket = await connected(url, { auth: { token: hs256(secret, claims({ sub })) } });
        const news = record(socket, "news");
        for (const [turn] of expected) {
          const sent = await post(guarded[turn % 2], "emit", { to: { subjects: [sub] }, event: "news", args: [turn] }, { token });
          assert.deepEqual([sent.sockets, sent.nodes.map(({ done }) => done).sort()], [1, [0, 1]], `turn ${turn} of ${number}: ${JSON.stringify(sent)}`);
        }
        await until(() => news.length >= expected.length, `mover ${number} has them all`);
        assert.deepEqual(news, expected, `mover ${number}`);
      };
      await Promise.all(Array.from({ length: 8 }, (_, number) => moving(number)));
      await Promise.all(guarded.map((node) => node.stop()));
    });

    it("refuses what cannot be meant, and does nothing", async () => {
      const to = { rooms: ["nobody"] };
      for (const [path, body, parameter] of [
        ["emit", { to: {}, event: "x" }, "to"], ["emit", { to, event: "disconnect" }, "event"], ["emit", { to, event: "" }, "event"],
        ["emit", { to, event: "x", args: {} }, "args"], ["emit", { to, event: "x", args: [{ $binary: "?" }] }, "args"],
        ["emit", { to, event: "x", args: [{ _placeholder: true, num: 0 }] }, "args"], ["emit", { to, event: "x", ack: { timeout: 0 } }, "ack"],
        ["batch", { events: [] }, "events"], ["join", { to, rooms: [] }, "rooms"], ["disconnect", {}, "to"],
        ["emit", { to: { rom: [] }, event: "x" }, undefined], ["revoke", {}, "tokenId"], ["revoke", { tokenId: "x".repeat(257) }, "tokenId"], ["revoke", { subject: "" }, "subject"],
      ]) {
        const answer = await call(nodes[0], "POST", `/admin/v1/${path}`, { body });
        assert.deepEqual([answer.status, answer.body.parameter], [400, parameter], `${path} ${JSON.stringify(body)}`);
      }
      const large = await call(nodes[0], "POST", "/admin/v1/emit", { body: { to, event: "x", args: ["x".repeat(1 << 20)] } });
      assert.deepEqual([large.status, large.body.code], [413, "too-large"]);
    });
  });
}

export function dying(redis, nodes) {
  describe("what the admin API does while nodes go", () => {
    let halfWay;
    it("names a node that is killed while acknowledgements are waited for", async () => {
      // Its clients have their time.
      const doomed = await startNode(redis, ["--node-id", "doomed", "--drain-delay", "30000"]);
      await ready(doomed);
      await until(async () => (await get(nodes[0], "nodes")).items.some(({ name }) => name === "doomed"), "the others know it");
      const sockets = [await connected(nodes[1].url, websocket), await connected(doomed.url, websocket)];
      await Promise.all(sockets.map((socket) => ask(socket, "join", "act-doomed", {})));
      sockets[0].on("question", (answer) => answer("here"));
      halfWay = await post(nodes[1], "nodes/doomed/drain");
      await until(async () => (await get(nodes[2], `operations/${halfWay.id}`)).total === 1, "it drains");
      const asked = nextEvent(sockets[1], "question");
      const answer = post(nodes[0], "emit", { to: { rooms: ["act-doomed"] }, event: "question", ack: { timeout: 5_000 } });
      await asked;
      await doomed.stop();
      const { acks, partial } = await answer;
      assert.deepEqual(acks.map(({ args }) => args), [["here"]]);
      const missing = partial.filter(({ name }) => name === "doomed");
      assert.deepEqual(missing.map(({ reason }) => reason), ["unreachable"]);
    });

    it("says what became of a drain whose node was killed half-way", async () => {
      const of = async (node) => get(node, `operations/${halfWay.id}`);
      await until(async () => (await of(nodes[0])).endedAt !== undefined, "another node says so", 30_000);
      for (const node of nodes) {
        const { kind, status, detail, runnerName, total, done } = await of(node);
        assert.deepEqual([kind, status, runnerName, total, done], ["drain", "failed", "doomed", 1, 0]);
        assert.match(detail, /ended without saying how far it was/);
      }
      assert.deepEqual((await get(nodes[1], "operations", { node: "doomed", status: "failed" })).items.map(({ id }) => id), [halfWay.id]);
    });

    it("drains a node that is named, and its clients go to the others", async () => {
      const leaving = await startNode(redis, ["--node-id", "leaving", "--drain-delay", "100", "--drain-timeout", "2000"]);
      await ready(leaving);
      await until(async () => (await get(nodes[0], "nodes")).items.some(({ name }) => name === "leaving"), "the others know it");
      const socket = await connected(leaving.url, websocket);
      const gone = nextEvent(socket, "disconnect");
      const { kind, status, runnerName } = await post(nodes[0], "nodes/leaving/drain");
      assert.deepEqual([kind, status, runnerName], ["drain", "running", "leaving"]);
      await gone;
      assert.deepEqual(await within(leaving.exited, "the node ends"), { code: 0, signal: null });
      assert.equal((await call(nodes[0], "POST", "/admin/v1/nodes/nobody/drain")).status, 404);
    });
  });
}
