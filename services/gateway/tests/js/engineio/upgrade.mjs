// From polling to WebSocket: the probe, the noop, the upgrade packet, and everything that can go wrong.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { frame } from "../lib/frames.mjs";
import { packets, PollingSession } from "../lib/polling.mjs";
import { deferred, until, within } from "../lib/wait.mjs";
import { HANDSHAKE as WS_HANDSHAKE, RawSocket } from "../lib/websocket.mjs";
import { target, waitingGet } from "./setup.mjs";

describe("the upgrade", () => {
  const upgradePath = (session) => `${WS_HANDSHAKE}&sid=${session.sid}`;

  /** A WebSocket that has been probed, while the session still polls. */
  async function probed(session) {
    const socket = await RawSocket.connect(target.url, upgradePath(session));
    socket.send("2probe");
    assert.equal(await socket.next("the answer to the probe"), "3probe");
    return socket;
  }

  async function complete(session) {
    const socket = await probed(session);
    socket.send("5");
    await socket.expectAlive();
    return socket;
  }

  test("releases the waiting GET with a noop, and every later one until it is complete", async () => {
    const session = await PollingSession.join(target.url);
    const waiting = await waitingGet(session);
    const socket = await probed(session);
    assert.equal((await waiting.reply).body, "6");
    assert.equal((await session.get()).body, "6");
    assert.equal((await session.get()).body, "6");
    socket.send("5");
    await socket.expectAlive();
    socket.end();
  });

  test("data goes through the poll before the upgrade packet, through the WebSocket after it", async () => {
    const session = await PollingSession.join(target.url);
    const socket = await probed(session);
    await session.post('421["early"]');
    await session.poll((packet) => packet.startsWith("431["), "the early acknowledgement");
    socket.send("5", '422["late"]');
    // Nothing but the answer to the probe was sent here before.
    assert.match(await socket.next("the late acknowledgement"), /^432\[/);
    socket.end();
  });

  test("what waits for a poll is sent through the WebSocket, once and in order", async () => {
    const session = await PollingSession.join(target.url);
    const socket = await probed(session);
    await session.post(packets('421["a"]', '422["b"]', '423["c"]'));
    socket.send("5", '424["d"]');
    for (const id of [1, 2, 3, 4]) assert.ok((await socket.next(`acknowledgement ${id}`)).startsWith(`43${id}[`));
    await socket.expectAlive();
    socket.end();
  });

  test("a half-received packet survives it", async () => {
    const session = await PollingSession.join(target.url);
    await session.post('451-7["attach",{"_placeholder":true,"num":0}]');
    const socket = await probed(session);
    socket.send("5", Buffer.from([1, 2, 3]));
    assert.match(await socket.next("the acknowledgement"), /^437\[/);
    socket.end();
  });

  test("afterwards polling requests of the session are refused, and it goes on", async () => {
    const session = await PollingSession.join(target.url);
    const socket = await complete(session);
    assert.equal((await session.get()).status, 400);
    assert.equal((await session.post("43[]")).status, 400);
    await socket.expectAlive();
    socket.end();
  });

  test("a second WebSocket during or after it is closed at once, and the first is not disturbed", async () => {
    const session = await PollingSession.join(target.url);
    const first = await probed(session);
    const during = await RawSocket.connect(target.url, upgradePath(session));
    assert.equal(await during.closeCode(), 1005);
    first.send("5");
    await first.expectAlive();
    const afterwards = await RawSocket.connect(target.url, upgradePath(session));
    assert.equal(await afterwards.closeCode(), 1005);
    await first.expectAlive();
    first.end();
  });

  test("a WebSocket for a session that started on WebSocket", async () => {
    const first = await RawSocket.join(target.url);
    const second = await RawSocket.connect(target.url, `${WS_HANDSHAKE}&sid=${first.handshake.sid}`);
    // Whether or not it may probe, it must not disturb the one that is in use.
    second.end();
    await first.expectAlive();
    first.end();
  });

  for (const [name, frames] of [
    ["a message instead of the probe", ['42["a"]']],
    ["an upgrade without a probe of the right text", ["2"]],
    ["a pong", ["3"]],
    ["a binary frame", [Buffer.from([1])]],
    ["no packet at all", ["abc"]],
    ["a message after the probe", ["2probe", '42["a"]']],
  ]) {
    test(`${name} closes the WebSocket; the polling session survives and can upgrade again`, async () => {
      const session = await PollingSession.join(target.url);
      const socket = await RawSocket.connect(target.url, upgradePath(session));
      socket.send(...frames);
      assert.equal(await socket.closeCode(), 1005);
      await session.expectAlive();
      (await complete(session)).end();
    });
  }

  test("a WebSocket that breaks during the probe leaves the polling session alone", async () => {
    const session = await PollingSession.join(target.url);
    const socket = await probed(session);
    socket.end();
    await session.expectAlive();
    // The server may notice the broken connection only later; until then it refuses another one.
    await within(
      (async () => {
        for (;;) {
          const again = await RawSocket.connect(target.url, upgradePath(session));
          again.send("2probe");
          const answered = deferred();
          again.next("the answer to the probe").then(answered.resolve, () => answered.resolve("closed"));
          if ((await answered.promise) === "3probe") return again.end();
        }
      })(),
      "a new probe is answered",
    );
    await session.expectAlive();
  });

  test("a session that ends takes its probing WebSocket with it", async () => {
    const session = await PollingSession.join(target.url);
    const socket = await probed(session);
    await session.post("abc");
    assert.equal(await socket.closeCode(), 1005);
  });
});
