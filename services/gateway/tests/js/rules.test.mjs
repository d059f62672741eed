// Every action, target and refusal of rules, with unmodified clients, on one node or over several (GATEWAY_URLS). The file is
// rules/every.toml.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, client, connected, record } from "./lib/clients.mjs";
import { PeerSocket, socketUrl } from "./lib/peer-socket.mjs";
import { startTarget } from "./lib/target.mjs";
import { nextEvent, until } from "./lib/wait.mjs";

const target = await startTarget();
after(closeAll);

const WEBSOCKET = { transports: ["websocket"] };
let next = 0;
/** A connected client; one after the other they are on all nodes. It has been welcomed. */
async function enter(options = {}, namespace = "") {
  const url = target.urls[next++ % target.urls.length];
  const socket = client(url + namespace, { ...WEBSOCKET, ...options });
  const welcomed = nextEvent(socket, "welcome");
  await nextEvent(socket, "connect");
  socket.welcome = await welcomed;
  return socket;
}
let rooms = 0;
const newRoom = () => `rules ${process.pid} ${++rooms}`;
const refused = (error) => ({ ok: false, error });

test("a connection is welcomed, keeps what it said, and may be refused", async () => {
  const ann = await enter({ auth: { name: "Ann" } });
  assert.deepEqual(ann.welcome, ["Ann", ann.id]);
  const other = await enter({}, "/n-7");
  assert.deepEqual(other.welcome, ["nobody", other.id]);
  assert.equal((await ask(ann, "get")).text, "I am Ann, {really}");
  const banned = client(target.url, { ...WEBSOCKET, auth: { banned: true } });
  const told = nextEvent(banned, "error");
  const gone = nextEvent(banned, "disconnect");
  const [{ error }] = await told;
  assert.equal(error, "banned");
  assert.equal((await gone)[0], "io server disconnect");
  const nowhere = client(`${target.url}/nowhere`, WEBSOCKET);
  const [problem] = await nextEvent(nowhere, "connect_error");
  assert.equal(problem.message, "Invalid namespace");
});

test("members are told of each other, across all nodes, and a full room takes nobody else", async () => {
  const room = newRoom();
  const people = [await enter(), await enter(), await enter(), await enter()];
  const [a, b, c, d] = people;
  assert.deepEqual(await ask(a, "join", room, { name: "A", n: 1.5 }), { others: [], members: [{ id: a.id, name: "A", n: 1.5 }], count: 1 });
  const came = nextEvent(a, "came");
  const reply = await ask(b, "join", room);
  assert.deepEqual([reply.count, reply.others], [2, [{ id: a.id, name: "A", n: 1.5 }]]);
  assert.deepEqual(await came, [{ id: b.id, room }]);
  assert.equal((await ask(c, "join", room)).count, 3);
  assert.deepEqual(await ask(d, "join", room), refused("no-place"));
  // Who is in may change, also where it is full.
  const changed = nextEvent(a, "changed");
  assert.equal((await ask(b, "join", room, { name: "B" })).count, 3);
  assert.deepEqual(await changed, [{ id: b.id, room, name: "B" }]);
  const [count, members] = await ask(c, "members", room);
  assert.deepEqual([count, members.length], [3, 3]);
  assert.deepEqual(await ask(d, "members", room), refused("not-a-member"));
  const told = nextEvent(a, "gone");
  assert.equal(await ask(b, "leave", room), "left");
  assert.deepEqual(await told, [{ id: b.id, room, name: "B" }]);
  assert.equal((await ask(d, "join", room)).count, 3);
  for (const bad of [null, "", true, "\u0001subject:x", a.id, "x".repeat(256)]) assert.deepEqual(await ask(a, "join", bad), refused("bad-room"));
  for (const bad of ["text", [1], Buffer.from([1]), { x: "y".repeat(5000) }]) assert.deepEqual(await ask(a, "join", room, bad), refused("bad-profile"));
});

test("of many that join at once exactly one is first, and no more than may be are in", async () => {
  const room = newRoom();
  const people = await Promise.all(Array.from({ length: 8 }, () => enter()));
  const full = people.map((socket) => record(socket, "full"));
  const answers = await Promise.all(people.map((socket) => ask(socket, "duel", room)));
  assert.deepEqual(answers.toSorted(), ["first", ...Array(6).fill("full"), "second"]);
  assert.deepEqual(full.map((list) => list.length), answers.map((answer) => (answer === "full" ? 1 : 0)));
});

test("an event goes to whom the rule says", async () => {
  const room = newRoom();
  const [a, b, c] = [await enter(), await enter(), await enter()];
  await ask(a, "join", room, { name: "A" });
  await ask(b, "join", room, { name: "B" });
  const heard = [a, b, c].map((socket) => record(socket, "got"));
  const settle = async (expected, what) => {
    await until(() => expected.every((list, index) => heard[index].length >= list.length), what);
    // What must not come would have come by then: it is behind the others on the same way.
    assert.deepEqual(heard.map((list) => list.splice(0)), expected, what);
  };
  const bytes = Buffer.from([1, 2, 3]);
  const cases = [
    [["room", room, bytes, { x: [bytes] }], [[bytes, { x: [bytes] }], [bytes, { x: [bytes] }], null]],
    [["room-but-me", room, 1.0, "two"], [null, [1, "two"], null]],
    [["me", "x"], [["x"], null, null]],
    [["rooms", "x"], [["A", "x"], ["A", "x"], null]],
    [["socket", b.id, "x"], [null, ["x"], null]],
    [["everyone-but-me", "x"], [null, ["x"], ["x"]]],
    [["everyone", "x"], [["x"], ["x"], ["x"]]],
  ];
  for (const [args, expected] of cases) {
    assert.equal(await ask(a, "to", ...args), "ok", args[0]);
    await settle(expected.map((list) => (list ? [list] : [])), args[0]);
  }
  assert.deepEqual(await ask(c, "to", "room", room, 1), refused("not-a-member"));
  for (const nobody of ["AAAAAAAAAAAAAAAAAAAA", "x", 7, null]) assert.deepEqual(await ask(a, "to", "socket", nobody, 1), refused("not-found"));
  assert.deepEqual(await ask(a, "to", "the wall"), refused("unknown-event"));
  // The socket that goes with a PeerServer id.
  assert.equal(await ask(b, "i-am", "peer-b"), true);
  await until(async () => {
    await ask(a, "to", "peer", "peer-b", "ring");
    await ask(b, "get");
    return heard[1].length > 0;
  }, "the peer's socket is found");
  assert.deepEqual([heard[0], heard[1][0], heard[2]], [[], ["ring"], []]);
  // It goes with one at a time.
  assert.equal(await ask(b, "i-am", "peer-c"), true);
  heard[1].splice(0);
  await until(async () => {
    await ask(a, "to", "peer", "peer-c", "ring again");
    await ask(b, "get");
    return heard[1].length > 0;
  }, "the other peer's socket is found");
  heard[1].splice(0);
  await ask(a, "to", "peer", "peer-b", "nobody");
  await ask(a, "to", "peer", "peer-c", "last");
  await until(() => heard[1].some(([text]) => text === "last"), "what came last");
  assert.ok(!heard[1].some(([text]) => text === "nobody"), JSON.stringify(heard[1]));
});

test("who goes says so itself, before its farewell or after", async () => {
  const room = newRoom();
  const [a, b] = [await enter(), await enter()];
  await ask(a, "join", room);
  await ask(b, "join", room);
  const [going, gone] = [nextEvent(a, "going"), nextEvent(a, "gone")];
  const { id } = b;
  b.disconnect();
  assert.deepEqual(await going, [id, "client namespace disconnect"]);
  assert.deepEqual(await gone, [{ id, room }]);
});

test("all rooms are left, and what must be joined first is refused", async () => {
  const [one, two] = [newRoom(), newRoom()];
  const [a, b] = [await enter(), await enter()];
  for (const room of [one, two]) {
    await ask(b, "join", room);
    await ask(a, "join", room);
  }
  const gone = record(b, "gone");
  assert.equal(await ask(a, "leave-all"), true);
  await until(() => gone.length === 2, "both farewells");
  assert.deepEqual(await ask(a, "leave", one), refused("not-a-member"));
});

test("what is kept on a socket stays, and is bounded", async () => {
  const a = await enter({ auth: { name: "Ann" } });
  for (const value of ["text", 1.25, { deep: [true, null] }, [1]]) {
    assert.deepEqual(await ask(a, "set", value), value);
    assert.deepEqual((await ask(a, "get")).value, value);
  }
  assert.deepEqual(await ask(a, "set", "x".repeat(5000)), refused("bad-value"));
  assert.deepEqual(await ask(a, "set", Buffer.from([1])), refused("bad-value"));
  assert.equal(await ask(a, "set", null), "none");
  assert.deepEqual(Object.keys(await ask(a, "get")), ["name", "ns", "text"]);
});

test("arguments are tested", async () => {
  const a = await enter();
  const bytes = Buffer.from([1, 2, 3]);
  assert.deepEqual(await ask(a, "check", "abc", 9.5, "a", bytes), ["abc", bytes]);
  assert.deepEqual(await ask(a, "check", "abc", 1, 3, bytes), ["abc", bytes]);
  for (const text of ["a", "abcdef", "aBc", 7, null, undefined]) assert.deepEqual(await ask(a, "check", text, 1, "a", bytes), refused("bad-text"));
  for (const number of ["1", 0, 10, null]) assert.deepEqual(await ask(a, "check", "abc", number, "a", bytes), refused("bad-number"));
  for (const kind of ["c", 4, false]) assert.deepEqual(await ask(a, "check", "abc", 1, kind, bytes), refused("bad-kind"));
  for (const other of ["abc", Buffer.alloc(4), {}, { _placeholder: true }]) assert.deepEqual(await ask(a, "check", "abc", 1, "a", other), refused("bad-bytes"));
  const told = nextEvent(a, "error");
  a.emit("check", "a");
  assert.deepEqual(await told, [{ event: "check", error: "bad-text", hint: "two to five letters" }]);
  const bad = nextEvent(a, "error");
  a.emit("name", "disconnect");
  assert.equal((await bad)[0].error, "bad-event");
  const needed = nextEvent(a, "error");
  a.emit("users");
  assert.equal((await needed)[0].error, "ack-required");
  const { ok, users } = await ask(a, "users");
  assert.ok(ok && users.some(({ id }) => id === a.id));
  assert.equal(await ask(a, "granted", "any room"), true);
});

test("a rule disconnects the namespace, or the connection", async () => {
  const a = await enter();
  const gone = nextEvent(a, "disconnect");
  a.emit("end", "namespace");
  assert.equal((await gone)[0], "io server disconnect");
  const b = await enter();
  const closed = nextEvent(b, "disconnect");
  b.emit("end", "connection");
  assert.equal((await closed)[0], "io server disconnect");
});

test("a claim and a release of a PeerServer id are told", async () => {
  const a = await enter();
  const id = `rules-${process.pid}`;
  const [here, gone] = [nextEvent(a, "peer-here"), nextEvent(a, "peer-gone")];
  const peer = new PeerSocket(socketUrl(target.urls.at(-1), { key: "peerjs", id, token: "t" }));
  onEnd(() => peer.terminate());
  assert.deepEqual(await here, [id, "peerjs"]);
  peer.terminate();
  assert.deepEqual(await gone, [id]);
});
