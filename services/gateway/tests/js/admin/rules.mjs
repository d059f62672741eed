// Rules that are put on one node are in force on all, whatever each was started with, until they are deleted.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { ready, startNode } from "../cluster/setup.mjs";
import { onEnd } from "../lib/cleanup.mjs";
import { ask, client, connected } from "../lib/clients.mjs";
import { request } from "../lib/http.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { get } from "./setup.mjs";

const WEBSOCKET = { transports: ["websocket"] };
const says = (answer, namespace = "/") => `[[on]]\nevent = "hi"\nnamespace = ["/", "${namespace}"]\ndo = [{ ack = "${answer}" }]\n`;
const unknown = { ok: false, error: "unknown-event" };

/** Sends rules, or has them deleted. */
async function send(node, method, text, headers = {}) {
  const { status, body } = await request(node.adminUrl, method, "/admin/v1/rules", { headers: { "content-type": "application/toml", ...headers }, body: text });
  return { status, body: JSON.parse(body) };
}

/** A node that leaves at once, and leaves nothing, when it is told to end. */
async function fresh(redis, flags = []) {
  const node = await startNode(redis, ["--drain-delay", "0", "--drain-timeout", "0", ...flags]);
  await ready(node);
  return node;
}

export function rules(redis, nodes) {
  describe("rules of the cluster", () => {
    it("are taken by all nodes, by those that start later, and over a file, until they are deleted", async () => {
      const folder = await mkdtemp(path.join(tmpdir(), "rules-"));
      onEnd(() => rm(folder, { recursive: true, force: true }));
      const file = path.join(folder, "rules.toml");
      await writeFile(file, says("file"));
      const all = [...nodes, await fresh(redis, ["--rules", file])];
      const before = await get(all[0], "rules");
      assert.deepEqual([before.source, before.count], ["built-in", before.text.match(/^\[\[on\]\]$/gm).length]);
      assert.match(before.text, /event = "join-room"/);
      assert.equal((await get(all[3], "rules")).source, "file");
      const people = await Promise.all(all.map(({ url }) => connected(url, WEBSOCKET)));
      const answers = () => Promise.all(people.map((socket) => ask(socket, "hi")));
      assert.deepEqual(await answers(), [unknown, unknown, unknown, "file"]);
      const settled = async (expected) => until(async () => JSON.stringify(await answers()) === JSON.stringify(expected), `all answer ${expected}`);

      const put = await send(all[1], "PUT", says("one", "/other"));
      const { version } = put.body;
      assert.deepEqual([put.status, version > before.version], [200, true]);
      await settled(["one", "one", "one", "one"]);
      // The vocabulary is not served beside them, and namespaces are theirs.
      assert.deepEqual(await ask(people[0], "join", "room"), unknown);
      const elsewhere = await connected(`${all[2].url}/other`, WEBSOCKET);
      assert.equal(await ask(elsewhere, "hi"), "one");
      for (const node of all) assert.deepEqual(await get(node, "rules"), { source: "cluster", version, count: 1, text: says("one", "/other") });

      const wrong = await send(all[0], "PUT", '[[on]]\nevent = "hi"\ndo = [{ acks = 1 }, { call = "app" }, { emit = ["x"] }]\n');
      assert.deepEqual([wrong.status, wrong.body.code], [400, "wrong-rules"]);
      assert.equal(wrong.body.detail, 'line 3, column 7: there is no action "acks" (did you mean "ack"?)\nline 3, column 39: emit does not say to whom (add to = "room-but-me", "room", "me", "everyone" ...)');
      const hookless = await send(all[0], "PUT", '[[on]]\nevent = "hi"\ndo = [{ call = "app" }]\n');
      assert.equal(hookless.body.detail, 'line 3, column 16: there is no hook "app" (configure it: --hook app=https://...)');
      assert.equal((await send(all[0], "PUT", "")).status, 400);
      const late = await send(all[0], "PUT", says("late"), { "if-match": `"${version - 1}"` });
      assert.deepEqual([late.status, late.body.code], [412, "changed"]);
      assert.equal((await send(all[0], "PUT", says("late"), { "if-match": "three" })).status, 400);
      assert.deepEqual(await answers(), ["one", "one", "one", "one"]);

      // A file that is read again does not count as long as they are in force; a Redis that forgets is told again.
      await writeFile(file, says("new file"));
      all[3].child.kill("SIGHUP");
      await redis.ask("FLUSHALL");
      const newcomer = await fresh(redis);
      await until(async () => (await get(newcomer, "rules")).version === version, "a node that starts later takes them");
      assert.equal(await ask(await connected(newcomer.url, WEBSOCKET), "hi"), "one");
      await until(async () => {
        const { status, body } = await send(all[2], "PUT", says("two"), { "if-match": `"${version}"` });
        return status === 200 && body.version === version + 1;
      }, "Redis has them again");
      await settled(["two", "two", "two", "two"]);
      const [refused] = await nextEvent(client(`${all[2].url}/other`, WEBSOCKET), "connect_error");
      assert.equal(refused.message, "Invalid namespace");

      assert.equal((await send(all[0], "DELETE")).body.version, version + 2);
      await settled([unknown, unknown, unknown, "new file"]);
      assert.equal((await ask(people[0], "join", "room")).ok, true);
      assert.deepEqual((await Promise.all(all.map((node) => get(node, "rules")))).map(({ source }) => source), ["built-in", "built-in", "built-in", "file"]);
      for (const node of [all[3], newcomer]) {
        node.signal("SIGTERM");
        await node.exited;
      }
      // Those that are gone are named for a few seconds.
      await until(async () => (await get(nodes[1], "cluster")).partial.length === 0, "the others have forgotten them");
    });
  });
}
