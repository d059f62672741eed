// Pings with an interval that is shorter than the time-out: the server has to be started with
//   --ping-interval 300 --ping-timeout 3000
//
// REFERENCE=1 runs the same file against the npm server.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { PollingSession } from "./lib/polling.mjs";
import { startTarget } from "./lib/target.mjs";
import { HANDSHAKE as WS_HANDSHAKE, RawSocket } from "./lib/websocket.mjs";

const PING_INTERVAL = 300;
const PING_TIMEOUT = 3_000;
const ROUNDS = 8;
// Pings that come only when the time-out is over take ten times as long: a busy machine does not.
const SLOW = (ROUNDS * PING_TIMEOUT) / 3;
const EARLY = 50;

const target = await startTarget({ options: { pingInterval: PING_INTERVAL, pingTimeout: PING_TIMEOUT } });
after(async () => {
  await closeAll();
  await target.stop();
});

/** Answers the pings of ROUNDS intervals: they come one interval after each answer, not when the time-out is over. */
async function answerPings(next, answer) {
  await next();
  const begin = performance.now();
  for (let round = 0; round < ROUNDS; round++) {
    const answered = performance.now();
    await answer();
    await next();
    assert.ok(performance.now() - answered > PING_INTERVAL - EARLY, "a ping came early");
  }
  const elapsed = performance.now() - begin;
  assert.ok(elapsed < SLOW, `${ROUNDS} pings took ${elapsed} ms`);
}

describe("pings come every interval, however long the time-out", { concurrency: true }, () => {
  const nextPing = (socket) => async () => {
    while ((await socket.next("a ping")) !== "2");
  };

  test("over WebSocket", async () => {
    const socket = await RawSocket.join(target.url);
    await answerPings(nextPing(socket), () => socket.send("3"));
    socket.end();
  });

  test("over WebSocket, with other traffic before each answer", async () => {
    const socket = await RawSocket.join(target.url);
    await answerPings(nextPing(socket), () => socket.send('42["chatter"]', "3"));
    socket.end();
  });

  test("over polling", async () => {
    const session = await PollingSession.join(target.url);
    const next = async () => {
      for (;;) if ((await session.get()).body === "2") return;
    };
    await answerPings(next, () => session.post("3"));
  });

  test("after an upgrade", async () => {
    const session = await PollingSession.join(target.url);
    const socket = await RawSocket.connect(target.url, `${WS_HANDSHAKE}&sid=${session.sid}`);
    socket.send("2probe");
    await socket.until((packet) => packet === "3probe", "the answer to the probe");
    socket.send("5");
    await answerPings(nextPing(socket), () => socket.send("3"));
    socket.end();
  });

  test("a pong that nobody asked for has the next ping due an interval later", async () => {
    const socket = await RawSocket.join(target.url);
    for (let round = 0; round < 5; round++) {
      await new Promise((resolve) => setTimeout(resolve, PING_INTERVAL / 2));
      socket.send("3");
    }
    const begin = performance.now();
    await nextPing(socket)();
    assert.ok(performance.now() - begin > PING_INTERVAL - EARLY);
    socket.end();
  });
});
