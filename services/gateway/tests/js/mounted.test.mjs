// A node that is mounted in an App of somebody's own (crates/node/examples/mounted.rs): the application's route, socket.io-client over each
// transport, raw PeerServer clients, and peerjs in Chromium. GATEWAY_URL: the example.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, test } from "node:test";
import { Browser, ORIGIN } from "./chromium.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, client, connected, record, upgraded } from "./lib/clients.mjs";
import { request } from "./lib/http.mjs";
import { PeerSocket, socketUrl } from "./lib/peer-socket.mjs";
import { startTarget } from "./lib/target.mjs";
import { nextEvent, until, within } from "./lib/wait.mjs";
import { RawSocket } from "./lib/websocket.mjs";

const { url } = await startTarget();
after(closeAll);

test("the application's own routes are its own, and what nobody serves is not found", async () => {
  const { status, body } = await request(url, "GET", "/hello");
  assert.deepEqual([status, body], [200, "hello from the application\n"]);
  for (const nowhere of ["/", "/nowhere", "/users/id"]) assert.equal((await request(url, "GET", nowhere)).status, 404, nowhere);
});

const ways = {
  polling: (options) => connected(url, { transports: ["polling"], ...options }),
  websocket: (options) => connected(url, { transports: ["websocket"], ...options }),
  "the default, upgraded": (options) => upgraded(url, options),
};
for (const [name, connect] of Object.entries(ways)) {
  test(`two socket.io clients meet over ${name}, in order, whatever they send`, async () => {
    const [one, other] = await Promise.all([connect(), connect()]);
    for (const socket of [one, other]) assert.equal((await ask(socket, "join", `over ${name}`)).ok, true);
    const heard = record(other, "message");
    const said = [{ text: "hello" }, Buffer.alloc(700_000, "signalbox "), "", "\u{1F980}", Buffer.alloc(0), ...Array.from({ length: 200 }, (_, index) => index)];
    for (const what of said) one.emit("message", `over ${name}`, what);
    await until(() => heard.length === said.length, "everything that was said");
    assert.deepEqual(heard.map(([what]) => what), said);
    const left = nextEvent(other, "left");
    one.disconnect();
    assert.equal((await left)[0].id.length, 20);
  });
}

test("a client may send fragments, is answered its pings, and ends as the protocol has it", async () => {
  const socket = await RawSocket.join(url);
  socket.send('420["join","room"]');
  assert.match(await socket.next("the answer"), /^430\[\{"ok":true/);
  socket.ws.send('421["message",', { fin: false });
  socket.ws.send('"room",1]', { fin: true });
  assert.match(await socket.next("the answer"), /^431\[\{"ok":true/);
  const pong = new Promise((resolve) => socket.ws.once("pong", resolve));
  socket.ws.ping("are you there");
  assert.equal(String(await within(pong, "the pong")), "are you there");
  socket.send("41");
  socket.send("1");
  await within(socket.closed, "the end");
});

test("too large a message ends its sender, and nobody else", async () => {
  const [one, other] = [await connected(url, { transports: ["websocket"] }), await connected(url, { transports: ["websocket"] })];
  one.emit("message", "nowhere", "x".repeat(1_200_000));
  await nextEvent(one, "disconnect");
  assert.equal((await ask(other, "join", "room")).ok, true);
});

test("a client that reads nothing is cut off, and its neighbours hear everything", async () => {
  const [speaker, listener] = await Promise.all([1, 2].map(() => connected(url, { transports: ["websocket"] })));
  const deaf = await RawSocket.join(url);
  deaf.send('420["join","crowd"]');
  await deaf.next("the answer");
  deaf.ws._socket.pause();
  for (const socket of [speaker, listener]) assert.equal((await ask(socket, "join", "crowd")).ok, true);
  const gone = nextEvent(listener, "left");
  const heard = record(listener, "message");
  let said = 0;
  for (; said < 60; said += 1) assert.equal((await ask(speaker, "message", "crowd", "x".repeat(400_000))).ok, true);
  await gone;
  await until(() => heard.length === said, "everything that was said");
});

test("PeerServer clients find each other", async () => {
  const { body } = await request(url, "GET", "/peerjs/id");
  assert.match(body, /^[0-9a-f-]{36}$/);
  const dial = async (id, token = id) => {
    const socket = new PeerSocket(socketUrl(url, { key: "peerjs", id, token }));
    onEnd(() => socket.terminate());
    await socket.until(() => socket.messages.length > 0);
    return socket;
  };
  const [ann, bob] = [await dial("ann"), await dial("bob")];
  for (const peer of [ann, bob]) assert.equal(peer.messages[0].type, "OPEN");
  assert.equal((await dial("ann", "another")).messages[0].type, "ID-TAKEN");
  ann.send({ type: "OFFER", dst: "bob", payload: { sdp: "v=0" } });
  await bob.until(() => bob.messages.length > 1);
  assert.deepEqual(bob.messages[1], { type: "OFFER", src: "ann", dst: "bob", payload: { sdp: "v=0" } });
});

test("peerjs in Chromium opens a data connection", async () => {
  const peerjs = path.join(path.dirname(createRequire(import.meta.url).resolve("peerjs")), "peerjs.min.js");
  const bundle = await readFile(peerjs, "utf8");
  const browser = await Browser.launch();
  onEnd(() => browser.close());
  const page = await browser.page({
    prepare: (page) => page.route(`${ORIGIN}/page`, (route) => route.fulfill({ contentType: "text/html", body: `<!doctype html><title>peers</title><script>${bundle}</script>` })),
  });
  await page.goto(`${ORIGIN}/page`);
  const said = await page.evaluate(async () => {
    const options = { host: location.hostname, port: Number(location.port), config: { iceServers: [] } };
    const open = () => new Promise((resolve, reject) => {
      const peer = new window.Peer(options);
      peer.on("open", () => resolve(peer));
      peer.on("error", reject);
    });
    const [one, other] = await Promise.all([open(), open()]);
    const heard = new Promise((resolve) => other.on("connection", (connection) => connection.on("data", resolve)));
    const connection = one.connect(other.id);
    connection.on("open", () => connection.send("hello, peer"));
    return heard;
  });
  assert.equal(said, "hello, peer");
});

test("a client that is not let in is told so", async () => {
  for (const [target, status] of [["/socket.io/?EIO=3&transport=websocket", 400], ["/socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA", 400]]) {
    await assert.rejects(RawSocket.connect(url, target), new RegExp(`${status}`));
  }
  const socket = client(url, { path: "/nowhere/" });
  await nextEvent(socket, "connect_error");
});
