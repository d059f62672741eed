// Two people, then six, meet in the demo: everything it offers, over peerjs and socket.io-client as npm has them. Of a cluster each
// gets the next node.
// What is awaited is `window.signalboxDemo`, the page's own account of itself (demo/state.js).

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { Browser, ORIGINS, videoPlays } from "./chromium.mjs";

const VIEWPORT = { width: 1400, height: 900 };
const ROOM = "design review";
const LIMIT = { timeout: 40_000 };
const FILE_PATIENCE_MS = 35_000;
const FILE_BYTES = 50 * 1000 * 1000;

let browser;
let folder;
let arrivals = 0;
before(async () => {
  browser = await Browser.launch();
  folder = await mkdtemp(path.join(tmpdir(), "signalbox-demo-"));
});
after(async () => {
  await browser?.close();
  if (folder) await rm(folder, { recursive: true });
});

/** Opens the demo and enters the lobby as `name`. */
async function arrive(name) {
  const page = await browser.page({ viewport: VIEWPORT });
  arrivals += 1;
  await page.goto(`${ORIGINS[arrivals % ORIGINS.length]}/demo/`);
  await page.fill("#name", name);
  await page.click("#enter-button");
  await Browser.until(page, () => signalboxDemo.view === "lobby" && signalboxDemo.peerOpen, null, `${name} is in the lobby`);
  return { name, page, peerId: await page.evaluate(() => signalboxDemo.peerId) };
}

async function enterRoom({ page }) {
  await page.locator(`[data-room="${ROOM}"] button`).click();
  await Browser.until(page, () => signalboxDemo.view === "room", null, "the room is shown");
}

async function linkedTo({ page, name }, others) {
  const ids = others.map(({ peerId }) => peerId).sort();
  await Browser.until(page, (expected) => {
    const open = signalboxDemo.members.filter(({ link }) => link === "open").map(({ peerId }) => peerId);
    return JSON.stringify(open.sort()) === JSON.stringify(expected);
  }, ids, `${name} is linked to ${ids.length} others`);
}

const tileOf = ({ peerId }) => `.tile[data-peer="${peerId}"]`;

/** Sends values over a connection of the given serialization and reports what came back, bytes as hexadecimal. */
function echo({ page }, to, serialization) {
  return page.evaluate(async ({ peerId, serialization }) => {
    const bytes = (length) => Uint8Array.from({ length }, (_, i) => (i * 31) % 251).buffer;
    const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const plain = (value) => (value instanceof ArrayBuffer || ArrayBuffer.isView(value) ? hex(value.buffer ?? value) : value);
    const object = { text: "grüße, 信号 🚦", numbers: [0, -1, 3.5, 2 ** 40], nested: { yes: true, no: null } };
    const values = {
      // 100 kB is more than one data channel message: PeerJS cuts it into pieces and puts them together again.
      "binary": [object, "text", 42, bytes(100_000)],
      "binary-utf8": [object, "grüße", bytes(100_000)],
      "json": [object, "text", 42, [1, [2]]],
      "raw": ["grüße", bytes(1000)],
    }[serialization];
    const connection = signalboxDemo.peer.connect(peerId, { label: "echo", serialization, reliable: true });
    const back = [];
    await new Promise((resolve, reject) => {
      connection.on("error", reject);
      connection.on("open", () => values.forEach((value) => connection.send(value)));
      connection.on("data", (value) => back.push(value) === values.length && resolve());
    });
    connection.close();
    return { sent: values.map(plain), back: back.map(plain) };
  }, { peerId: to.peerId, serialization });
}

/** Runs PeerJS alone, beside the demo's own Peer: the first error of `connect`ing or of opening under `id`. */
function peerError({ page }, { id, connectTo }) {
  return page.evaluate(({ id, connectTo }) => new Promise((resolve) => {
    const peer = id ? new Peer(id, signalboxDemo.peerOptions) : new Peer(signalboxDemo.peerOptions);
    peer.on("error", ({ type, message }) => { peer.destroy(); resolve({ type, message }); });
    peer.on("open", () => connectTo ? peer.connect(connectTo) : resolve({ type: "opened" }));
  }), { id, connectTo });
}

let ada;
let alan;

test("two people see each other in the lobby, and the room that one of them opens", LIMIT, async () => {
  ada = await arrive("Ada Lovelace");
  alan = await arrive("Alan Turing");
  await Browser.until(ada.page, (id) => signalboxDemo.lobby.some(({ peerId }) => peerId === id), alan.peerId, "Ada sees Alan");
  await Browser.until(alan.page, (id) => signalboxDemo.lobby.some(({ peerId }) => peerId === id), ada.peerId, "Alan sees Ada");

  await ada.page.fill("#room-name", ROOM);
  await ada.page.press("#room-name", "Enter");
  await Browser.until(alan.page, (room) => signalboxDemo.lobby[0].inRoom === room, ROOM, "the room is listed");
  await Browser.screenshot(alan.page, "demo-lobby");

  await enterRoom(alan);
  await linkedTo(ada, [alan]);
  await linkedTo(alan, [ada]);
});

test("chat, whiteboard, cursors and game are the same on both sides", LIMIT, async () => {
  for (const [from, to, text] of [[ada, alan, "Morning! Can you see the sketch?"], [alan, ada, "Yes, <b>clearly</b>."]]) {
    await from.page.fill("#chat-text", text);
    await from.page.press("#chat-text", "Enter");
    await Browser.until(to.page, (said) => JSON.stringify(signalboxDemo.chat.at(-1)) === said, JSON.stringify({ from: from.name, text }), "the message arrived");
  }
  assert.equal(await ada.page.locator(".message-text").last().textContent(), "Yes, <b>clearly</b>.");

  const { x, y } = await ada.page.locator("#surface").boundingBox();
  await ada.page.mouse.move(x + 200, y + 80);
  await ada.page.mouse.down();
  await ada.page.mouse.move(x + 420, y + 160, { steps: 8 });
  await ada.page.mouse.up();
  await Browser.until(alan.page, (id) => signalboxDemo.strokes === 1 && signalboxDemo.cursors[id], ada.peerId, "stroke and cursor arrived");

  await ada.page.click("#tab-game");
  await alan.page.click("#tab-game");
  await alan.page.locator("#light").waitFor();
  const light = await alan.page.locator("#light").boundingBox();
  await alan.page.mouse.move(light.x + light.width / 2, light.y + light.height / 2);
  for (const { page } of [ada, alan]) {
    await Browser.until(page, (id) => signalboxDemo.scores[id] >= 1, alan.peerId, "Alan's point is counted");
  }
  await ada.page.click("#tab-board");
  await alan.page.click("#tab-board");
});

for (const serialization of ["binary", "binary-utf8", "json", "raw"]) {
  test(`data goes there and back as ${serialization}`, LIMIT, async () => {
    const { sent, back } = await echo(ada, alan, serialization);
    assert.deepEqual(back, sent);
  });
}

test("a camera that is switched on plays on the other side, both ways", LIMIT, async () => {
  await alan.page.click("#toggle-mic");
  await alan.page.click("#toggle-camera");
  await videoPlays(ada.page, `${tileOf(alan)}[data-video="camera"] video`);
  await ada.page.click("#toggle-camera");
  await videoPlays(alan.page, `${tileOf(ada)}[data-video="camera"] video`);
  await Browser.screenshot(ada.page, "demo-room-2");

  await ada.page.click("#toggle-camera");
  await alan.page.locator(`${tileOf(ada)}[data-video="none"]`).waitFor();
  await videoPlays(ada.page, `${tileOf(alan)}[data-video="camera"] video`);
  await alan.page.click("#toggle-camera");
  await alan.page.click("#toggle-mic");
});

test("a 50 MB file arrives with the right checksum, while ids are taken and missing", LIMIT, async () => {
  const content = randomBytes(FILE_BYTES);
  const sha256 = createHash("sha256").update(content).digest("hex");
  const file = path.join(folder, "signal-plan.zip");
  await writeFile(file, content);

  await ada.page.setInputFiles("#file-input", file);
  await alan.page.locator(".file button").click();
  await Browser.until(alan.page, () => signalboxDemo.files[0].state === "moving" && signalboxDemo.files[0].done > 0, null, "progress");

  const taken = peerError(alan, { id: ada.peerId });
  // Takes as long as the gateway keeps an offer for an id that may still come.
  const missing = peerError(alan, { connectTo: "nobody-has-this-id" });
  assert.equal((await taken).type, "unavailable-id");

  await Browser.until(alan.page, () => ["verified", "failed"].includes(signalboxDemo.files[0].state), null, "the whole file", FILE_PATIENCE_MS);
  const received = await alan.page.evaluate(() => signalboxDemo.files[0]);
  assert.deepEqual(
    { state: received.state, done: received.done, sha256: received.sha256 },
    { state: "verified", done: FILE_BYTES, sha256 },
  );
  assert.match(await alan.page.locator(".file-sum").textContent(), new RegExp(`SHA-256 matches.*${sha256}`));
  assert.deepEqual(await missing, { type: "peer-unavailable", message: "Could not connect to peer nobody-has-this-id" });
});

test("the page's SHA-256 agrees with Node's around every block boundary", LIMIT, async () => {
  const lengths = Array.from({ length: 260 }, (_, length) => length);
  const sums = await ada.page.evaluate(async (lengths) => {
    const { Sha256 } = await import("/demo/sha256.js");
    return lengths.map((length) => {
      const bytes = new Uint8Array(length).fill(length);
      const half = length >> 1;
      return new Sha256().update(bytes.subarray(0, half)).update(bytes.subarray(half)).digest();
    });
  }, lengths);
  assert.deepEqual(sums, lengths.map((length) => createHash("sha256").update(Buffer.alloc(length, length)).digest("hex")));
});

test("everybody is listed by listAllPeers", LIMIT, async () => {
  // The peers of the test before have closed their sockets; the gateway may need a moment to see it.
  await Browser.until(ada.page, async (expected) => {
    const ids = await new Promise((resolve) => signalboxDemo.peer.listAllPeers(resolve));
    return JSON.stringify(ids.sort()) === expected;
  }, JSON.stringify([ada.peerId, alan.peerId].sort()), "exactly Ada and Alan are listed");
});

test("disconnect and reconnect: open fires again under the same id", LIMIT, async () => {
  const opened = await ada.page.evaluate(() => new Promise((resolve, reject) => {
    const peer = new Peer("comes-back", signalboxDemo.peerOptions);
    const ids = [];
    peer.on("error", reject);
    peer.on("open", (id) => {
      ids.push(id);
      if (ids.length === 1) peer.disconnect();
      else { peer.destroy(); resolve(ids); }
    });
    peer.on("disconnected", () => !peer.destroyed && ids.length === 1 && peer.reconnect());
  }));
  assert.deepEqual(opened, ["comes-back", "comes-back"]);

  // The demo's own Peer comes back by itself, and is reached under the id that the others know.
  await ada.page.evaluate(() => signalboxDemo.peer.disconnect());
  await Browser.until(ada.page, () => signalboxDemo.events.filter(({ type }) => type === "peer-open").length === 2, null, "open again");
  assert.equal(await ada.page.evaluate(() => signalboxDemo.peer.id), ada.peerId);
  const { back, sent } = await echo(alan, ada, "json");
  assert.deepEqual(back, sent);
});

test("a Socket.IO connection that breaks comes back into its rooms, and the link to the other survives", LIMIT, async () => {
  const before = await ada.page.evaluate(() => signalboxDemo.socketId);
  await ada.page.evaluate(() => signalboxDemo.socket.io.engine.close());
  await Browser.until(ada.page, (old) => signalboxDemo.socketId && signalboxDemo.socketId !== old, before, "a new socket");
  await Browser.until(alan.page, () => {
    const types = signalboxDemo.events.filter((event) => event.type.startsWith("member-")).map(({ type }) => type);
    return types.at(-2) === "member-left" && types.at(-1) === "member-joined";
  }, null, "Alan hears Ada leave and join");
  await Browser.until(alan.page, () => signalboxDemo.members[0].link === "open" && signalboxDemo.members[0].present, null, "Ada is present again");
});

test("six people are all linked, see the videos that are on, and hear of the one that closes", LIMIT, async () => {
  const people = [ada, alan];
  people.push(...await Promise.all(["Grace Hopper", "Katherine Johnson", "Edith Clarke", "Hedy Lamarr"].map(arrive)));
  await Promise.all(people.slice(2).map(enterRoom));
  for (const person of people) await linkedTo(person, people.filter((other) => other !== person));

  const showing = people.slice(0, 4);
  await Promise.all(showing.map(({ page }) => page.click("#toggle-camera")));
  const pairs = people.flatMap((person) => showing.filter((other) => other !== person).map((other) => [person, other]));
  await Promise.all(pairs.map(([person, other]) => videoPlays(person.page, `${tileOf(other)}[data-video="camera"] video`)));
  await Browser.until(people[5].page, () => signalboxDemo.strokes === 1, null, "the newcomer has the drawing");
  await Browser.screenshot(people[5].page, "demo-room-6");

  const closing = people.pop();
  await closing.page.close();
  for (const { page, name } of people) {
    await Browser.until(page, (id) => signalboxDemo.events.some(({ type, peerId }) => type === "member-left" && peerId === id), closing.peerId, `${name} is told`);
  }
  for (const person of people) await linkedTo(person, people.filter((other) => other !== person));
  assert.deepEqual(browser.errors, []);
});
