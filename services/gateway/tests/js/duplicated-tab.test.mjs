// A duplicated tab: two pages with one PeerJS id and token, each of which reconnects whenever its connection is lost.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Browser, ORIGIN } from "./chromium.mjs";

/** The browser bundle; PEERJS is that of another version. */
const PEERJS = process.env.PEERJS ?? path.join(path.dirname(createRequire(import.meta.url).resolve("peerjs")), "peerjs.min.js");
/** For how long they are watched. */
const WATCHED_MS = Number(process.env.WATCHED_MS ?? 5_000);

const PAGE = `<!doctype html>
<title>Duplicated</title>
<script src="/peerjs.min.js"></script>
<script>
const told = { open: 0, errors: [] };
const peer = new Peer("duplicated", { host: "/", port: location.port, token: "of both tabs" });
peer.on("open", () => { told.open += 1; });
peer.on("error", ({ type }) => told.errors.push(type));
peer.on("disconnected", () => peer.destroyed || peer.reconnect());
</script>`;

let browser;
before(async () => { browser = await Browser.launch(); });
after(() => browser?.close());

test("of a duplicated tab one stays, and the other is told that the id is taken", async () => {
  const bundle = await readFile(PEERJS);
  const prepare = async (page) => {
    await page.route(`${ORIGIN}/duplicated`, (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
    await page.route(`${ORIGIN}/peerjs.min.js`, (route) => route.fulfill({ contentType: "text/javascript", body: bundle }));
    await page.goto(`${ORIGIN}/duplicated`);
  };
  const pages = [await browser.page({ prepare }), await browser.page({ prepare })];
  await sleep(WATCHED_MS);
  const read = (page) => page.evaluate(() => ({ open: told.open, errors: [...new Set(told.errors)].toSorted(), isOpen: peer.open }));
  const told = await Promise.all(pages.map(read));
  assert.equal(told.filter(({ isOpen }) => isOpen).length, 1, JSON.stringify(told));
  assert.ok(told.some(({ errors }) => errors.includes("unavailable-id")), JSON.stringify(told));
  // Five takeovers in fifteen seconds, those of which the answer was under way, and each page's first.
  assert.ok(told[0].open + told[1].open <= 12 * Math.ceil(WATCHED_MS / 15_000), JSON.stringify(told));
});
