// A video call of two Chromium pages goes on while every node is replaced by one of another format, behind a load balancer: DIRECTION is
// `update`, from the previous format to the present one, or `rollback`. Meanwhile the load generator connects all the time, with both
// protocols, and every connect has to succeed. Who talks meanwhile loses nothing: `replaced.test.mjs`.
import assert from "node:assert/strict";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { closeAll } from "./lib/cleanup.mjs";
import { until } from "./lib/wait.mjs";
import { place, startAt } from "./cluster/drain.mjs";
import { PREVIOUS } from "./cluster/mixed.mjs";
import { balanceReady, program, ready, Redis } from "./cluster/setup.mjs";

const NODES = 3;
const DRAIN_TIMEOUT = 4_000;
const ROOM = "call";
const VENDOR = ["--vendor-dir", fileURLToPath(new URL("../../../../target/vendor", import.meta.url))];
// Longest time without a new frame, on two cores that also run three nodes and a browser. Media do not pass through the nodes, so there is
// no reason for any.
const FREEZE_MS = 5_000;

const [from, to] = { update: [PREVIOUS, undefined], rollback: [undefined, PREVIOUS] }[process.env.DIRECTION];
const redis = await Redis.start();
after(closeAll);

test("a call goes on while all nodes are replaced", async () => {
  const places = [];
  while (places.length < 2 * NODES) places.push(await place());
  const nodes = await Promise.all(places.slice(0, NODES).map((at) => startAt(redis, at, DRAIN_TIMEOUT, from, VENDOR)));
  await Promise.all(nodes.map(ready));
  const balancer = await balanceReady(places);
  await until(async () => (await balancer.rotation()) === "0,1,2", "the balancer has seen which nodes there are");

  // Where pages are is read when the file is loaded.
  process.env.GATEWAY_URL = balancer.url;
  const { Browser, ORIGIN, videoPlays } = await import("./chromium.mjs");
  const browser = await Browser.launch();
  after(() => browser.close());
  const arrive = async (name) => {
    const page = await browser.page();
    await page.goto(`${ORIGIN}/demo/`);
    await page.fill("#name", name);
    await page.click("#enter-button");
    await Browser.until(page, () => signalboxDemo.view === "lobby" && signalboxDemo.peerOpen, null, `${name} is in the lobby`);
    return { name, page, peerId: await page.evaluate(() => signalboxDemo.peerId) };
  };
  const ada = await arrive("Ada");
  const alan = await arrive("Alan");
  await ada.page.fill("#room-name", ROOM);
  await ada.page.press("#room-name", "Enter");
  await alan.page.locator(`[data-room="${ROOM}"] button`).click();
  await Browser.until(alan.page, () => signalboxDemo.view === "room", null, "the room is shown");
  for (const { page } of [ada, alan]) await page.click("#toggle-camera");
  const tile = ({ peerId }) => `.tile[data-peer="${peerId}"][data-video="camera"] video`;
  const sides = [[ada.page, tile(alan)], [alan.page, tile(ada)]];
  for (const [page, selector] of sides) {
    await videoPlays(page, selector);
    await page.evaluate(watch, selector);
  }

  const loads = [new Load(balancer.url), new Load(balancer.url, "--peerserver")];
  for (const [index, node] of nodes.entries()) {
    node.signal("SIGTERM");
    assert.equal((await node.exited).code, 0);
    const next = await startAt(redis, places[NODES + index], DRAIN_TIMEOUT, to, VENDOR);
    await ready(next);
    await until(async () => (await balancer.rotation()).split(",").includes(`${NODES + index}`), "the new node is in the rotation");
  }

  for (const load of loads) {
    const { connects, closed } = await load.end();
    console.log(`# ${load.protocol}: ${connects} connects, ${closed} of them refused or closed`);
    assert.equal(closed, 0, load.protocol);
    assert.ok(connects > 100, `${connects} connects`);
  }

  for (const [page, selector] of sides) {
    await videoPlays(page, selector);
    const { longest, videos } = await page.evaluate(() => window.watched);
    console.log(`# longest time without a new frame: ${Math.round(longest)} ms`);
    assert.ok(longest < FREEZE_MS, `the video stood still for ${longest} ms`);
    assert.equal(videos, 1, "it is the same call");
  }
  // Both are on nodes that came later, under the ids that they had, and find each other there.
  for (const { page, peerId } of [ada, alan]) {
    await Browser.until(page, (id) => signalboxDemo.peerOpen && signalboxDemo.peerId === id, peerId, "the peer is there again, under its id");
  }
  await ada.page.fill("#chat-text", "still here?");
  await ada.page.press("#chat-text", "Enter");
  await Browser.until(alan.page, () => signalboxDemo.chat.at(-1)?.text === "still here?", null, "the message arrived");
});

/** Connects all the time, in rounds of some seconds. */
class Load {
  constructor(url, ...flags) {
    this.protocol = flags[0] ?? "Socket.IO";
    this.goesOn = true;
    this.rounds = this.run(["connect", "--rate", "20", "--seconds", "5", "--target", url, ...flags]);
  }

  async run(flags) {
    const sum = { connects: 0, closed: 0 };
    const report = path.join(await mkdtemp(path.join(tmpdir(), "signalbox-load-")), "report.json");
    while (this.goesOn) {
      const { child, exited } = program(process.env.LOADTEST_BIN, [...flags, "--json", report]);
      await exited;
      assert.equal(child.exitCode, 0, "the load generator ends well");
      for (const phase of JSON.parse(await readFile(report, "utf8")).phases) {
        sum.connects += phase.connects;
        sum.closed += phase.closed;
      }
    }
    return sum;
  }

  end() {
    this.goesOn = false;
    return this.rounds;
  }
}

/** In the page: how long the video has ever stood still, and how many elements have shown it. */
function watch(selector) {
  const state = { longest: 0, videos: 0, video: undefined, frames: 0, at: performance.now() };
  window.watched = state;
  setInterval(() => {
    const video = document.querySelector(selector);
    const frames = video?.getVideoPlaybackQuality().totalVideoFrames ?? 0;
    if (video && video !== state.video) [state.video, state.videos] = [video, state.videos + 1];
    if (frames !== state.frames) [state.frames, state.at] = [frames, performance.now()];
    state.longest = Math.max(state.longest, performance.now() - state.at);
  }, 100);
}
