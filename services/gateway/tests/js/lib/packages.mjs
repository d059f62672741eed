// Other versions of clients than those in package.json, fetched when a test wants them.

import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Runs a program to its end. Its output is shown when it fails. */
export async function succeed(program, args, options = {}) {
  try {
    return (await run(program, args, { maxBuffer: 1e8, ...options })).stdout;
  } catch (error) {
    throw new Error(`${program} ${args.join(" ")}: ${error.message}\n${error.stdout ?? ""}`);
  }
}

/** A directory that is removed at the end of a test. */
export async function scratch(t) {
  const directory = await mkdtemp(path.join(os.tmpdir(), "signalbox-clients-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Installs a package of npm with what it needs; gives back the directory of its files. */
export async function npmPackage(t, name, version) {
  const directory = await scratch(t);
  await succeed("npm", ["install", "--prefix", directory, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", `${name}@${version}`]);
  return path.join(directory, "node_modules", name);
}
