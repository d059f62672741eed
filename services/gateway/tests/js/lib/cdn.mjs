// The public CDN, as the tests have it: jsdelivr serves the files of npm packages as they are.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";

export const CDN = "https://cdn.jsdelivr.net/";
const MODULES = path.join(path.dirname(createRequire(import.meta.url).resolve("socket.io-client/package.json")), "..");

/** The bytes that the CDN has at an address; an error where the package at hand is of another version, or has no such file. */
export async function atCdn(url) {
  const [, name, version, file] = /^https:\/\/cdn\.jsdelivr\.net\/npm\/([^@/]+)@([^/]+)\/(.+)$/.exec(url) ?? [];
  if (!name) throw new Error(`no file of an npm package: ${url}`);
  const installed = JSON.parse(await readFile(path.join(MODULES, name, "package.json"), "utf8")).version;
  if (installed !== version) throw new Error(`${url}: ${name} ${installed} is installed`);
  return readFile(path.join(MODULES, name, file));
}
