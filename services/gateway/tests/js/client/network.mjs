// Networks that break, payloads at the limit, and upgrades under way.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { closeAll } from "../lib/cleanup.mjs";
import { ask, client, connected } from "../lib/clients.mjs";
import { TcpProxy } from "../lib/proxy.mjs";
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

describe("upgrading while joining and sending", () => {
  test("nothing is lost, doubled or reordered, in either direction", async () => {
    const CLIENTS = 25;
    const MESSAGES = 60;
    const room = newRoom();
    // A network with some delay makes the upgrade take many messages' time.
    const proxy = await TcpProxy.start(target.url, { delay: 15 });

    // Listens all the time, and talks all the time.
    const anchor = await member(room);
    const fromClients = new Map();
    anchor.on("message", (number, { from }) => fromClients.set(from, [...(fromClients.get(from) ?? []), number]));
    let talking = true;
    let said = 0;
    const talk = (async () => {
      while (talking) {
        assert.equal((await ask(anchor, "message", room, ++said)).ok, true);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    })();

    const transports = [];
    const clients = await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        const socket = client(proxy.url, DEFAULT);
        const heard = [];
        socket.on("message", (number, { from }) => from === anchor.id && heard.push(number));
        await nextEvent(socket, "connect");
        const upgrade = nextEvent(socket.io.engine, "upgrade");
        transports.push(socket.io.engine.transport.name);
        const joined = ask(socket, "join", room, { upgrading: true });
        const replies = [];
        for (let number = 0; number < MESSAGES; number++) {
          // Spread over the whole upgrade; every third carries an attachment.
          replies.push(ask(socket, "message", room, number % 3 === 0 ? [number, Buffer.from([number])] : number));
          if (number % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
        }
        assert.equal((await joined).ok, true);
        for (const reply of await Promise.all(replies)) assert.equal(reply.ok, true);
        await upgrade;
        return { socket, heard };
      }),
    );
    assert.ok(transports.every((name) => name === "polling"), "the test began before the upgrades");
    talking = false;
    await talk;
    await ask(anchor, "message", room, ++said);
    await until(() => clients.every(({ heard }) => heard.at(-1) === said), "everyone hears the last message");
    await until(() => clients.every(({ socket }) => fromClients.get(socket.id)?.length >= MESSAGES), "everything is heard");

    for (const { socket, heard } of clients) {
      // From the join to the end without a gap: the join fell somewhere into the anchor's talk.
      assert.deepEqual(heard, Array.from({ length: heard.length }, (_, i) => said - heard.length + 1 + i));
      const numbers = fromClients.get(socket.id).map((value) => {
        if (!Array.isArray(value)) return value;
        assert.deepEqual(value[1], Buffer.from([value[0]]));
        return value[0];
      });
      assert.deepEqual(numbers, Array.from({ length: MESSAGES }, (_, number) => number));
      assert.equal(socket.io.engine.transport.name, "websocket");
    }
    await closeAll();
  });
});
