// Requests that end otherwise than with their answer: refused upgrades, and GETs and POSTs whose client goes
// away before the session's owner, on another worker, has looked at them.
import assert from "node:assert/strict";
import net from "node:net";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { onEnd } from "../lib/cleanup.mjs";
import { exchange, upgradeRequest } from "../lib/frames.mjs";
import { withGateway } from "../lib/peer-harness.mjs";
import { packets, PollingSession } from "../lib/polling.mjs";
import { until } from "../lib/wait.mjs";
import { HANDSHAKE, RawSocket } from "../lib/websocket.mjs";
import { connections, TWO_WORKERS, waitingBytes } from "./setup.mjs";

test("a refused upgrade leaves nothing on the memory budget", async () => {
  await withGateway(TWO_WORKERS, async (url, gateway) => {
    const gone = await PollingSession.open(url);
    assert.equal((await gone.post("1")).body, "ok");
    const upgrading = await PollingSession.open(url);
    const probe = await RawSocket.connect(url, `${HANDSHAKE}&sid=${upgrading.sid}`);
    for (const { sid } of [gone, upgrading]) {
      for (let i = 0; i < 8; i++) {
        const reply = await exchange(url, upgradeRequest(url, `${HANDSHAKE}&sid=${sid}`));
        assert.match(reply, /^HTTP\/1\.1 (400|101) /);
      }
    }
    probe.end();
    await until(async () => (await waitingBytes(gateway)) === 0, "nothing waits any more");
  });
});

const GIVEN_UP = [
  ["GET", ""],
  ["POST", "Content-Length: 10\r\n"],
];
for (const [method, headers] of GIVEN_UP) {
  test(`a ${method} that is given up while the session's owner is busy ends the session`, async () => {
    await withGateway(TWO_WORKERS, async (url, gateway) => {
      const busy = await PollingSession.join(url);
      await busy.post('42["join","room"]');
      // Both workers own some, and take some of the requests.
      const sessions = await Promise.all(Array.from({ length: 24 }, () => PollingSession.join(url)));

      const batch = busy.post(packets(...Array(40_000).fill('42["message","room",1]'))).catch((error) => error);
      // Begun on the server, most likely; the sessions must end in any case.
      await pause(100);
      const { hostname, port, host } = new URL(url);
      const givenUp = sessions.map(({ path }) => {
        const socket = net.connect(Number(port), hostname);
        onEnd(() => socket.destroy());
        socket.on("error", () => {});
        socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${headers}\r\n`);
        return socket;
      });
      await pause(100);
      for (const socket of givenUp) socket.destroy();

      assert.equal((await batch).body, "ok");
      await until(async () => (await connections(gateway, "socketio", "polling")) === 1, "only the busy session is left");
      for (const session of sessions) assert.equal((await session.post("3")).status, 400);
    });
  });
}
