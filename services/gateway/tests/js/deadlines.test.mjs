// Requests for sessions that have let a deadline pass. The server has to be started with
//   --ping-interval 300 --ping-timeout 200
//
// REFERENCE=1 runs the same file against the npm server.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { PollingSession } from "./lib/polling.mjs";
import { startTarget } from "./lib/target.mjs";

const PING_INTERVAL = 300;
const PING_TIMEOUT = 200;
const SESSIONS = 60;

const target = await startTarget({ options: { pingInterval: PING_INTERVAL, pingTimeout: PING_TIMEOUT } });
after(async () => {
  await closeAll();
  await target.stop();
});

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));

test("a session is over as soon as its deadline has passed", async () => {
  // The handshake is answered a little after the deadline began to count, so every one of these is late.
  const late = await Promise.all(
    Array.from({ length: SESSIONS }, async () => {
      const session = await PollingSession.open(target.url);
      await sleep(PING_INTERVAL + PING_TIMEOUT);
      return (await session.post("3")).status;
    }),
  );
  // The npm server has timers of whole milliseconds, and lets a few through.
  const answered = late.filter((status) => status === 200).length;
  assert.ok(answered <= SESSIONS / 10, `${answered} of ${SESSIONS} sessions were still served`);
});

test("a session whose client answers in time goes on", async () => {
  const session = await PollingSession.join(target.url);
  for (let round = 0; round < 5; round++) {
    await session.poll((packet) => packet === "2", "a ping");
  }
  await session.expectAlive();
});
