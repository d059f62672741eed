// The page of differences from socket.io is complete and true: each of its rows is what a test of both servers looks up, and passes with.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import { readDifferences } from "./lib/differences.mjs";

/** What runs against both servers. */
const FOLDERS = [".", "engineio", "fixture"];

test("every row of the page has a test, and no row is there twice", async () => {
  const sources = await Promise.all(
    FOLDERS.map(async (folder) => {
      const at = new URL(`${folder}/`, import.meta.url);
      const files = (await readdir(at)).filter((file) => file.endsWith(".mjs") && file !== "differences.test.mjs");
      return files.map((file) => readFileSync(new URL(file, at), "utf8"));
    }),
  );
  const looked = sources.flat().filter((source) => source.includes("differs(")).join("\n");
  const names = readDifferences().map(({ name }) => name);
  assert.deepEqual(names.filter((name) => !looked.includes(`"${name}"`)), [], "rows without a test");
  assert.equal(new Set(names).size, names.length);
});
