// What the servers of the PeerJS and Socket.IO tutorials do, beyond a plain `join-room`.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, connected, record } from "../lib/clients.mjs";
import { nextEvent } from "../lib/wait.mjs";
import { newRoom, target, WEBSOCKET } from "./setup.mjs";

describe("the tutorials' chat", () => {
  /** A client that has joined as a tutorial's page does; `args` are those of `join-room`. */
  async function enter(...args) {
    const socket = await connected(target.url, WEBSOCKET);
    assert.equal((await ask(socket, "join-room", ...args)).ok, true);
    return socket;
  }
  const fence = (...sockets) => Promise.all(sockets.map((socket) => ask(socket, "users")));
  const end = (...sockets) => sockets.forEach((socket) => socket.disconnect());

  test("message(text) is createMessage(text, userName) for everyone in the room, the sender included", async () => {
    const room = newRoom();
    const alice = await enter(room, "peer-a", "Alice");
    const bob = await enter(room, "peer-b");
    const stranger = await enter(newRoom(), "peer-c", "Carol");
    const seen = [alice, bob, stranger].map((socket) => record(socket, "createMessage"));
    const told = [alice, bob].map((socket) => nextEvent(socket, "createMessage"));
    alice.emit("message", "hello");
    await Promise.all(told);
    const answers = [alice, bob].map((socket) => nextEvent(socket, "createMessage"));
    assert.deepEqual(await ask(bob, "message", { text: "hi" }), { ok: true });
    await Promise.all(answers);
    await fence(alice, bob, stranger);
    assert.deepEqual(seen, [[["hello", "Alice"], [{ text: "hi" }, null]], [["hello", "Alice"], [{ text: "hi" }, null]], []]);
    // With two arguments it is the vocabulary's own.
    const own = nextEvent(bob, "message");
    assert.deepEqual(await ask(alice, "message", room, "data"), { ok: true });
    assert.deepEqual(await own, ["data", { room, from: alice.id }]);
    end(alice, bob, stranger);
  });

  test("binary is passed on", async () => {
    const alice = await enter(newRoom(), "peer-a", "Alice");
    const told = nextEvent(alice, "createMessage");
    alice.emit("message", Buffer.from([1, 2]));
    assert.deepEqual(await told, [Buffer.from([1, 2]), "Alice"]);
    end(alice);
  });

  test("a socket that did not use join-room says nothing", async () => {
    const room = newRoom();
    const alice = await connected(target.url, WEBSOCKET);
    assert.deepEqual(await ask(alice, "message", room), { ok: false, error: "not-a-member" });
    assert.equal((await ask(alice, "join", room, {})).ok, true);
    alice.on("createMessage", () => assert.fail("it was said"));
    assert.deepEqual(await ask(alice, "message", room), { ok: true });
    assert.deepEqual(await ask(alice, "message", "hello"), { ok: false, error: "not-a-member" });
    end(alice);
  });

  test("join-room takes an object", async () => {
    const room = newRoom();
    const alice = await enter(room, "peer-a");
    const told = record(alice, "user-connected");
    const others = [];
    for (const form of [
      { roomId: room, peerId: "peer-b", userName: "Bob" },
      { room, userId: "peer-c", name: "Carol" },
      { roomId: room, peerId: "peer-d" },
    ]) {
      const came = nextEvent(alice, "user-connected");
      others.push(await enter(form));
      await came;
    }
    const said = nextEvent(alice, "createMessage");
    others[0].emit("message", "hello");
    assert.deepEqual(await said, ["hello", "Bob"]);
    assert.deepEqual(told, [["peer-b", "Bob"], ["peer-c", "Carol"], ["peer-d"]]);
    assert.deepEqual(await ask(alice, "join-room", { peerId: "peer-a" }), { ok: false, error: "bad-room" });
    assert.deepEqual(await ask(alice, "join-room", { roomId: room }), { ok: false, error: "bad-profile" });
    end(alice, ...others);
  });

  test("a room may be a number", async () => {
    const number = process.pid * 1000;
    const alice = await enter(number, "peer-a", "Alice");
    const told = nextEvent(alice, "user-connected");
    const bob = await enter({ roomId: number, peerId: "peer-b" });
    assert.deepEqual(await told, ["peer-b"]);
    const said = nextEvent(bob, "createMessage");
    alice.emit("message", 7);
    assert.deepEqual(await said, [7, "Alice"]);
    assert.deepEqual(await ask(bob, "leave", number), { ok: true, room: String(number) });
    end(alice, bob);
  });

  test("a second join-room with another peer id is the end of the first", async () => {
    const room = newRoom();
    const alice = await enter(room, "peer-a");
    const came = nextEvent(alice, "user-connected");
    const bob = await enter(room, "old", "Bob");
    assert.deepEqual(await came, ["old", "Bob"]);
    const heard = [];
    for (const event of ["user-connected", "user-disconnected"]) alice.on(event, (...args) => heard.push([event, ...args]));
    for (const args of [["new", "Bob"], ["new", "Robert"]]) {
      const reply = await ask(bob, "join-room", room, ...args);
      assert.deepEqual(reply.members, [{ id: alice.id, peerId: "peer-a" }]);
    }
    const said = nextEvent(alice, "createMessage");
    bob.emit("message", "hello");
    assert.deepEqual(await said, ["hello", "Robert"]);
    const gone = nextEvent(alice, "user-disconnected");
    bob.disconnect();
    await gone;
    assert.deepEqual(heard, [
      ["user-disconnected", "old", "Bob"],
      ["user-connected", "new", "Bob"],
      ["user-connected", "new", "Robert"],
      ["user-disconnected", "new", "Robert"],
    ]);
    end(alice);
  });
});
