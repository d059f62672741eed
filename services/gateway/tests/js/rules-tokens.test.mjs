// Rules and tokens: what is granted holds for rules too, and users are found by their token's subject, on all nodes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { io, required, granted } from "./auth/setup.mjs";
import { ask, record } from "./lib/clients.mjs";
import { nextEvent, until } from "./lib/wait.mjs";

const RULES = fileURLToPath(new URL("rules/every.toml", import.meta.url));
const grants = { namespaces: ["/"], rooms: { join: ["open-*", "quiet-*"], send: ["open-*"] } };

test("what a token does not grant, no rule does; and a user is found by name", async () => {
  const server = await required("--rules", RULES);
  const [alice, also, bob] = [
    await io(server, granted({ ...grants, users: true }, { sub: "alice" })),
    await io(server, granted(grants, { sub: "alice" })),
    await io(server, granted(grants, { sub: "bob" })),
  ];
  const forbidden = { ok: false, error: "forbidden" };
  assert.equal((await ask(bob, "join", "closed-1")).ok, false);
  assert.equal((await ask(bob, "join", "quiet-1")).count, 1);
  assert.equal((await ask(bob, "join", "open-1")).count, 1);
  assert.equal(await ask(bob, "to", "room", "open-1", "x"), "ok");
  assert.deepEqual(await ask(bob, "to", "room", "quiet-1", "x"), forbidden);
  // Where it is granted in one room, it is said in that one.
  assert.equal(await ask(bob, "to", "rooms", "x"), "ok");
  assert.equal(await ask(bob, "leave", "open-1"), "left");
  assert.deepEqual(await ask(bob, "to", "rooms", "x"), forbidden);
  assert.equal(await ask(bob, "granted", "open-2"), true);
  assert.deepEqual(await ask(bob, "granted", "closed"), forbidden);
  assert.deepEqual(await ask(bob, "users"), { ok: false, error: "users-forbidden" });
  assert.equal((await ask(alice, "users")).ok, true);
  const heard = [alice, also, bob].map((socket) => record(socket, "got"));
  await until(async () => {
    assert.equal(await ask(bob, "to", "subject", "alice", "hi"), "ok");
    await Promise.all([alice, also].map((socket) => ask(socket, "get")));
    return heard[0].length > 0 && heard[1].length > 0;
  }, "both sockets of alice hear bob");
  assert.deepEqual([heard[0][0], heard[1][0], heard[2]], [["bob", "hi"], ["bob", "hi"], []]);
});

test("what limits clients limits rules: rooms, joins, messages, profiles, lists of users", async () => {
  const refused = (error) => ({ ok: false, error });
  const server = await required("--rules", RULES, "--no-users", "true");
  const limits = { rooms: 2, joinsPerSecond: 1, messageBytes: 200, profileBytes: 20 };
  const bob = await io(server, granted({ ...grants, users: true, rooms: { join: ["*"], send: ["*"] }, limits }, { sub: "bob" }));
  assert.deepEqual(await ask(bob, "users"), refused("users-forbidden"));
  assert.deepEqual(await ask(bob, "join", "a", { name: "x".repeat(20) }), refused("bad-profile"));
  assert.equal((await ask(bob, "join", "a", { n: 1 })).count, 1);
  assert.deepEqual(await ask(bob, "set", "x".repeat(300)), refused("message-too-large"));
  const joins = await Promise.all(Array.from({ length: 14 }, (_, n) => ask(bob, "join", `b${n % 3}`)));
  const codes = new Set(joins.map(({ error, count }) => error ?? count));
  assert.ok(codes.has("too-many-rooms") && codes.has("rate-limited"), JSON.stringify(joins));
  assert.ok(joins.find(({ error }) => error === "rate-limited").retryAfter > 0);
  assert.deepEqual(await ask(bob, "small", [1]), refused("bad-argument"));
  assert.deepEqual(await ask(bob, "small", ["x".repeat(20), 1]), refused("bad-argument"));
  assert.equal(await ask(bob, "small", [1, 2]), true);
  const told = nextEvent(bob, "error");
  bob.emit("small", 1);
  assert.deepEqual(await told, [{ event: "small", error: "bad-argument", hint: "an argument is not what this event takes" }]);
});
