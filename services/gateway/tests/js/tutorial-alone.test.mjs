// Pages as the well-known tutorials have them (tutorials/), with nothing of ours in them, on a gateway alone: it serves their files
// (--static), and its rules are those of docs/rules/. No other server runs.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Browser, videoPlays } from "./chromium.mjs";
import { startGateway } from "./lib/peer-servers.mjs";

const LIMIT = { timeout: 60_000 };
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

/** What the pages' address at the CDN has. */
const PEERJS = await readFile(path.join(path.dirname(createRequire(import.meta.url).resolve("peerjs")), "peerjs.min.js"));

let browser;
const servers = [];
before(async () => { browser = await Browser.launch(); });
after(async () => {
  await browser?.close();
  await Promise.all(servers.map((server) => server.stop()));
});

/** A gateway with a tutorial's page and rules; what opens one more page of it. `answer` is what the page's prompt is told. */
async function serve(page, rules) {
  const flags = ["--workers", "1", "--path", "/peerjs", "--static", here(`tutorials/${page}`), "--rules", here(`../../../../docs/rules/${rules}`)];
  const server = await startGateway([...flags, "--vendor-dir", here("../../../../target/vendor")]);
  servers.push(server);
  const origin = server.url.replace("127.0.0.1", "localhost");
  return async (answer, url = "/") => {
    const prepare = async (page) => {
      page.on("dialog", (dialog) => dialog.accept(answer));
      await page.route("https://unpkg.com/**", (route) => route.fulfill({ contentType: "application/javascript", body: PEERJS }));
    };
    const page = await browser.page({ viewport: { width: 640, height: 480 }, prepare });
    await page.goto(new URL(url, origin).href);
    return page;
  };
}

const videos = (page, count) => Browser.until(page, (count) => document.querySelectorAll("video").length === count, count, `${count} videos`);

test("the video rooms: / leads to a room of one's own, three see each other, one goes", LIMIT, async () => {
  const open = await serve("video", "tutorial-video.toml");
  const first = await open();
  assert.match(new URL(first.url()).pathname, /^\/[0-9a-f-]{36}$/);
  await videos(first, 1);
  const people = [first, await open("", first.url())];
  await Promise.all(people.map((page) => videos(page, 2)));
  people.push(await open("", first.url()));
  for (const page of people) {
    await videos(page, 3);
    for (let index = 1; index <= 3; index += 1) await videoPlays(page, `video:nth-of-type(${index})`);
  }
  await Browser.screenshot(first, "tutorial-alone-video");
  await people.pop().close();
  for (const page of people) await videos(page, 2);
  // Another who comes by / is in a room of their own.
  const alone = await open();
  assert.notEqual(alone.url(), first.url());
  await videos(alone, 1);
  assert.deepEqual(browser.errors, []);
  for (const page of [...people, alone]) await page.close();
});

test("the video chat: everybody reads what somebody says, by name", LIMIT, async () => {
  const open = await serve("chat", "tutorial-video.toml");
  const ann = await open("Ann", "/our-room");
  await videos(ann, 1);
  const bob = await open("Bob", "/our-room");
  for (const page of [ann, bob]) await videos(page, 2);
  await ann.locator("#line").fill("hello");
  await ann.locator("#say").click();
  await bob.locator("li", { hasText: "Ann: hello" }).waitFor();
  await bob.locator("#line").fill("hello to you");
  await bob.locator("#line").press("Enter");
  await ann.locator("li", { hasText: "Bob: hello to you" }).waitFor();
  assert.deepEqual(await ann.locator("li").allTextContents(), ["me: hello", "Bob: hello to you"]);
  assert.deepEqual(browser.errors, []);
  for (const page of [ann, bob]) await page.close();
});

test("the codelab: two see each other, a third is told that the room is full, and one comes again", LIMIT, async () => {
  const open = await serve("two", "tutorial-two.toml");
  const one = await open("ours");
  await videoPlays(one, "#local");
  let other = await open("ours");
  for (const page of [one, other]) await videoPlays(page, "#remote");
  const third = await open("ours");
  await Browser.until(third, () => document.title === "ours is full", null, "the third is told");
  // As a visitor does it who closes the page.
  await other.close({ runBeforeUnload: true });
  await Browser.until(one, () => document.querySelector("#remote").srcObject === null, null, "the other has gone");
  other = await open("ours");
  await videoPlays(other, "#remote");
  assert.deepEqual(browser.errors, []);
  for (const page of [one, other, third]) await page.close();
});
