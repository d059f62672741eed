// What is refused, and how a client is told.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, connected } from "../lib/clients.mjs";
import { nextEvent } from "../lib/wait.mjs";
import { hear, member, newRoom, POLLING, target, WEBSOCKET } from "./setup.mjs";

describe("refusals", () => {
  test("of an event that nobody defined", async () => {
    for (const options of [WEBSOCKET, POLLING]) {
      const socket = await connected(target.url, options);
      assert.deepEqual(await ask(socket, "make-coffee", { sugar: 1 }), { ok: false, error: "unknown-event" });
      const told = nextEvent(socket, "error");
      socket.emit("make-coffee", Buffer.from([1]));
      const [{ event, error, hint, ...rest }] = await told;
      assert.deepEqual([event, error, rest], ["make-coffee", "unknown-event", {}]);
      assert.equal(typeof hint, "string");
      assert.ok(hint.length > 0);
      socket.disconnect();
    }
  });

  // Their answer is the acknowledgement, so without one they are refused for that.
  const NEED_ACK = ["members", "users"];

  /** Asserts that the event is refused, with an acknowledgement and without; resolves with the code. */
  async function refused(socket, event, ...args) {
    const reply = await ask(socket, event, ...args);
    assert.equal(reply.ok, false, `${event} ${JSON.stringify(args).slice(0, 60)} gave ${JSON.stringify(reply)}`);
    assert.deepEqual(Object.keys(reply).sort(), ["error", "ok"]);
    assert.match(reply.error, /^[a-z][a-z-]*$/);
    const told = nextEvent(socket, "error");
    socket.emit(event, ...args);
    const [detail] = await told;
    assert.equal(detail.event, event);
    if (!NEED_ACK.includes(event)) assert.equal(detail.error, reply.error);
    return reply.error;
  }

  test("of a room that is the id of a socket, and of no other of that shape", async () => {
    const [socket, other] = [await connected(target.url, WEBSOCKET), await connected(target.url, WEBSOCKET)];
    for (const room of [other.id, socket.id]) {
      assert.equal(await refused(socket, "join", room), "bad-room");
      assert.equal(await refused(socket, "join-room", room, "peer"), "bad-room");
    }
    // Rooms of subjects and of PeerServer ids are nobody's to join, leave or listen in on.
    for (const room of ["\u0001subject:alice", "\u0001peer:alice", "\u0001"]) {
      for (const event of ["join", "leave", "message", "members"]) assert.equal(await refused(socket, event, room, {}), "bad-room", event);
      assert.equal(await refused(socket, "join-room", room, "peer"), "bad-room");
    }
    // Ids of databases have that shape, too.
    for (const room of ["-NxAbCdEfGhIjKlMnOpQ", "abcdefghij_-12345678", "A".repeat(20), "A".repeat(21), `${"A".repeat(19)}.`]) {
      assert.equal((await ask(socket, "join", room)).ok, true);
      assert.equal((await ask(other, "join", room)).ok, true);
      const told = nextEvent(other, "message");
      assert.equal((await ask(socket, "message", room, "hello")).ok, true);
      assert.deepEqual(await told, ["hello", { room, from: socket.id }]);
      // A signal is for a socket, never for a room.
      other.on("signal", () => assert.fail("a signal reached a room"));
      assert.deepEqual(await ask(socket, "signal", room, "secret"), { ok: false, error: "not-found" });
      assert.deepEqual(await ask(other, "leave", room), { ok: true, room });
    }
    socket.disconnect();
    other.disconnect();
  });

  test("of arguments of the wrong kind", async () => {
    const socket = await connected(target.url, WEBSOCKET);
    for (const room of [undefined, null, "", true, {}, ["room"], Buffer.from("room")]) {
      for (const event of ["join", "leave", "members", "message", "join-room"]) await refused(socket, event, ...(room === undefined ? [] : [room]));
    }
    for (const to of [null, 7, {}, ""]) await refused(socket, "signal", to, 1);
    const room = newRoom();
    for (const profile of ["text", 7, [1], true]) await refused(socket, "join", room, profile);
    assert.equal((await ask(socket, "join", room, { fine: true })).members.length, 0);
    socket.disconnect();
  });

  test("of a profile over 4 KiB, but not of one below", async () => {
    const room = newRoom();
    const socket = await connected(target.url, WEBSOCKET);
    await refused(socket, "join", room, { name: "x".repeat(4096) });
    assert.equal((await ask(socket, "join", room, { name: "x".repeat(4000) })).ok, true);
    socket.disconnect();
  });

  test("of what only members of the room may do", async () => {
    const room = newRoom();
    const [inside, outside] = [await member(room), await connected(target.url, WEBSOCKET)];
    const heard = hear(inside);
    for (const [event, ...args] of [["members", room], ["message", room, "let me in"], ["members", "empty-room"], ["message", "empty-room", 1]]) {
      await refused(outside, event, ...args);
    }
    await ask(inside, "leave", room);
    await refused(inside, "message", room, 1);
    await refused(inside, "members", room);
    assert.deepEqual(heard.filter(([event]) => event === "message"), []);
    inside.disconnect();
    outside.disconnect();
  });
});
