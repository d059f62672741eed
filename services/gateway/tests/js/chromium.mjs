// Headless Chromium for the tests: one browser a file, one isolated context a page.
//
// CHROMIUM names the executable (default /usr/bin/chromium); screenshots go to $ARTIFACTS.

import { mkdir } from "node:fs/promises";
import path from "node:path";
import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ARTIFACTS = process.env.ARTIFACTS;
/** How long a page may take to reach an awaited state: two busy cores and a debug build are slow. */
const PATIENCE_MS = 20_000;

/**
 * The gateways of a cluster, or the one there is, as pages see them: on localhost, which browsers count as a secure context. None where a
 * test starts its own.
 */
export const ORIGINS = (process.env.GATEWAY_URLS ?? process.env.GATEWAY_URL ?? "")
  .split(" ")
  .filter(Boolean)
  .map((url) => new URL(url).origin.replace("//127.0.0.1", "//localhost"));
/** The first of them. */
export const [ORIGIN] = ORIGINS;

const FLAGS = [
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
  "--allow-loopback-in-peer-connection",
  // Candidates carry addresses, not mDNS names that nobody here resolves; and a page that a test answers for
  // (page.route) has no address of its own, so that Chromium would keep it from talking to loopback. The rest would look for other hosts.
  "--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks,MediaRouter,DialMediaRouteProvider,OptimizationHints,Translate",
  "--autoplay-policy=no-user-gesture-required",
  "--mute-audio",
  // Nothing but this machine: no STUN servers from PeerJS's defaults, no browser services.
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--no-sandbox",
];

export class Browser {
  #browser;
  #pages = [];

  static async launch() {
    const browser = new Browser();
    browser.#browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS });
    return browser;
  }

  /**
   * A page in a context of its own. `prepare` is called with it before anything is loaded.
   * Uncaught errors and console errors are kept in `page.errors`.
   */
  async page({ viewport = { width: 1280, height: 800 }, colorScheme = "light", prepare = async () => {} } = {}) {
    const context = await this.#browser.newContext({ viewport, colorScheme });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.errors = [];
    page.on("pageerror", (error) => page.errors.push(`uncaught: ${error.stack ?? error}`));
    page.on("console", (message) => message.type() === "error" && page.errors.push(`console: ${message.text()} (${message.location().url})`));
    this.#pages.push(page);
    await prepare(page);
    return page;
  }

  /** Console and page errors of every page there was. */
  get errors() {
    return this.#pages.flatMap((page) => page.errors);
  }

  /** Resolves once `predicate(argument)`, evaluated in the page, holds; says what was awaited when it never does. */
  static async until(page, predicate, argument, what = String(predicate), patience = PATIENCE_MS) {
    try {
      await page.waitForFunction(predicate, argument, { polling: 100, timeout: patience });
    } catch (cause) {
      const state = await page.evaluate(() => JSON.stringify(window.signalboxDemo ?? null)).catch(() => "unknown");
      throw new Error(`waited in vain for: ${what}\nstate: ${state}\nerrors: ${page.errors.join("\n")}`, { cause });
    }
  }

  static async screenshot(page, name) {
    if (!ARTIFACTS) return;
    await mkdir(ARTIFACTS, { recursive: true });
    await page.screenshot({ path: path.join(ARTIFACTS, `${name}.png`) });
  }

  async close() {
    await this.#browser.close();
  }
}

/** Whether the video under `selector` advances: its clock and its decoded frames. */
export async function videoPlays(page, selector) {
  const frames = await page.locator(selector).evaluateHandle((video) => ({ time: video.currentTime, total: video.getVideoPlaybackQuality().totalVideoFrames, video }));
  await Browser.until(page, ({ video, time, total }) => {
    const now = video.getVideoPlaybackQuality().totalVideoFrames;
    return video.videoWidth > 0 && video.currentTime > time && now >= total + 5;
  }, frames, `the video ${selector} advances`);
}
