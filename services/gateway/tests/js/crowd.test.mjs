// A thousand unmodified clients in one room (CROWD: how many), of all nodes in turns if there are several: every one of them is told of everyone else, hears each
// broadcast exactly once and in order, and of every farewell.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { ask, connected } from "./lib/clients.mjs";
import { startTarget } from "./lib/target.mjs";
import { until } from "./lib/wait.mjs";

const target = await startTarget();
after(async () => {
  await closeAll();
  await target.stop();
});

const CLIENTS = Number(process.env.CROWD ?? 1000);
const SPEAKERS = 10;
const MESSAGES = 3;
const LEAVERS = 5;
// A thousand joins are half a million announcements, for one process on each side.
const PATIENCE = 50_000;
const ROOM = "the whole crowd";

test(`${CLIENTS} clients in one room`, async () => {
  // In portions, so that the queue of half-open connections is not what is tested.
  const crowd = [];
  while (crowd.length < CLIENTS) {
    crowd.push(...(await Promise.all(Array.from({ length: 100 }, (_, i) => enter(crowd.length + i)))));
  }

  // Whoever was there already is in the acknowledgement, whoever came later was announced.
  const ids = new Set(crowd.map(({ id }) => id));
  assert.equal(ids.size, CLIENTS);
  await until(() => crowd.every((one) => one.members.length + one.joined.length >= CLIENTS - 1), "everyone knows everyone", PATIENCE);
  for (const one of crowd) {
    const known = new Set([...one.members, ...one.joined]);
    assert.equal(one.members.length + one.joined.length, CLIENTS - 1, "nobody is told twice");
    assert.equal(known.size, CLIENTS - 1);
    assert.ok(!known.has(one.id));
    for (const id of known) assert.ok(ids.has(id));
  }

  // The cluster-wide list has all of them, page by page.
  const users = [];
  for (let page = await ask(crowd[0].socket, "users"); ; page = await ask(crowd[0].socket, "users", page.next)) {
    users.push(...page.users);
    if (page.next === undefined) break;
  }
  const listed = users.map(({ id }) => id).filter((id) => ids.has(id));
  assert.equal(listed.length, CLIENTS);
  assert.equal(new Set(listed).size, CLIENTS);

  const speakers = crowd.slice(0, SPEAKERS);
  const sent = [];
  for (let n = 0; n < MESSAGES; n++) for (const { socket } of speakers) sent.push(ask(socket, "message", ROOM, n));
  for (const reply of await Promise.all(sent)) assert.equal(reply.ok, true);
  const expected = (one) => (SPEAKERS - (speakers.includes(one) ? 1 : 0)) * MESSAGES;
  await until(() => crowd.every((one) => one.messages.length >= expected(one)), "everyone hears every message", PATIENCE);
  for (const one of crowd) {
    assert.equal(one.messages.length, expected(one), "nobody hears twice");
    for (const { id } of speakers) {
      if (id === one.id) continue;
      assert.deepEqual(one.messages.filter(([from]) => from === id), Array.from({ length: MESSAGES }, (_, n) => [id, n]));
    }
  }

  const leavers = crowd.splice(CLIENTS - LEAVERS, LEAVERS);
  for (const { socket } of leavers) socket.disconnect();
  await until(() => crowd.every((one) => one.left.length >= LEAVERS), "everyone hears the farewells", PATIENCE);
  const gone = leavers.map(({ id }) => id).sort();
  for (const one of crowd) assert.deepEqual(one.left.toSorted(), gone);
  const { members } = await ask(crowd[0].socket, "members", ROOM);
  assert.equal(members.length, CLIENTS - LEAVERS);
});

/** One of the crowd, with lists of what it was told. */
async function enter(number) {
  const socket = await connected(target.urls[number % target.urls.length], { transports: ["websocket"] });
  const one = { socket, id: socket.id, joined: [], left: [], messages: [] };
  socket.on("joined", ({ id }) => one.joined.push(id));
  socket.on("left", ({ id }) => one.left.push(id));
  socket.on("message", (n, { from }) => one.messages.push([from, n]));
  const reply = await ask(socket, "join", ROOM, { number });
  assert.equal(reply.ok, true);
  one.members = reply.members.map(({ id }) => id);
  return one;
}
