// A certificate that is renewed while the gateway runs. TLS_DIR has the files that it was started with, and in `next/` those of another
// authority, which are put in their place.
import assert from "node:assert/strict";
import { copyFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import https from "node:https";
import path from "node:path";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { closeAll } from "./lib/cleanup.mjs";
import { ask, connected } from "./lib/clients.mjs";
import { startTarget } from "./lib/target.mjs";
import { until, within } from "./lib/wait.mjs";

const target = await startTarget();
const folder = process.env.TLS_DIR;
const [old, next] = ["", "next"].map((name) => readFileSync(path.join(folder, name, "ca.pem")));
// The gateway looks at its files every five seconds.
const NOTICED_MS = 6_000;
after(closeAll);

/** Whether a new connection is shown a certificate of this authority, and not of the other. */
function vouches(ca) {
  const shown = new Promise((resolve, reject) => {
    const request = https.get(`${target.url}/peerjs/id`, { ca, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    // Both authorities have the same name.
    request.once("error", (error) => (error.code === "CERT_SIGNATURE_FAILURE" ? resolve(false) : reject(error)));
  });
  return within(shown, "a handshake");
}

const replace = (name) => copyFile(path.join(folder, "next", name), path.join(folder, name));

test("new connections are shown a renewed certificate once it is complete, and old ones go on", async () => {
  const socket = await connected(target.url, { transports: ["websocket"], ca: old });
  assert.deepEqual([await vouches(old), await vouches(next)], [true, false]);

  // Half of a renewal changes nothing.
  await replace("cert.pem");
  await pause(NOTICED_MS);
  assert.deepEqual([await vouches(old), await vouches(next)], [true, false]);

  await replace("key.pem");
  await until(() => vouches(next), "the new certificate is shown");
  assert.equal(await vouches(old), false, "the old one is not");
  const later = await connected(target.url, { transports: ["websocket"], ca: next });
  for (const one of [socket, later]) assert.equal((await ask(one, "join", "renewed")).ok, true);
  assert.equal((await ask(socket, "members", "renewed")).members.length, 2);
});
