// The pattern of the well-known PeerJS + Socket.IO tutorials, with nothing of ours in the page: it tells the
// gateway `join-room`, hears `user-connected` and `user-disconnected`, and calls whoever came.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { Browser, ORIGIN, videoPlays } from "./chromium.mjs";

const PEERJS = path.join(path.dirname(createRequire(import.meta.url).resolve("peerjs")), "peerjs.min.js");

const PAGE = `<!doctype html>
<title>Video room</title>
<style>
  #video-grid { display: grid; grid-template-columns: repeat(auto-fill, 320px); gap: 8px }
  video { width: 100% }
</style>
<script src="/socket.io/socket.io.js"></script>
<script src="/peerjs.min.js"></script>
<div id="video-grid"></div>
<script>
const ROOM_ID = location.pathname.split("/").pop();
const socket = io("/");
const calls = {};
let peer;

function addVideo(stream, userId) {
  const video = document.getElementById(userId) || document.createElement("video");
  video.id = userId;
  video.srcObject = stream;
  video.muted = true;
  video.onloadedmetadata = () => video.play();
  document.getElementById("video-grid").append(video);
}

function watch(call) {
  calls[call.peer] = call;
  call.on("stream", (stream) => addVideo(stream, call.peer));
  call.on("close", () => document.getElementById(call.peer)?.remove());
}

navigator.mediaDevices.getUserMedia({ video: true, audio: true }).then((stream) => {
  peer = new Peer(undefined, { host: "/", port: location.port });
  peer.on("call", (call) => {
    call.answer(stream);
    watch(call);
  });
  socket.on("user-connected", (userId) => watch(peer.call(userId, stream)));
  socket.on("user-disconnected", (userId) => calls[userId]?.close());
  peer.on("open", (id) => {
    addVideo(stream, id);
    socket.emit("join-room", ROOM_ID, id);
  });
});
</script>`;

/** Answers for the files of the tutorial's own server; everything else reaches the gateway. */
async function serveTutorial(page) {
  const bundle = await readFile(PEERJS);
  await page.route(`${ORIGIN}/tutorial/*`, (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
  await page.route(`${ORIGIN}/peerjs.min.js`, (route) => route.fulfill({ contentType: "text/javascript", body: bundle }));
  await page.route(`${ORIGIN}/favicon.ico`, (route) => route.fulfill({ status: 204 }));
}

async function openTutorial(browser) {
  const page = await browser.page({ viewport: { width: 700, height: 560 }, prepare: serveTutorial });
  await page.goto(`${ORIGIN}/tutorial/attic`);
  await Browser.until(page, () => peer?.open && document.getElementById(peer.id), null, "the peer is open");
  await page.evaluate(() => {
    window.departed = [];
    socket.on("user-disconnected", (userId) => departed.push(userId));
  });
  return { page, id: await page.evaluate(() => peer.id) };
}

let browser;
before(async () => { browser = await Browser.launch(); });
after(() => browser?.close());

test("three pages of the tutorial see each other, and hear of the one that closes", { timeout: 40_000 }, async () => {
  const people = [];
  for (let i = 0; i < 3; i += 1) people.push(await openTutorial(browser));

  for (const { page, id } of people) {
    for (const other of people) if (other.id !== id) {
      await page.locator(`[id="${other.id}"]`).waitFor({ state: "attached" });
      await videoPlays(page, `[id="${other.id}"]`);
    }
    assert.equal(await page.locator("video").count(), 3);
  }
  await Browser.screenshot(people[0].page, "tutorial-3");

  const [closing, ...rest] = people;
  await closing.page.close();
  for (const { page } of rest) {
    await Browser.until(page, (id) => departed.includes(id), closing.id, "user-disconnected");
    await page.locator(`[id="${closing.id}"]`).waitFor({ state: "detached" });
    assert.deepEqual(await page.evaluate(() => departed), [closing.id]);
  }
  await videoPlays(rest[0].page, `[id="${rest[1].id}"]`);
  assert.deepEqual(browser.errors, []);
});
