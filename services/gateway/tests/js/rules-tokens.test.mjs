// Rules and tokens: what is granted holds for rules too, and users are found by their token's subject, on all nodes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { io, required, granted } from "./auth/setup.mjs";
import { ask, record } from "./lib/clients.mjs";
import { until } from "./lib/wait.mjs";

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
  assert.deepEqual(await ask(bob, "users"), forbidden);
  assert.equal((await ask(alice, "users")).ok, true);
  const heard = [alice, also, bob].map((socket) => record(socket, "got"));
  await until(async () => {
    assert.equal(await ask(bob, "to", "subject", "alice", "hi"), "ok");
    await Promise.all([alice, also].map((socket) => ask(socket, "get")));
    return heard[0].length > 0 && heard[1].length > 0;
  }, "both sockets of alice hear bob");
  assert.deepEqual([heard[0][0], heard[1][0], heard[2]], [["bob", "hi"], ["bob", "hi"], []]);
});
