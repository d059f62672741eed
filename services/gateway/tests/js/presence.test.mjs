// Rooms with more members than --presence-limit: how many there are is told, and not who comes and goes; on all nodes alike.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { ask, connected, record } from "./lib/clients.mjs";
import { until } from "./lib/wait.mjs";
import { Redis, metric, ready, startNode } from "./cluster/setup.mjs";

const LIMIT = 20;
// Until there are fewer than that, a room that was large stays it.
const AGAIN = LIMIT * 0.8;
const MOST = 60;

const redis = await Redis.start();
// The built-in vocabulary, and the same as rules of one's own, which are interpreted.
const flags = ["--presence-limit", `${LIMIT}`];
const nodes = await Promise.all([startNode(redis, flags), startNode(redis, [...flags, "--rules", process.env.OWN_RULES])]);
await Promise.all(nodes.map((node) => ready(node)));
after(closeAll);

const on = (index) => connected(nodes[index % nodes.length].url, { transports: ["websocket"] });

test("members of a large room are told how many there are, of a small one who", async () => {
  // One on each node is there from the beginning, and hears everything.
  const watchers = await Promise.all([on(0), on(1)]);
  const heard = watchers.map((socket) => Object.fromEntries(["joined", "updated", "left", "presence", "message"].map((event) => [event, record(socket, event)])));
  for (const socket of watchers) assert.equal((await ask(socket, "join", "hall", { name: "watcher" })).count, undefined);
  const crowd = await Promise.all(Array.from({ length: MOST - 2 }, (_, index) => on(index)));
  const began = performance.now();
  const answers = [];
  // One after the other, so that everybody knows what was told of whom.
  for (const [index, socket] of crowd.entries()) answers.push(await ask(socket, "join", "hall", { name: `${index}` }));

  for (const [index, { ok, count, members }] of answers.entries()) {
    const expected = index + 3;
    assert.ok(ok);
    assert.equal(count, expected > LIMIT ? expected : undefined, `the answer to member ${expected}`);
    assert.equal(members.length, expected - 1, "all others are listed, as long as they are not more than a page");
  }
  for (const { presence } of heard) await until(() => presence.at(-1)?.[0].count === MOST, "the last word is the right one");
  const seconds = (performance.now() - began) / 1000;
  for (const [index, { joined, presence }] of heard.entries()) {
    // The first watcher has heard of the second, too.
    assert.deepEqual(joined.map(([{ name }]) => name), [...(index === 0 ? ["watcher"] : []), ...Array.from({ length: LIMIT - 2 }, (_, n) => `${n}`)]);
    assert.ok(presence.length <= seconds + 2, `${presence.length} in ${seconds} s`);
    assert.deepEqual(Object.keys(presence[0][0]).sort(), ["count", "room"]);
    assert.equal(presence[0][0].room, "hall");
  }

  // A new profile is not told either, and whoever asks gets it.
  await ask(crowd[0], "join", "hall", { name: "renamed" });
  const { count, members, next } = await ask(watchers[1], "members", "hall");
  assert.deepEqual([count, members.length, next], [MOST, MOST, undefined]);
  assert.ok(members.some(({ name }) => name === "renamed"));
  const rest = await ask(watchers[0], "members", "hall", members[39].id);
  assert.deepEqual(rest.members, members.slice(40), "a list goes on behind any member");
  for (const watcher of watchers) {
    assert.deepEqual(await ask(watcher, "members", "hall", members[39].id), rest);
    for (const nobody of ["nobody", 7]) assert.equal((await ask(watcher, "members", "hall", nobody)).error, "not-found");
  }
  assert.deepEqual(heard.map(({ updated }) => updated), [[], []]);

  // Messages reach everybody, as ever.
  assert.deepEqual(await ask(crowd[1], "message", "hall", "hello"), { ok: true });
  for (const { message } of heard) await until(() => message.length === 1, "the message is heard");

  for (const socket of crowd) assert.equal((await ask(socket, "leave", "hall")).ok, true);
  await until(async () => (await ask(watchers[0], "members", "hall")).members.length === 2, "nobody else is left");
  for (const { left, presence } of heard) {
    // Of those who are on different nodes, any may be the first to go.
    await until(() => left.length >= AGAIN - 2, "the last farewells");
    assert.equal(left.length, AGAIN - 2, "those are told again that leave a room that is small again");
    await until(() => presence.at(-1)[0].count <= AGAIN, "how many were left is told once more");
  }
  assert.ok((await metric(nodes[0], "signalbox_presence_changes_total")) >= 2 * (MOST - LIMIT - 2));
  const late = await ask(await on(1), "join", "hall");
  assert.deepEqual([late.count, late.members.map(({ name }) => name)], [undefined, ["watcher", "watcher"]]);
});
