// What the server does when time passes: heartbeats, a client that no longer answers, an upgrade that
// is never completed, a connection that joins no namespace. With the default 20 to 45 seconds this
// would take minutes, so the server has to be started with
//   --ping-interval 500 --ping-timeout 700 --upgrade-timeout 600 --connect-timeout 900
// Only outcomes and their order are asserted: never that something was fast.
//
// REFERENCE=1 runs the same file against the npm server.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { PollingSession, split } from "./lib/polling.mjs";
import { startTarget } from "./lib/target.mjs";
import { DEADLINE } from "./lib/wait.mjs";
import { HANDSHAKE as WS_HANDSHAKE, RawSocket } from "./lib/websocket.mjs";

const PING_INTERVAL = 500;
const PING_TIMEOUT = 700;
const CONNECT_TIMEOUT = 900;

const target = await startTarget({
  options: { pingInterval: PING_INTERVAL, pingTimeout: PING_TIMEOUT, upgradeTimeout: 600, connectTimeout: CONNECT_TIMEOUT },
});
after(async () => {
  await closeAll();
  await target.stop();
});

const elapsed = (begin) => performance.now() - begin;
// Timers of two processes: the client's clock may start a little after the server's.
const EARLY = 50;

test("the server was started with the intervals of this file", async () => {
  const { handshake } = await PollingSession.open(target.url);
  assert.deepEqual([handshake.pingInterval, handshake.pingTimeout], [PING_INTERVAL, PING_TIMEOUT]);
});

describe("heartbeats over WebSocket", { concurrency: true }, () => {
  test("the server pings, a client that answers stays", async () => {
    const socket = await RawSocket.join(target.url);
    for (let round = 0; round < 4; round++) {
      const begin = performance.now();
      assert.equal(await socket.next("a ping"), "2");
      if (round > 0) assert.ok(elapsed(begin) > PING_INTERVAL - EARLY, "the interval counts from the pong");
      socket.send("3");
    }
    await socket.expectAlive();
    socket.end();
  });

  test("a client that does not answer is closed", async () => {
    const begin = performance.now();
    const socket = await RawSocket.open(target.url);
    socket.send("40");
    const seen = [await socket.next("the CONNECT reply"), await socket.next("a ping")];
    assert.equal(seen[1], "2");
    assert.equal(await socket.closeCode(), 1005);
    assert.ok(elapsed(begin) > PING_INTERVAL + PING_TIMEOUT - EARLY);
  });

  test("other traffic does not postpone the ping", async () => {
    const socket = await RawSocket.join(target.url);
    const begin = performance.now();
    let acknowledged = 0;
    for (;;) {
      assert.ok(elapsed(begin) < DEADLINE, "no ping came");
      socket.send('421["chatter"]');
      const packet = await socket.next("an acknowledgement or a ping");
      if (packet === "2") break;
      acknowledged += 1;
    }
    assert.ok(acknowledged > 0);
    socket.end();
  });

  test("an unsolicited pong is accepted", async () => {
    const socket = await RawSocket.join(target.url);
    socket.send("3");
    await socket.expectAlive();
    assert.equal(await socket.next("a ping"), "2");
    socket.send("3");
    await socket.expectAlive();
    socket.end();
  });
});

describe("heartbeats over polling", { concurrency: true }, () => {
  test("the server pings through the poll, a client that answers stays", async () => {
    const session = await PollingSession.join(target.url);
    for (let round = 0; round < 4; round++) {
      assert.equal((await session.get()).body, "2");
      assert.equal((await session.post("3")).body, "ok");
    }
    await session.expectAlive();
  });

  test("a ping waits for the next poll, in its place", async () => {
    const session = await PollingSession.join(target.url);
    const other = await PollingSession.join(target.url);
    // The other session hears its ping, so this one's is waiting as well: it was opened before.
    assert.equal((await other.get()).body, "2");
    await session.post('421["behind"]');
    const [first, second] = split((await session.get()).body);
    assert.equal(first, "2");
    assert.match(second, /^431\[/);
  });

  test("a client that does not answer is gone, its waiting GET is released", async () => {
    const session = await PollingSession.join(target.url);
    assert.equal((await session.get()).body, "2");
    const waiting = await session.get();
    assert.deepEqual([waiting.status, waiting.body], [200, "1"]);
    const reply = await session.get();
    assert.deepEqual([reply.status, reply.body], [400, '{"code":1,"message":"Session ID unknown"}']);
  });

  test("a client that does not poll is gone", async () => {
    const session = await PollingSession.join(target.url);
    // Being silent is the client's part here.
    await new Promise((resolve) => setTimeout(resolve, 2 * (PING_INTERVAL + PING_TIMEOUT)));
    const reply = await session.post('42["late"]');
    assert.deepEqual([reply.status, reply.body], [400, '{"code":1,"message":"Session ID unknown"}']);
  });
});

describe("an upgrade that is not completed", { concurrency: true }, () => {
  for (const [name, frames] of [["never probed", []], ["probed, and no more", ["2probe"]]]) {
    test(`${name}: the WebSocket is closed, the polling session survives`, async () => {
      const session = await PollingSession.join(target.url);
      const socket = await RawSocket.connect(target.url, `${WS_HANDSHAKE}&sid=${session.sid}`);
      socket.send(...frames);
      // A polling client goes on polling and answering heartbeats meanwhile.
      const closed = socket.closeCode();
      while (!socket.isClosed) {
        await session.post('421["meanwhile"]');
        await session.poll((packet) => packet.startsWith("431["), "an acknowledgement");
        await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 50))]);
      }
      assert.equal(await closed, 1005);
      await session.expectAlive();
      // The session can still upgrade.
      const again = await RawSocket.connect(target.url, `${WS_HANDSHAKE}&sid=${session.sid}`);
      again.send("2probe");
      assert.equal(await again.next("the answer to the probe"), "3probe");
      again.send("5");
      await again.expectAlive();
      again.end();
    });
  }

  test("heartbeats go on after an upgrade", async () => {
    const session = await PollingSession.join(target.url);
    const socket = await RawSocket.connect(target.url, `${WS_HANDSHAKE}&sid=${session.sid}`);
    socket.send("2probe");
    await socket.until((packet) => packet === "3probe", "the answer to the probe");
    socket.send("5");
    for (let round = 0; round < 3; round++) {
      assert.equal(await socket.next("a ping"), "2");
      socket.send("3");
    }
    await socket.expectAlive();
    assert.equal(await socket.closeCode(), 1005, "and so does the timeout");
  });
});

describe("a connection that joins no namespace", { concurrency: true }, () => {
  /** Answers heartbeats until the server closes; resolves with the close code. */
  async function closeCodeWhileAnswering(socket) {
    while (!socket.isClosed) {
      const packet = await socket.next("a ping").catch(() => undefined);
      if (packet === "2") socket.send("3");
    }
    return socket.closeCode();
  }

  test("is closed although it answers heartbeats", async () => {
    const begin = performance.now();
    const socket = await RawSocket.open(target.url);
    assert.equal(await closeCodeWhileAnswering(socket), 1005);
    assert.ok(elapsed(begin) > CONNECT_TIMEOUT - EARLY);
  });

  test("is closed as well when the namespace was refused", async () => {
    const socket = await RawSocket.open(target.url);
    socket.send("40/nowhere,");
    assert.match(await socket.next("the CONNECT_ERROR"), /^44\/nowhere,/);
    assert.equal(await closeCodeWhileAnswering(socket), 1005);
  });

  test("is told so over polling", async () => {
    const session = await PollingSession.open(target.url);
    const seen = [];
    for (;;) {
      const reply = await session.get();
      if (reply.status !== 200) break;
      seen.push(...split(reply.body));
      if (seen.at(-1) === "2") await session.post("3");
    }
    assert.equal(seen.at(-1), "1");
  });

  test("stays once it has joined, even when it has left again", async () => {
    const begin = performance.now();
    const socket = await RawSocket.join(target.url);
    socket.send("41");
    while (elapsed(begin) < 2 * CONNECT_TIMEOUT) {
      assert.equal(await socket.next("a ping"), "2");
      socket.send("3");
    }
    socket.send("40");
    await socket.until((packet) => packet.startsWith("40{"), "the CONNECT reply");
    await socket.expectAlive();
    socket.end();
  });
});
