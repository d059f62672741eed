// HTTP/2 is not spoken: a connection carries one request at a time, so that what a client may have under way is bounded by its
// connections. Who insists on HTTP/2 learns it from the handshake, who offers both gets HTTP/1.1.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import { after, test } from "node:test";
import tls from "node:tls";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { startTarget } from "./lib/target.mjs";
import { within } from "./lib/wait.mjs";

const target = await startTarget();
const ca = readFileSync(process.env.CA_FILE);
const { hostname: host, port } = new URL(target.url);
after(closeAll);

/** A TLS connection that offers these protocols; rejects when the handshake fails. */
async function connect(protocols) {
  const socket = tls.connect({ host, port, ca, ALPNProtocols: protocols });
  onEnd(() => socket.destroy());
  const ready = new Promise((resolve, reject) => {
    socket.once("secureConnect", () => resolve(socket));
    socket.once("error", reject);
  });
  return within(ready, "the handshake");
}

/** What the server says until it ends the connection. */
async function said(socket) {
  let text = "";
  socket.setEncoding("latin1").on("data", (chunk) => (text += chunk));
  socket.on("error", () => {});
  await within(new Promise((resolve) => socket.once("close", resolve)), "the end of the connection");
  return text;
}

test("a client that speaks nothing but HTTP/2 is refused in the handshake", async () => {
  const session = http2.connect(target.url, { ca });
  onEnd(() => session.destroy());
  const error = await within(new Promise((resolve) => session.once("error", resolve)), "the refusal");
  assert.equal(error.code, "ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL");
});

test("a client that offers both speaks HTTP/1.1", async () => {
  const socket = await connect(["h2", "http/1.1"]);
  assert.equal(socket.alpnProtocol, "http/1.1");
  socket.write(`GET /peerjs/id HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  assert.match(await said(socket), /^HTTP\/1\.1 200 /);
});

for (const protocols of [undefined, ["http/1.1"]]) {
  test(`HTTP/2 that was not agreed on is no request (offered: ${protocols ?? "nothing"})`, async () => {
    const socket = await connect(protocols);
    // The preface, and settings that allow what HTTP/2 allows.
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    assert.match(await said(socket), /^HTTP\/1\.1 400 [^]*$/);
  });
}
