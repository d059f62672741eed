// A node that does not answer is named, and nobody waits for it.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { ask, connected, record } from "../lib/clients.mjs";
import { until } from "../lib/wait.mjs";
import { ready, startNode } from "../cluster/setup.mjs";
import { call, get, operations } from "./setup.mjs";

/** The stated time for an answer is two seconds; the machine may be busy. */
const ANSWER_MS = 3 * 2_000;

/** How long the acknowledgement of a batch is waited for, which does not come. */
const ACK_MS = 300;

/** Two questions after one another take as long, if the paused node is waited for each time. */
const TWO_ANSWERS_MS = 2 * 1_700;

/** Several events, of which each has to be looked for on every node, and an acknowledgement among them that is waited for. */
async function batch(node, socket) {
  const to = { sockets: [socket] };
  const quiet = { to, event: "quiet", ack: { timeout: ACK_MS } };
  const events = [1, 2, 3, 4, 5].map((number) => ({ to: { ...to, subjects: ["nobody"] }, event: "numbered", args: [number] }));
  const began = performance.now();
  const answer = await call(node, "POST", "/admin/v1/batch", { body: { events: [...events.slice(0, 2), quiet, ...events.slice(2)] } });
  return { took: performance.now() - began, ...answer };
}

/** Changes that bear keys, one after the other: a join, a drain of the node that is paused, and that it is stopped. */
async function changes(node, paused, socket) {
  const answers = [];
  const change = async (method, path, body) => {
    const began = performance.now();
    const answer = await call(node, method, `/admin/v1/${path}`, { body, headers: { "idempotency-key": `partial-${answers.length}` } });
    answers.push({ path, took: performance.now() - began, ...answer });
    return answer.body;
  };
  await change("POST", "join", { to: { sockets: [socket] }, rooms: ["changed"] });
  const { id } = await change("POST", `nodes/${paused}/drain`);
  await change("DELETE", `operations/${id}`);
  return answers;
}

export function partial(redis, nodes) {
  describe("a partial answer of the admin API", () => {
    it("names a node that is paused, in every list and in time", async () => {
      const socket = await connected(nodes[1].url, { transports: ["websocket"] });
      await ask(socket, "join", "partial", {});
      // Operations are kept in Redis, so no node is asked for them. Who listens is told by a marker: events.test.mjs. Rules are everywhere the
      // same.
      const asksNodes = ({ method, path, scope }) =>
        method === "GET" && scope === "read" && !path.includes("/operations") && !/\/(caller|events|rules)$/.test(path);
      const lists = [...(await operations(nodes[1])).filter(asksNodes), { path: "/admin/v1/rooms?order=members" }];
      // A node without a link yet would be unreachable.
      await until(async () => (await get(nodes[1], "nodes")).items.length === 3, "it has links to the others");
      const before = (await get(nodes[0], "cluster")).answeredBy;
      await nodes[0].freeze();
      try {
        const began = performance.now();
        const looks = Promise.all(lists.map(async ({ path }) => ({ path, ...(await call(nodes[1], "GET", path)) })));
        const numbered = record(socket, "numbered");
        const [answers, change, sent] = await Promise.all([looks, changes(nodes[1], before, socket.id), batch(nodes[1], socket.id)]);
        assert.ok(performance.now() - began < ANSWER_MS, `${performance.now() - began} ms`);
        for (const { path, status, body } of answers) {
          // What is one thing, and found nowhere, might be there.
          const isOneThing = /\/(nodes|sockets|peers)\/x$/.test(path);
          if (path.endsWith("/nodes/x")) {
            assert.equal(status, 404);
            continue;
          }
          assert.equal(status, isOneThing ? 503 : 200, `${path}: ${JSON.stringify(body)}`);
          assert.deepEqual(body.partial.map(({ node, reason }) => [node, reason]), [[before, "timeout"]], path);
        }
        const rooms = answers.find(({ path }) => path.endsWith("/rooms")).body.items;
        assert.deepEqual(rooms.filter(({ name }) => name === "partial").map(({ members }) => members), [1]);
        // Whoever asks whether a request was done before, and then for it, waits no longer than for one answer.
        for (const { path, status, took } of change) {
          assert.equal(status, 200, path);
          assert.ok(took < TWO_ANSWERS_MS, `${path}: ${took} ms`);
        }
        // A batch waits once for the paused node, and everybody else has all of it, in order.
        assert.equal(sent.status, 200, JSON.stringify(sent.body));
        assert.ok(sent.took < TWO_ANSWERS_MS + ACK_MS, `the batch: ${sent.took} ms`);
        assert.deepEqual(sent.body.results.map(({ sockets, partial }) => [sockets, ...partial.map(({ node, reason }) => `${node} ${reason}`)]),
          Array(6).fill([1, `${before} timeout`]));
        await until(() => numbered.length === 5, "the events of the batch have come");
        assert.deepEqual(numbered, [[1], [2], [3], [4], [5]]);
        const [joined, begun, stopped] = change.map(({ body }) => body);
        assert.deepEqual([joined.done, joined.partial.map(({ node }) => node)], [1, [before]]);
        assert.deepEqual([begun.runner, stopped.id, stopped.status], [before, begun.id, "stopping"]);
        // What does not need the paused node does not wait for it.
        const { items: [{ node }] } = await get(nodes[1], "sockets", { room: "partial" });
        assert.deepEqual((await get(nodes[2], "sockets", { room: "partial", node })).partial, []);
      } finally {
        nodes[0].signal("SIGCONT");
      }
      await until(async () => (await get(nodes[1], "cluster")).partial.length === 0, "all nodes answer again");
      const isOver = async () => (await get(nodes[1], "operations")).items.every(({ endedAt }) => endedAt !== undefined);
      await until(isOver, "the drain that was stopped has not begun");
      assert.equal((await get(nodes[1], "nodes")).items.length, 3);
    });

    it("names a node of the previous format, which knows no such question", async () => {
      const previous = await startNode(redis, ["--node-id", "previous"], process.env.PREVIOUS_BIN);
      await ready(previous);
      await until(async () => (await get(nodes[1], "cluster")).nodes === 4, "the others know it");
      const { items, partial: missing } = await get(nodes[1], "nodes");
      assert.deepEqual([items.length, missing.map(({ name, reason }) => [name, reason])], [3, [["previous", "format"]]]);
      const socket = await connected(previous.url, { transports: ["websocket"] });
      assert.equal((await ask(socket, "join", "partial", {})).ok, true);
      const drain = await call(nodes[1], "POST", "/admin/v1/nodes/previous/drain");
      assert.deepEqual([drain.status, drain.body.code], [409, "older-node"]);
      await previous.stop();
    });
  });
}
