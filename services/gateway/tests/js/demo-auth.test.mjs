// The demo, served by a gateway that asks for tokens.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, ORIGIN } from "./chromium.mjs";
import { claims, hs256 } from "./lib/jwt.mjs";

const SECRET = "a secret of the tests, of more than 32 bytes";
const signalbox = { rooms: { join: ["*"], send: ["*"] }, peer: { generated: true } };

let browser;
before(async () => {
  browser = await Browser.launch();
});
after(() => browser?.close());

async function open(query, name) {
  const page = await browser.page();
  await page.goto(`${ORIGIN}/demo/${query}#tokens`);
  await page.fill("#name", name);
  await page.click("#enter-button");
  return page;
}

test("two people with tokens meet, over both protocols", { timeout: 60_000 }, async () => {
  const pages = [];
  for (const name of ["Ada", "Alan"]) {
    const page = await open(`?token=${hs256(SECRET, claims({ sub: name, signalbox }))}`, name);
    await Browser.until(page, () => signalboxDemo.view === "room" && signalboxDemo.peerOpen, null, `${name} is in the room`);
    assert.ok(!page.url().includes("token="), "the address has lost its token");
    pages.push(page);
  }
  for (const page of pages) {
    await Browser.until(page, () => signalboxDemo.members.some(({ link }) => link === "open"), null, "they are linked");
  }
});
