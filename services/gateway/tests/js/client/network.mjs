// Networks that break, payloads at the limit, and upgrades under way.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { closeAll } from "../lib/cleanup.mjs";
import { ask, connected } from "../lib/clients.mjs";
import { TcpProxy } from "../lib/proxy.mjs";
import { upgradeWhileTalking } from "../lib/upgrading.mjs";
import { nextEvent, until, within } from "../lib/wait.mjs";
import { DEFAULT, hear, LIMIT, member, newRoom, POLLING, settle, target, tooLargeOverPolling, TRANSPORTS, WEBSOCKET } from "./setup.mjs";

describe("a network that fails", () => {
  for (const [name, options] of TRANSPORTS) {
    test(`the client comes back by itself, over ${name}`, async () => {
      const room = newRoom();
      const proxy = await TcpProxy.start(target.url);
      const watcher = await member(room);
      const heard = hear(watcher);
      const socket = await connected(proxy.url, { ...options, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
      const ids = [];
      for (const life of [0, 1, 2]) {
        if (life > 0) {
          const [ended, back] = [nextEvent(socket, "disconnect"), nextEvent(socket, "connect")];
          await proxy.cutWhenQuiet();
          const [reason] = await ended;
          assert.ok(["transport close", "transport error"].includes(reason), reason);
          await back;
          assert.ok(!socket.recovered);
        }
        await ask(socket, "join", room, { life });
        ids.push(socket.id);
        // In the middle of an upgrade there may be no request that the server could miss.
        if (options === DEFAULT) await until(() => socket.io.engine.transport.name === "websocket", "the upgrade");
      }
      assert.equal(new Set(ids).size, 3);
      socket.disconnect();
      // The server may notice a broken connection only after its client is back.
      await until(() => heard.filter(([event]) => event === "left").length >= ids.length, "every farewell");
      await settle(room, heard);
      const lives = [0, 1, 2].map((life) => heard.filter(([, detail]) => detail.life === life));
      assert.deepEqual(lives, ids.map((id, life) => [["joined", { id, room, life }], ["left", { id, room, life }]]));
      await proxy.stop();
      watcher.disconnect();
    });
  }

  test("an acknowledgement that does not come in time is an error, one that is late is dropped", async () => {
    const proxy = await TcpProxy.start(target.url);
    const socket = await connected(proxy.url, WEBSOCKET);
    proxy.freeze();
    await assert.rejects(socket.timeout(200).emitWithAck("users"), /operation has timed out/);
    proxy.thaw();
    assert.equal((await within(socket.timeout(20_000).emitWithAck("users"), "an acknowledgement")).ok, true);
    assert.equal(socket.connected, true);
    socket.disconnect();
    await proxy.stop();
  });
});

describe("large payloads", () => {
  for (const [name, options, largest] of [
    ["WebSocket", WEBSOCKET, LIMIT],
    // Base64 makes four characters of three bytes.
    ["polling", POLLING, Math.floor((LIMIT - 100) * 0.75)],
  ]) {
    test(`up to the limit pass in both directions, over ${name}`, async () => {
      const room = newRoom();
      const [sender, receiver] = [await member(room, undefined, options), await member(room, undefined, options)];
      for (const value of ["x".repeat(LIMIT - 200), "é".repeat(LIMIT / 2 - 200), Buffer.alloc(largest, 7)]) {
        const arrived = nextEvent(receiver, "message");
        assert.equal((await ask(sender, "message", room, value)).ok, true);
        const [data, detail] = await arrived;
        assert.equal(data.length, value.length);
        assert.ok(typeof value === "string" ? data === value : value.equals(data));
        assert.deepEqual(detail, { room, from: sender.id });
      }
      sender.disconnect();
      receiver.disconnect();
    });
  }

  for (const [name, options, value, check] of [
    ["text over WebSocket", WEBSOCKET, "x".repeat(LIMIT), ([reason, { context }]) => assert.deepEqual([reason, context.code], ["transport close", 1009])],
    ["binary over WebSocket", WEBSOCKET, Buffer.alloc(LIMIT + 1), ([reason, { context }]) => assert.deepEqual([reason, context.code], ["transport close", 1009])],
    ["text over polling", POLLING, "x".repeat(LIMIT), tooLargeOverPolling],
  ]) {
    test(`over the limit end the sender's connection, ${name}; nobody gets them, and it comes back`, async () => {
      const room = newRoom();
      const receiver = await member(room);
      const heard = hear(receiver);
      const sender = await member(room, undefined, { ...options, reconnection: true, reconnectionDelay: 20 });
      const { id } = sender;
      const ended = nextEvent(sender, "disconnect");
      sender.emit("message", room, value);
      check(await ended);
      await nextEvent(sender, "connect");
      assert.notEqual(sender.id, id);
      await until(async () => !(await ask(receiver, "members", room)).members.some((member) => member.id === id), "the old socket has left");
      await settle(room, heard);
      assert.deepEqual(heard, [["joined", { id, room }], ["left", { id, room }]]);
      sender.disconnect();
      receiver.disconnect();
    });
  }
});

test("upgrading while joining and sending: nothing is lost, doubled or reordered, in either direction", async () => {
  await upgradeWhileTalking(target.url);
  await closeAll();
});
