// A gateway without a vendor directory: the browser bundles come from a public CDN, which the files of the npm packages stand for.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { Browser, ORIGIN } from "./chromium.mjs";
import { atCdn, CDN } from "./lib/cdn.mjs";
import { request } from "./lib/http.mjs";

const LIMIT = { timeout: 40_000 };
const SOCKETIO = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"];
const PATHS = [...SOCKETIO.flatMap((name) => [`/socket.io/${name}`, `/socket.io/${name}.map`]), "/demo/peerjs.min.js"];

test("each bundle's address leads to the file of the npm package", async () => {
  for (const path of PATHS) {
    for (const method of ["GET", "HEAD"]) {
      const { status, headers } = await request(process.env.GATEWAY_URL, method, path);
      assert.equal(status, 302, `${method} ${path}`);
      assert.ok(headers.location.endsWith(path.slice(path.lastIndexOf("/"))), headers.location);
      assert.ok((await atCdn(headers.location)).length > 0);
    }
  }
});

test("the demo's integrity hashes are those of the npm packages' files", async () => {
  const { body } = await request(process.env.GATEWAY_URL, "GET", "/demo/");
  const scripts = [...body.matchAll(/<script src="(https:[^"]+)" integrity="([^"]+)" crossorigin="anonymous">/g)];
  assert.equal(scripts.length, 2, body.slice(0, 2_000));
  for (const [, url, integrity] of scripts) {
    const hash = createHash("sha384").update(await atCdn(url)).digest("base64");
    assert.equal(integrity, `sha384-${hash}`, url);
  }
});

let browser;
before(async () => { browser = await Browser.launch(); });
after(() => browser?.close());

/** A page for which the CDN has these bytes at each address. */
function withCdn(bytesAt) {
  const prepare = (page) => page.route(`${CDN}**`, async (route) => route.fulfill({
    contentType: "application/javascript",
    headers: { "Access-Control-Allow-Origin": "*" },
    body: await bytesAt(route.request().url()),
  }));
  return browser.page({ prepare });
}

test("the demo works with the CDN's bundles", LIMIT, async () => {
  const page = await withCdn(atCdn);
  await page.goto(`${ORIGIN}/demo/`);
  await page.fill("#name", "Ada");
  await page.click("#enter-button");
  await Browser.until(page, () => signalboxDemo.view === "lobby" && signalboxDemo.peerOpen, null, "the lobby");
  assert.deepEqual(page.errors, []);
});

test("a bundle that is not the npm package's is not run", LIMIT, async () => {
  const tampered = async (url) => Buffer.concat([await atCdn(url), Buffer.from("window.isTampered = true;")]);
  const page = await withCdn(tampered);
  await page.goto(`${ORIGIN}/demo/`);
  await page.waitForLoadState("load");
  const seen = await page.evaluate(() => [typeof window.io, typeof window.Peer, typeof window.isTampered]);
  assert.deepEqual(seen, ["undefined", "undefined", "undefined"]);
});
