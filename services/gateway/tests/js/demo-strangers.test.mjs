// What others in a room, or whoever made a link, must not do to the demo's page.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { Browser, ORIGIN } from "./chromium.mjs";

const LIMIT = { timeout: 40_000 };

let browser;
let folder;
before(async () => {
  browser = await Browser.launch();
  folder = await mkdtemp(path.join(tmpdir(), "signalbox-demo-"));
});
after(async () => {
  await browser?.close();
  if (folder) await rm(folder, { recursive: true });
});

/** Opens the demo at an address that names a room, and enters. */
async function enter(name, fragment, prepare) {
  const page = await browser.page({ prepare });
  await page.goto(`${ORIGIN}/demo/#${fragment}`);
  await page.fill("#name", name);
  await page.click("#enter-button");
  await Browser.until(page, () => signalboxDemo.view === "room", null, `${name} is in the room`);
  return page;
}

for (const [fragment, room] of [["%", "%"], ["50%25", "50%"], ["100%zz", "100%zz"]]) {
  test(`the address #${fragment} is that of a room`, LIMIT, async () => {
    const page = await enter("Ada", fragment);
    assert.equal(await page.evaluate(() => signalboxDemo.room), room);
    assert.deepEqual(page.errors, []);
  });
}

test("a received page is a file to be saved, and no page of this origin", LIMIT, async () => {
  const watch = (page) => page.addInitScript(() => {
    const make = URL.createObjectURL;
    window.made = [];
    URL.createObjectURL = (blob) => (window.made.push(blob.type), make.call(URL, blob));
  });
  const ada = await enter("Ada", "files");
  const alan = await enter("Alan", "files", watch);
  await Browser.until(alan, () => signalboxDemo.members.some(({ link }) => link === "open"), null, "they are linked");
  const file = path.join(folder, "page.html");
  await writeFile(file, "<script>window.opener.owned = true</script>");
  await ada.setInputFiles("#file-input", file);
  await alan.locator(".file button").click();
  await Browser.until(alan, () => signalboxDemo.files[0]?.state === "verified", null, "the file");
  assert.equal(await alan.locator(".file a").getAttribute("download"), "page.html");
  assert.deepEqual(await alan.evaluate(() => window.made), ["application/octet-stream"]);
  assert.deepEqual(browser.errors, []);
});

test("a script that finds its way into the page is not run", LIMIT, async () => {
  const page = await browser.page();
  await page.goto(`${ORIGIN}/demo/`);
  const ran = await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.isInjected = true";
    document.body.append(script);
    document.body.insertAdjacentHTML("beforeend", '<img src="x" onerror="window.isInjected = true">');
    return new Promise((resolve) => setTimeout(() => resolve(window.isInjected ?? false), 300));
  });
  assert.equal(ran, false);
});
