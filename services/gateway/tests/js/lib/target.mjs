// What the raw protocol tests talk to: the gateway that the caller started (GATEWAY_URL, GATEWAY_PID),
// or, with REFERENCE=1, the npm server that the tables were read from, in a process of its own.
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { nextEvent } from "./wait.mjs";

// Whatever goes wrong in a test file, it ends by itself.
const LAST_RESORT = 58_000;
setTimeout(() => {
  console.error(`this file did not end within ${LAST_RESORT} ms`);
  process.exit(1);
}, LAST_RESORT).unref();

/**
 * Returns {url, pid, isReference, stop}. `variable` names the environment variable that holds the
 * address; `kind` and `options` tell the npm server what to be.
 */
export async function startTarget({ variable = "GATEWAY_URL", kind = "gateway", options = {} } = {}) {
  if (process.env.REFERENCE === "1") {
    const child = fork(fileURLToPath(new URL("reference.mjs", import.meta.url)), [kind, JSON.stringify(options)]);
    const [{ url }] = await nextEvent(child, "message");
    const gone = new Promise((resolve) => child.once("exit", resolve));
    return { url, urls: [url], pid: child.pid, isReference: true, stop: () => (child.kill("SIGKILL"), gone) };
  }
  const url = process.env[variable];
  if (!url) throw new Error(`${variable} is not set (the address of a running server, or REFERENCE=1 for the npm one)`);
  // The nodes of a cluster, where there are several.
  const urls = process.env.GATEWAY_URLS?.split(" ") ?? [url.replace(/\/$/, "")];
  return { url: urls[0], urls, pid: Number(process.env.GATEWAY_PID), isReference: false, stop: async () => {} };
}
