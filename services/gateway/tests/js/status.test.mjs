// The status page in Chromium: what it shows of a node, one client's story, the token it asks for; on a desk and on a phone.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { startGateway } from "./lib/peer-servers.mjs";
import { Redis, ready, startNode } from "./cluster/setup.mjs";
import { closeAll } from "./lib/cleanup.mjs";
import { nextEvent } from "./lib/wait.mjs";

let node;
let guarded;
let token;
let controls;
let Browser;
let browser;
const sockets = [];

before(async () => {
  const made = (scopes) => execFileSync(process.env.GATEWAY_BIN, ["admin-token", "--name", "operator", "--scopes", scopes]).toString();
  const tokens = ["read", "read+control"].map(made);
  [token, controls] = tokens.map((text) => /(sba_\S+)/.exec(text)[1]);
  const hashes = tokens.flatMap((text) => ["--admin-token-hash", /--admin-token-hash (\S+)/.exec(text)[1]]);
  [node, guarded] = await Promise.all([startGateway(["--workers", "2"]), startGateway(["--workers", "2", ...hashes])]);
  process.env.GATEWAY_URL ??= node.adminUrl;
  ({ Browser } = await import("./chromium.mjs"));
  browser = await Browser.launch();
});
after(async () => {
  for (const socket of sockets) socket.disconnect();
  await browser?.close();
  await Promise.all([node?.stop(), guarded?.stop(), closeAll()]);
});

const open = async (of, options) => {
  const page = await browser.page(options);
  await page.goto(`${of.adminUrl.replace("//127.0.0.1", "//localhost")}/admin/`);
  return page;
};
const shows = (page, selector, text) =>
  Browser.until(page, ([at, wanted]) => document.querySelector(at)?.textContent.includes(wanted), [selector, text], `${selector} shows ${text}`);

test("it shows the node, its clients and rooms, and everything about one of them", async () => {
  for (let number = 0; number < 3; number += 1) {
    const socket = io(node.url, { transports: ["websocket"], forceNew: true });
    sockets.push(socket);
    await nextEvent(socket, "connect");
    assert.equal((await socket.emitWithAck("join", "<b>busy</b>", { peerId: `peer-${number}` })).ok, true);
  }
  const page = await open(node);
  await shows(page, "#status", "online");
  await shows(page, "#rooms", "<b>busy</b>");
  await shows(page, "#rooms", "3");
  await Browser.until(page, () => document.querySelectorAll("#charts figure").length === 4, undefined, "four charts");
  assert.equal(await page.locator("#nodes tr").count(), 1);

  await page.keyboard.press("/");
  await page.keyboard.type(sockets[0].id);
  await page.keyboard.press("Enter");
  await shows(page, "#found", sockets[0].id);
  await shows(page, "#found", "In <b>busy</b>");
  await shows(page, "#found", "peer-0");
  await Browser.screenshot(page, "status-desk");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#client").isHidden(), true);

  await page.fill("#search input", "nobody-here");
  await page.keyboard.press("Enter");
  await shows(page, "#found", "There is no socket");
});

test("it tells what happens, and disconnects a client whom somebody wants gone", async () => {
  const page = await open(node);
  await shows(page, "#events-note", "Live");
  await page.check('#events-filter input[name="Rooms"]');
  await shows(page, "#events-note", "Live");
  const socket = io(node.url, { transports: ["websocket"], forceNew: true });
  sockets.push(socket);
  await nextEvent(socket, "connect");
  await socket.emitWithAck("join", "<i>live</i>", {});
  await shows(page, "#events", socket.id);
  await shows(page, "#events", "<i>live</i>");
  await page.fill("#search input", socket.id);
  await page.keyboard.press("Enter");
  await shows(page, "#found", socket.id);
  await page.locator("#found button").first().click();
  await page.locator("#sure").waitFor({ state: "visible" });
  const gone = nextEvent(socket, "disconnect");
  await page.click("#sure button[value=yes]");
  assert.deepEqual((await gone)[0], "io server disconnect");
  await shows(page, "#events", "server namespace disconnect");
  await Browser.screenshot(page, "status-events");
});

test("it rebalances a cluster and drains a node, shows how far that is, and stops it", async () => {
  const redis = await Redis.start();
  const flags = ["--drain-delay", "1500", "--drain-timeout", "6000"];
  const cluster = await Promise.all(["kept", "drained"].map((name) => startNode(redis, ["--node-id", name, ...flags])));
  await Promise.all(cluster.map(ready));
  for (let number = 0; number < 8; number += 1) {
    const socket = io(cluster[1].url, { transports: ["websocket"], forceNew: true, reconnection: false });
    sockets.push(socket);
    await nextEvent(socket, "connect");
  }
  const page = await open(cluster[0]);
  await shows(page, "#events-note", "Live");
  const operation = (name) => `#operations tr:has([aria-label="Progress of the ${name}"])`;
  await page.fill("#rebalance input", "1");
  await page.click("#rebalance button");
  await page.click("#sure button[value=yes]");
  await Browser.until(page, (at) => document.querySelector(`${at} progress`)?.value > 0, operation("rebalance, 1/s"), "the rebalance goes on");
  await shows(page, operation("rebalance, 1/s"), "running");
  await Browser.screenshot(page, "status-rebalance");
  // One that is refused says why, and for longer than until the page looks again.
  await page.click("#rebalance button");
  await page.click("#sure button[value=yes]");
  await shows(page, "#trouble", "does that already");
  await page.waitForTimeout(4_500);
  assert.equal(await page.locator("#trouble").isVisible(), true);
  await page.click('[aria-label="Stop the rebalance, 1/s"]');
  await page.click("#sure button[value=yes]");
  await shows(page, operation("rebalance, 1/s"), "stopped");
  const button = page.locator('[aria-label="Drain drained"]');
  await button.click();
  await page.click("#sure button[value=no]");
  await button.click();
  await page.click("#sure button[value=yes]");
  await Browser.until(page, () => document.querySelector("#nodes progress")?.value > 0, undefined, "the drain goes on");
  await shows(page, "#events", "announced");
  await shows(page, operation("drain of drained"), "running");
  await Browser.screenshot(page, "status-drain");
  await shows(page, "#events", "done");
  await shows(page, "#events", "node-down");
  await shows(page, operation("drain of drained"), "done");
  await Browser.until(page, () => document.querySelectorAll("#nodes tr").length === 1, undefined, "the node is gone");
});

test("it fits on a phone, in the dark", async () => {
  const page = await open(node, { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  await shows(page, "#rooms", "busy");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "nothing sticks out");
  await Browser.screenshot(page, "status-phone");
});

test("where a token is needed it asks for one, and keeps it in its tab", async () => {
  const page = await open(guarded);
  const dialog = page.locator("#ask");
  await dialog.waitFor({ state: "visible" });
  await dialog.locator("input").fill(`${token}x`);
  await page.keyboard.press("Enter");
  await Browser.until(page, () => document.querySelector("#refused").textContent !== "", undefined, "the token is refused");
  await dialog.locator("input").fill(token);
  await page.keyboard.press("Enter");
  await shows(page, "#status", "online");
  assert.equal(await dialog.isHidden(), true);
  // Who may only look is offered nothing else.
  const client = io(guarded.url, { transports: ["websocket"], forceNew: true });
  sockets.push(client);
  await nextEvent(client, "connect");
  const find = async () => {
    await page.fill("#search input", client.id);
    await page.keyboard.press("Enter");
    await shows(page, "#found", client.id);
  };
  await find();
  assert.deepEqual([await page.locator("#nodes tr").count(), await page.locator("#nodes button, #found button").count()], [1, 0]);
  await page.click("#forget");
  await dialog.waitFor({ state: "visible" });
  await dialog.locator("input").fill(controls);
  await page.keyboard.press("Enter");
  await page.locator("#nodes button").waitFor({ state: "visible" });
  await find();
  await page.locator("#found button").waitFor({ state: "visible" });
  await page.click("#forget");
  await dialog.waitFor({ state: "visible" });
});

test("a node that is gone is said to be", async () => {
  const page = await open(guarded);
  await page.locator("#ask input").fill(token);
  await page.keyboard.press("Enter");
  await shows(page, "#status", "online");
  await guarded.stop();
  guarded = undefined;
  await shows(page, "#status", "no answer");
  await shows(page, "#trouble", "does not answer");
});
