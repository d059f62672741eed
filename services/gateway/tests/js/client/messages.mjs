// Text and binary, from each transport to each, in order and acknowledged.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, connected, record } from "../lib/clients.mjs";
import { nextEvent, until, within } from "../lib/wait.mjs";
import { hear, member, newRoom, POLLING, target, WEBSOCKET } from "./setup.mjs";

describe("messages", () => {
  const VALUES = [
    ["text", "hello é 😀 \u2028 \"quoted\""],
    ["an empty string", ""],
    ["null", null],
    ["numbers", [0, -1.5, 1e21]],
    ["a nested object", { sdp: { type: "offer", lines: ["v=0", "o=-"] }, list: [[], {}] }],
    ["a buffer", Buffer.from([0, 1, 254, 255])],
    ["an empty buffer", Buffer.alloc(0)],
    ["nested buffers", { name: "file.bin", parts: [Buffer.from("one"), { last: Buffer.from("two") }] }],
    ["ten buffers", Array.from({ length: 10 }, (_, i) => Buffer.alloc(10 * i, i))],
    ["what looks like a placeholder", { _placeholder: true, num: 0 }],
  ];

  // Each pair of transports: a frame is encoded once per transport, not once per room.
  for (const [fromName, from] of [["polling", POLLING], ["WebSocket", WEBSOCKET]]) {
    for (const [toName, to] of [["polling", POLLING], ["WebSocket", WEBSOCKET]]) {
      test(`reach the others in the room, from ${fromName} to ${toName}`, async () => {
        const room = newRoom();
        const [sender, receiver] = [await member(room, undefined, from), await member(room, undefined, to)];
        const own = record(sender, "message");
        for (const [what, value] of VALUES) {
          const arrived = nextEvent(receiver, "message");
          const reply = await ask(sender, "message", room, value);
          assert.equal(reply.ok, true, what);
          assert.deepEqual(await arrived, [value, { room, from: sender.id }], what);
        }
        assert.deepEqual(own, [], "the sender does not hear itself");
        sender.disconnect();
        receiver.disconnect();
      });

      test(`signals reach one socket, from ${fromName} to ${toName}`, async () => {
        const [sender, receiver, other] = [await connected(target.url, from), await connected(target.url, to), await connected(target.url, to)];
        const overheard = record(other, "signal");
        for (const [what, value] of VALUES) {
          const arrived = nextEvent(receiver, "signal");
          const reply = await ask(sender, "signal", receiver.id, value);
          assert.equal(reply.ok, true, what);
          assert.deepEqual(await arrived, [value, { from: sender.id }], what);
        }
        await ask(other, "users");
        assert.deepEqual(overheard, []);
        for (const socket of [sender, receiver, other]) socket.disconnect();
      });
    }
  }

  test("a signal to oneself comes back, a signal to nobody is refused", async () => {
    const socket = await connected(target.url, WEBSOCKET);
    const echo = nextEvent(socket, "signal");
    assert.equal((await ask(socket, "signal", socket.id, 1)).ok, true);
    assert.deepEqual(await echo, [1, { from: socket.id }]);
    assert.deepEqual(await ask(socket, "signal", "AAAAAAAAAAAAAAAAAAAA", 1), { ok: false, error: "not-found" });
    assert.deepEqual(await ask(socket, "signal", "nobody", 1), { ok: false, error: "not-found" });
    const gone = await connected(target.url, WEBSOCKET);
    const { id } = gone;
    gone.disconnect();
    await until(async () => (await ask(socket, "signal", id, 1)).error === "not-found", "the id is free");
    socket.disconnect();
  });

  test("thousands at once keep their order, and every acknowledgement comes", async () => {
    const room = newRoom();
    for (const [options, count] of [[WEBSOCKET, 3000], [POLLING, 1000]]) {
      const [sender, receiver] = [await member(room, undefined, options), await member(room, undefined, WEBSOCKET)];
      const seen = [];
      const done = new Promise((resolve) => receiver.on("message", (n) => seen.push(n) === count && resolve()));
      const acknowledged = [];
      const replies = Array.from({ length: count }, (_, n) =>
        ask(sender, "message", room, n).then((reply) => {
          assert.equal(reply.ok, true);
          acknowledged.push(n);
        }),
      );
      await Promise.all(replies);
      await within(done, `${count} messages`);
      const ordered = Array.from({ length: count }, (_, n) => n);
      assert.deepEqual(seen, ordered);
      assert.deepEqual(acknowledged, ordered);
      sender.disconnect();
      receiver.disconnect();
    }
  });
});
