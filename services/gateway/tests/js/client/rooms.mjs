// Who hears what about a room, and how often.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, client, connected } from "../lib/clients.mjs";
import { TcpProxy } from "../lib/proxy.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { allUsers, byId, byRoom, DEFAULT, gather, hear, member, newRoom, POLLING, settle, target, WEBSOCKET } from "./setup.mjs";

describe("who hears what about a room", () => {
  test("join: the joiner gets the members, the others get joined", async () => {
    const room = newRoom();
    const alice = await connected(target.url, WEBSOCKET);
    assert.deepEqual(await ask(alice, "join", room, { name: "Alice", peerId: "a-1" }), { ok: true, room, members: [] });
    const toAlice = hear(alice);

    const bob = await connected(target.url, POLLING);
    const toBob = hear(bob);
    assert.deepEqual(await ask(bob, "join", room, { name: "Bob", nested: { list: [1, null] } }), {
      ok: true,
      room,
      members: [{ id: alice.id, name: "Alice", peerId: "a-1" }],
    });

    const carol = await connected(target.url, WEBSOCKET);
    const { members } = await ask(carol, "join", room);
    assert.deepEqual(byId(members), byId([{ id: alice.id, name: "Alice", peerId: "a-1" }, { id: bob.id, name: "Bob", nested: { list: [1, null] } }]));

    await settle(room, toAlice, toBob);
    assert.deepEqual(toAlice, [
      ["joined", { id: bob.id, room, name: "Bob", nested: { list: [1, null] } }],
      ["joined", { id: carol.id, room }],
    ]);
    assert.deepEqual(toBob, [["joined", { id: carol.id, room }]]);
    for (const socket of [alice, bob, carol]) socket.disconnect();
  });

  test("an id in a profile is overwritten", async () => {
    const room = newRoom();
    const alice = await member(room, { id: "not me", name: "Alice" });
    const toAlice = hear(alice);
    const bob = await connected(target.url, WEBSOCKET);
    assert.deepEqual((await ask(bob, "join", room, { id: alice.id })).members, [{ id: alice.id, name: "Alice" }]);
    await settle(room, toAlice);
    assert.deepEqual(toAlice, [["joined", { id: bob.id, room }]]);
    alice.disconnect();
    bob.disconnect();
  });

  test("join again: the profile is replaced, the others get updated, the farewell has the new one", async () => {
    const room = newRoom();
    const [alice, bob] = await gather(room, {}, { name: "Bob", old: true });
    const [toAlice, toBob] = [hear(alice), hear(bob)];
    assert.deepEqual(await ask(bob, "join", room, { name: "Robert" }), { ok: true, room, members: [{ id: alice.id }] });
    assert.deepEqual(byId((await ask(alice, "members", room)).members), byId([{ id: alice.id }, { id: bob.id, name: "Robert" }]));
    await ask(bob, "leave", room);
    await settle(room, toAlice);
    assert.deepEqual(toAlice, [["updated", { id: bob.id, room, name: "Robert" }], ["left", { id: bob.id, room, name: "Robert" }]]);
    assert.deepEqual(toBob, []);
    alice.disconnect();
    bob.disconnect();
  });

  test("leave: the others get left, once, whatever follows", async () => {
    const room = newRoom();
    const [alice, bob] = await gather(room, {}, { name: "Bob" });
    const [toAlice, toBob] = [hear(alice), hear(bob)];
    const { id } = bob;
    assert.equal((await ask(bob, "leave", room)).ok, true);
    await ask(bob, "leave", room);
    bob.disconnect();
    await settle(room, toAlice);
    assert.deepEqual(toAlice, [["left", { id, room, name: "Bob" }]]);
    assert.deepEqual(toBob, []);
    assert.deepEqual((await ask(alice, "members", room)).members, [{ id: alice.id }]);
    alice.disconnect();
  });

  test("members: everyone, the asker included", async () => {
    const room = newRoom();
    const [alice, bob] = [await member(room, { name: "Alice" }), await member(room, { name: "Bob" }, POLLING)];
    const reply = await ask(bob, "members", room);
    assert.deepEqual({ ...reply, members: byId(reply.members) }, { ok: true, room, members: byId([{ id: alice.id, name: "Alice" }, { id: bob.id, name: "Bob" }]) });
    alice.disconnect();
    bob.disconnect();
  });

  test("coming back is a new membership", async () => {
    const room = newRoom();
    const [alice, bob] = await gather(room, {}, { visit: 1 });
    const toAlice = hear(alice);
    await ask(bob, "leave", room);
    await ask(bob, "join", room, { visit: 2 });
    await settle(room, toAlice);
    assert.deepEqual(toAlice, [["left", { id: bob.id, room, visit: 1 }], ["joined", { id: bob.id, room, visit: 2 }]]);
    alice.disconnect();
    bob.disconnect();
  });

  test("users: every connected client, in rooms or not, page by page, each once", async () => {
    const room = newRoom();
    const sockets = await Promise.all([member(room, { name: "Alice" }), connected(target.url, WEBSOCKET), connected(target.url, POLLING)]);
    const users = await allUsers(sockets[0]);
    for (const socket of sockets) assert.equal(users.filter(({ id }) => id === socket.id).length, 1);
    assert.equal(users.find(({ id }) => id === sockets[0].id).name, "Alice");
    const [gone] = sockets.splice(1, 1);
    const { id } = gone;
    gone.disconnect();
    await until(async () => !(await allUsers(sockets[0])).some((user) => user.id === id), "a disconnected client is no user");
    for (const socket of sockets) socket.disconnect();
  });

  for (const [name, options] of [["polling", POLLING], ["WebSocket", WEBSOCKET]]) {
    test(`a farewell for every room, once, when a client disconnects, over ${name}`, async () => {
      const [one, two] = [newRoom(), newRoom()];
      const watcher = await member(one);
      await ask(watcher, "join", two);
      const heard = hear(watcher);
      const guest = await member(one, { in: "one" }, options);
      await ask(guest, "join", two, { in: "two" });
      const { id } = guest;
      guest.disconnect();
      await settle(one, heard);
      await settle(two, heard);
      assert.deepEqual(
        heard.filter(([event]) => event === "left").sort(byRoom),
        [["left", { id, room: one, in: "one" }], ["left", { id, room: two, in: "two" }]].sort(byRoom),
      );
      watcher.disconnect();
    });

    test(`a farewell, once, when the network fails, over ${name}`, async () => {
      const room = newRoom();
      const proxy = await TcpProxy.start(target.url);
      const watcher = await member(room);
      const heard = hear(watcher);
      const guest = await member(room, { name: "Guest" }, options, proxy.url);
      const { id } = guest;
      const left = nextEvent(watcher, "left");
      await proxy.cutWhenQuiet();
      await left;
      await settle(room, heard);
      assert.deepEqual(heard, [["joined", { id, room, name: "Guest" }], ["left", { id, room, name: "Guest" }]]);
      await proxy.stop();
      watcher.disconnect();
    });
  }

  test("two rooms do not hear each other", async () => {
    const [one, two] = [newRoom(), newRoom()];
    const [alice, bob] = [await member(one), await member(two)];
    const heard = hear(alice);
    await ask(bob, "message", two, "only here");
    await settle(one, heard);
    assert.deepEqual(heard, []);
    alice.disconnect();
    bob.disconnect();
  });
});

describe("the pattern of the tutorials", () => {
  test("join-room, user-connected, user-disconnected", async () => {
    const room = newRoom();
    const alice = await connected(target.url, DEFAULT);
    alice.emit("join-room", room, "peer-alice");
    assert.deepEqual(byId((await ask(alice, "members", room)).members), [{ id: alice.id, peerId: "peer-alice" }]);
    const heard = hear(alice);
    const bob = await connected(target.url, DEFAULT);
    const told = nextEvent(alice, "user-connected");
    bob.emit("join-room", room, "peer-bob", "Bob", { color: "red" });
    assert.deepEqual(await told, ["peer-bob", "Bob", { color: "red" }]);
    const gone = nextEvent(alice, "user-disconnected");
    bob.disconnect();
    assert.deepEqual(await gone, ["peer-bob", "Bob", { color: "red" }]);
    await settle(room, heard);
    assert.deepEqual(heard, [["user-connected", "peer-bob", "Bob", { color: "red" }], ["user-disconnected", "peer-bob", "Bob", { color: "red" }]]);
    alice.disconnect();
  });
});
