// Pages as the well-known PeerJS + Socket.IO tutorials have them, with nothing of ours in them, moved to the gateway as
// docs/vocabulary.md says: its steps are read from there and done. nginx (Debian's) serves the page for every path and sends the rest to
// the gateway, which was started with --path /peerjs.

import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { Browser, ORIGIN, videoPlays } from "./chromium.mjs";
import { freePorts, program } from "./cluster/setup.mjs";
import { request } from "./lib/http.mjs";
import { until } from "./lib/wait.mjs";

/** The browser bundle; PEERJS is that of another version. */
const PEERJS = process.env.PEERJS ?? path.join(path.dirname(createRequire(import.meta.url).resolve("peerjs")), "peerjs.min.js");

const page = await readFile(new URL("../../../../docs/vocabulary.md", import.meta.url), "utf8");
const found = (pattern) => pattern.exec(page)?.[1] ?? assert.fail(`docs/vocabulary.md has no ${pattern}`);
/** Step 1: the room's id comes from the address. */
const ROOM_SCRIPT = found(/```html\n([^]+?)```/);
/** Step 2: what nginx serves itself, and what it sends on. */
const LOCATIONS = found(/```nginx\n([^]+?)```/);
const MAP = found(/`(map \$http_upgrade [^`]+)`/);
/** Step 3: where the clients connect to. */
const SOCKET = found(/`(io\([^`]+\))`/);
const PEER = found(/`(new Peer\([^`]+\))`/);

const head = (title) => `<!doctype html>
<title>${title}</title>
<style>#grid { display: grid; grid-template-columns: repeat(auto-fill, 200px) } video { width: 100% }</style>
<script src="/socket.io/socket.io.js"></script>
<script src="/peerjs.min.js"></script>
${ROOM_SCRIPT}
<div id="grid"></div>`;

/** What all of the tutorials do with each other's streams. */
const CALLS = `
const socket = ${SOCKET};
const calls = {};
let peer;
function show(stream, userId) {
  const video = document.getElementById(userId) ?? document.createElement("video");
  Object.assign(video, { id: userId, srcObject: stream, muted: true, onloadedmetadata: () => video.play() });
  document.getElementById("grid").append(video);
}
function follow(call) {
  calls[call.peer] = call;
  call.on("stream", (stream) => show(stream, call.peer));
  call.on("close", () => document.getElementById(call.peer)?.remove());
}
navigator.mediaDevices.getUserMedia({ video: { width: 160, height: 120 }, audio: true }).then((stream) => {
  peer = ${PEER};
  peer.on("call", (call) => {
    call.answer(stream);
    follow(call);
  });
  socket.on("user-connected", (userId) => follow(peer.call(userId, stream)));
  socket.on("user-disconnected", (userId) => calls[userId]?.close());
  peer.on("open", (id) => {
    show(stream, id);
    enter(id);
  });
});`;

const PAGES = {
  video: `${head("Video")}
<script>${CALLS}
const enter = (id) => socket.emit("join-room", ROOM_ID, id);
</script>`,
  chat: `${head("Video and chat")}
<ul id="messages"></ul>
<form id="form"><input id="text"><button>Send</button></form>
<script>${CALLS}
const user = "user " + Math.random().toString(36).slice(2);
const enter = (id) => socket.emit("join-room", ROOM_ID, id, user);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  socket.emit("message", text.value);
  text.value = "";
});
socket.on("createMessage", (message, userName) => {
  const line = document.createElement("li");
  line.textContent = (userName === user ? "me" : userName) + ": " + message;
  messages.append(line);
});
</script>`,
  object: `${head("Object argument")}
<script>${CALLS}
const enter = (id) => socket.emit("join-room", { roomId: ROOM_ID, peerId: id });
</script>`,
};

let browser;
let folder;
let nginx;
const origins = {};
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tutorial-"));
  const ports = await freePorts(Object.keys(PAGES).length);
  const servers = [];
  for (const [index, [kind, text]] of Object.entries(PAGES).entries()) {
    origins[kind] = `http://localhost:${ports[index]}`;
    const root = path.join(folder, kind);
    await mkdir(root);
    await writeFile(path.join(root, "room.html"), text);
    await copyFile(PEERJS, path.join(root, "peerjs.min.js"));
    assert.ok(LOCATIONS.includes("/srv/room;") && LOCATIONS.includes("http://127.0.0.1:9000;"), LOCATIONS);
    const locations = LOCATIONS.replace("/srv/room", root).replace("http://127.0.0.1:9000", ORIGIN.replace("localhost", "127.0.0.1"));
    servers.push(`server { listen 127.0.0.1:${ports[index]}; ${locations} }`);
  }
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`);
  const types = "types { text/html html; text/javascript js; }";
  await writeFile(
    path.join(folder, "nginx.conf"),
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
events { worker_connections 1024; }
http { access_log off; ${temporary.join(" ")} ${types} ${MAP} ${servers.join("\n")} }
`,
  );
  nginx = program("nginx", ["-c", path.join(folder, "nginx.conf"), "-e", path.join(folder, "error.log")]);
  const answers = () => request(`http://127.0.0.1:${ports.at(-1)}`, "GET", "/peerjs/peerjs/id").then(({ status }) => status === 200, () => false);
  await until(answers, "nginx answers, and the gateway behind it");
  browser = await Browser.launch();
});
after(async () => {
  await browser?.close();
  nginx.child.kill();
  await nginx.exited;
  await rm(folder, { recursive: true, force: true });
});

/** Opens a page, of a room of its own where there is none yet. */
async function open(kind, room) {
  const page = await browser.page({ viewport: { width: 640, height: 480 } });
  await page.goto(room ?? origins[kind]);
  await Browser.until(page, () => typeof peer !== "undefined" && peer?.open && document.getElementById(peer.id), null, "the peer is open");
  await page.evaluate(() => {
    window.departed = [];
    socket.on("user-disconnected", (userId) => departed.push(userId));
  });
  return { page, id: await page.evaluate(() => peer.id), room: page.url() };
}

for (const kind of Object.keys(PAGES)) {
  test(`three pages of the tutorial (${kind}) see each other, and hear of the one that closes`, { timeout: 60_000 }, async () => {
    const people = [await open(kind)];
    assert.match(people[0].room, /\/[0-9a-f-]{36}$/, "the page has made a room");
    for (let i = 0; i < 2; i += 1) people.push(await open(kind, people[0].room));

    for (const { page, id } of people) {
      for (const other of people) if (other.id !== id) {
        await page.locator(`[id="${other.id}"]`).waitFor({ state: "attached" });
        await videoPlays(page, `[id="${other.id}"]`);
      }
      assert.equal(await page.locator("video").count(), 3);
    }
    await Browser.screenshot(people[0].page, `tutorial-${kind}`);

    if (kind === "chat") {
      for (const { page } of people) await page.locator("#text").fill(`hello from ${await page.evaluate(() => user)}`);
      for (const { page } of people) await page.locator("button").click();
      for (const { page } of people) {
        await Browser.until(page, () => document.querySelectorAll("li").length === 3, null, "everybody's message, one's own too");
        const lines = await page.locator("li").allTextContents();
        const names = await Promise.all(people.map(({ page }) => page.evaluate(() => user)));
        const own = await page.evaluate(() => user);
        assert.deepEqual(lines.toSorted(), names.map((name) => `${name === own ? "me" : name}: hello from ${name}`).toSorted());
      }
    }

    const [closing, ...rest] = people;
    await closing.page.close();
    for (const { page } of rest) {
      await Browser.until(page, (id) => departed.includes(id), closing.id, "user-disconnected");
      await page.locator(`[id="${closing.id}"]`).waitFor({ state: "detached" });
      assert.deepEqual(await page.evaluate(() => departed), [closing.id]);
    }
    await videoPlays(rest[0].page, `[id="${rest[1].id}"]`);
    assert.deepEqual(browser.errors, []);
    for (const { page } of rest) await page.close();
  });
}
