// Where this server answers otherwise than the npm one, on purpose: the table under "Differences" of docs/socketio.md. A test looks its
// case up here by the first column; what is not in the table has to be equal. `differences.test.mjs` holds that every row has a test.
import { readFileSync } from "node:fs";

const PAGE = new URL("../../../../../docs/socketio.md", import.meta.url);

/** The rows of the page, as {name, reference, ours}. Throws where the page has no such table. */
export function readDifferences() {
  const [, section] = readFileSync(PAGE, "utf8").split("\n## Differences\n");
  if (!section) throw new Error("docs/socketio.md has no section of differences");
  const lines = section.split("\n## ")[0].split("\n").filter((line) => line.startsWith("| "));
  const rows = lines.map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "")));
  const [, ...differences] = rows.map(([name, reference, ours]) => ({ name, reference, ours }));
  if (differences.length === 0 || differences.some(({ ours }) => !ours)) throw new Error("a row of the differences is not whole");
  return differences;
}

const NAMES = new Set(readDifferences().map(({ name }) => name));

/** Whether the case called `name` is answered otherwise by the server under test. */
export function differs(target, name) {
  if (!NAMES.has(name)) throw new Error(`no such difference on the page: ${name}`);
  return !target.isReference;
}
