// TLS that the gateway terminates itself: real clients over https and wss, trusting the authority in
// CA_FILE and nobody else.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import tls from "node:tls";
import { after, test } from "node:test";
import { WebSocket } from "ws";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, client, connected, upgraded } from "./lib/clients.mjs";
import { startTarget } from "./lib/target.mjs";
import { Inbox, nextEvent, within } from "./lib/wait.mjs";

const target = await startTarget();
const ca = readFileSync(process.env.CA_FILE);
after(closeAll);

const HANDSHAKE = "/socket.io/?EIO=4&transport=polling";

/** {status, body, headers} of a GET on a connection of its own. */
async function get(path, options = {}) {
  const answer = new Promise((resolve, reject) => {
    const request = https.get(target.url + path, { ca, agent: false, ...options });
    request.once("error", reject);
    request.once("response", (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk) => (body += chunk));
      response.once("end", () => resolve({ status: response.statusCode, body, headers: response.headers }));
    });
  });
  return within(answer, `the answer to ${path}`);
}

test("a polling handshake over https", async () => {
  const { status, body, headers } = await get(HANDSHAKE);
  assert.equal(status, 200);
  assert.match(headers["set-cookie"][0], /; Secure/);
  assert.deepEqual(JSON.parse(body.slice(1)).upgrades, ["websocket"]);
});

for (const maxVersion of ["TLSv1.2", "TLSv1.3"]) {
  test(`${maxVersion} is spoken`, async () => {
    assert.equal((await get("/peerjs/id", { maxVersion, minVersion: maxVersion })).status, 200);
  });
}

test("a client that does not know the authority is not fooled", async () => {
  await assert.rejects(get(HANDSHAKE, { ca: [] }), { code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" });
});

test("plain http is not answered as if it were https", async () => {
  const request = http.get(target.url.replace("https:", "http:") + HANDSHAKE, { agent: false });
  const failed = new Promise((resolve) => request.once("error", resolve));
  const answered = new Promise((resolve) => request.once("response", resolve));
  const outcome = await within(Promise.race([failed, answered]), "the connection ends");
  assert.ok(outcome instanceof Error, `answered ${outcome.statusCode}`);
});

const ways = {
  polling: (url, options) => connected(url, { transports: ["polling"], ...options }),
  websocket: (url, options) => connected(url, { transports: ["websocket"], ...options }),
  "the default, upgraded": upgraded,
};
for (const [name, connect] of Object.entries(ways)) {
  test(`two socket.io clients meet over ${name}`, async () => {
    const [one, other] = await Promise.all([connect(target.url, { ca }), connect(target.url, { ca })]);
    const room = `over ${name}`;
    for (const socket of [one, other]) assert.equal((await ask(socket, "join", room)).ok, true);

    const heard = nextEvent(other, "message");
    assert.equal((await ask(one, "message", room, { text: "hello" })).ok, true);
    const [data, { from }] = await heard;
    assert.deepEqual(data, { text: "hello" });
    assert.equal(from, one.id);

    // More than one TLS record, and more than a socket takes at once.
    const large = Buffer.alloc(700_000, "signalbox ");
    const arrived = nextEvent(other, "message");
    assert.equal((await ask(one, "message", room, large)).ok, true);
    assert.ok(large.equals((await arrived)[0]));

    const left = nextEvent(other, "left");
    one.disconnect();
    assert.equal((await left)[0].room, room);
  });
}

test("a socket.io client that does not know the authority is refused", async () => {
  for (const transport of ["polling", "websocket"]) {
    await nextEvent(client(target.url, { transports: [transport] }), "connect_error");
  }
});

/** A PeerServer client that has its OPEN. */
async function peer(id) {
  const url = `${target.url.replace("https:", "wss:")}/peerjs?key=peerjs&id=${id}&token=t&version=1.5.5`;
  const socket = new WebSocket(url, { ca });
  onEnd(() => socket.terminate());
  const inbox = new Inbox(id);
  socket.on("message", (data) => inbox.push(JSON.parse(data)));
  socket.on("error", (error) => inbox.push(error));
  assert.deepEqual(await inbox.next("OPEN"), { type: "OPEN" });
  return { socket, inbox };
}

test("two peers exchange an offer and an answer over wss", async () => {
  const [one, other] = [await peer("one"), await peer("other")];
  one.socket.send(JSON.stringify({ type: "OFFER", dst: "other", payload: { sdp: "x".repeat(100_000) } }));
  const offer = await other.inbox.next("the offer");
  assert.deepEqual([offer.type, offer.src, offer.payload.sdp.length], ["OFFER", "one", 100_000]);
  other.socket.send(JSON.stringify({ type: "ANSWER", dst: "one", payload: 1 }));
  assert.deepEqual(await one.inbox.next("the answer"), { type: "ANSWER", src: "other", dst: "one", payload: 1 });
});

test("the command line listens over https, where the system trusts the authority", async () => {
  const [key, cert] = ["key.pem", "cert.pem"].map((name) => readFileSync(path.join(path.dirname(process.env.CA_FILE), name)));
  const { hostname, port } = new URL(process.env.ADMIN_URL);
  const proxy = tls.createServer({ key, cert }, (from) => {
    const to = net.connect(Number(port), hostname);
    from.on("error", () => to.destroy()).pipe(to).on("error", () => from.destroy()).pipe(from);
  });
  await once(proxy.on("tlsClientError", () => {}).listen(0, "127.0.0.1"), "listening");
  onEnd(() => proxy.close());
  const tail = (authority) => {
    const flags = ["admin", "tail", "--json", "--url", `https://localhost:${proxy.address().port}`];
    const child = spawn(process.env.GATEWAY_BIN, flags, { env: { ...process.env, SSL_CERT_FILE: authority }, stdio: ["ignore", "pipe", "pipe"] });
    onEnd(() => child.kill("SIGKILL"));
    return child;
  };

  const told = new Inbox("admin tail");
  createInterface({ input: tail(process.env.CA_FILE).stdout }).on("line", (line) => told.push(JSON.parse(line)));
  // Whoever comes before it listens is not told of.
  const coming = setInterval(() => connected(target.url, { transports: ["websocket"], ca }).then((socket) => socket.disconnect()), 500);
  try {
    assert.equal((await told.next("an event")).nodeName.length > 0, true);
  } finally {
    clearInterval(coming);
  }

  const stranger = tail(path.join(path.dirname(process.env.CA_FILE), "nonsense.pem"));
  const [[line], [code]] = await Promise.all([nextEvent(createInterface({ input: stranger.stderr }), "line"), nextEvent(stranger, "exit")]);
  assert.match(line, /^signalbox-gateway: https:\/\/localhost:\d+\/admin\/v1 cannot be asked \(--url\): invalid peer certificate: UnknownIssuer/);
  assert.equal(code, 1);
});
