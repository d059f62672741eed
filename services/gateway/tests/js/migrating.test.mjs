// The chat of docs/migrating.md, before and after: both versions are read from the page. The first runs against npm's socket.io with the
// server that stands there (REFERENCE=1), the second against the gateway. What people see is the same.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { Server } from "socket.io";
import { io as connect } from "socket.io-client";
import { until } from "./lib/wait.mjs";

const page = await readFile(new URL("../../../../docs/migrating.md", import.meta.url), "utf8");
const found = (pattern) => pattern.exec(page)?.[1] ?? assert.fail(`docs/migrating.md has no ${pattern}`);
const SERVER = found(/The server in Node:\n\n```js\n([^]+?)```/);
const DIFF = found(/Its server is gone:\n\n```diff\n([^]+?)```/);

/** One side of the difference, as a module. */
const side = (sign) => DIFF.split("\n").filter((line) => line[0] === " " || line[0] === sign).map((line) => line.slice(1)).join("\n");
const load = (source) => import(`data:text/javascript,${encodeURIComponent(source)}`);

const isReference = process.env.REFERENCE === "1";
const { chat } = await load(side(isReference ? "-" : "+"));

async function startServer() {
  if (!isReference) return process.env.GATEWAY_URL;
  const http = createServer();
  const io = new Server(http);
  new Function("io", SERVER)(io);
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  after(() => io.close());
  return `http://127.0.0.1:${http.address().port}`;
}

test("people see each other come, write and go", async () => {
  const url = await startServer();
  const enter = async (name) => {
    const socket = connect(url, { forceNew: true });
    after(() => socket.disconnect());
    const seen = [];
    return { socket, seen, ...(await chat(socket, "garden", name, (line) => seen.push(line))) };
  };
  const shows = (person, line) => until(() => person.seen.includes(line), `"${line}" is shown`);

  const ada = await enter("Ada");
  const bob = await enter("Bob");
  await shows(ada, "Bob is here");
  ada.typing();
  ada.say("hello");
  await shows(bob, "Ada: hello");
  bob.say("good evening");
  await shows(ada, "Bob: good evening");
  bob.socket.disconnect();
  await shows(ada, "Bob has left");

  assert.deepEqual(ada.seen, ["here: ", "Bob is here", "Bob: good evening", "Bob has left"]);
  assert.deepEqual(bob.seen, ["here: Ada", "Ada is typing", "Ada: hello"]);
});
