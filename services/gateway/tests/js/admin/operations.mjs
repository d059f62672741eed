// Long operations: every node knows of them, and any node begins and stops them.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { client, connected, record } from "../lib/clients.mjs";
import { onEnd } from "../lib/cleanup.mjs";
import { PeerSocket, socketUrl } from "../lib/peer-socket.mjs";
import { startGateway } from "../lib/peer-servers.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { Redis, health, metric, ready, startNode, startNodes } from "../cluster/setup.mjs";
import { call, get, listAll } from "./setup.mjs";

const websocket = { transports: ["websocket"] };

async function begin(node, path, body) {
  const { status, body: operation } = await call(node, "POST", `/admin/v1/${path}`, { body });
  assert.equal(status, 200, JSON.stringify(operation));
  assert.equal(operation.status, "running");
  return operation;
}

const stop = (node, id) => call(node, "DELETE", `/admin/v1/operations/${id}`);

/** Until an operation has one of these states, as another node tells it. */
async function reached(node, id, ...states) {
  let operation;
  await until(async () => states.includes((operation = await get(node, `operations/${id}`)).status), `${states}`);
  return operation;
}

const admin = (node, ...flags) => JSON.parse(execFileSync(process.env.GATEWAY_BIN, ["admin", ...flags, "--url", node.adminUrl]).toString());

export function longOperations(redis, nodes) {
  describe("operations of the admin API", () => {
    it("a rebalance that is stopped sends nobody away any more, and never a PeerServer client", async () => {
      // Clients of other tests have been there longer, and would go first.
      const nodes = await startNodes(redis, 3, ["--redis-prefix", "rebalanced"]);
      // All of them come back to the node that they were on.
      const crowd = await Promise.all(Array.from({ length: 30 }, () => client(nodes[0].url, { ...websocket, reconnection: true })));
      await until(() => crowd.every(({ connected }) => connected), "they are there");
      const lost = crowd.map((socket) => record(socket, "disconnect"));
      const peer = new PeerSocket(socketUrl(nodes[0].url, { key: "peerjs", id: "stays", token: "t" }));
      assert.ok(await peer.until(() => peer.messages[0]?.type === "OPEN"));

      const { id } = await begin(nodes[1], "rebalance", { rate: 4 });
      const again = await call(nodes[2], "POST", "/admin/v1/rebalance", { body: { rate: 4 } });
      assert.deepEqual([again.status, again.body.code], [409, "operation-runs"]);
      await until(async () => (await get(nodes[2], `operations/${id}`)).done >= 4, "some are sent away");
      const running = await get(nodes[0], `operations/${id}`);
      assert.deepEqual([running.kind, running.rate, running.nodes.length, running.startedBy], ["rebalance", 4, 3, "loopback"]);
      assert.ok(running.total > running.done, JSON.stringify(running));
      const stopping = await stop(nodes[2], id);
      assert.ok(["stopping", "stopped"].includes(stopping.body.status), JSON.stringify(stopping.body));
      const stopped = await reached(nodes[0], id, "stopped");
      assert.ok(stopped.done < 30 && stopped.endedAt >= stopped.startedAt, JSON.stringify(stopped));
      assert.deepEqual((await stop(nodes[1], id)).body, stopped, "it stays as it is");
      await until(() => crowd.every(({ connected }) => connected), "they are back");
      assert.equal(lost.flat().length, stopped.done);
      // The oldest have their turn first: nobody went twice.
      assert.deepEqual(lost.filter((list) => list.length > 1), []);
      assert.deepEqual(new Set(lost.flat().map(([reason]) => reason)), new Set(["transport close"]));
      assert.equal(await metric(nodes[0], "signalbox_rebalanced_total"), stopped.done);
      assert.equal(await metric(nodes[1], "signalbox_rebalance_left"), 0);
      assert.equal(peer.closed, undefined);
      assert.equal(admin(nodes[1], "operations").items[0].id, id);
      assert.equal(admin(nodes[1], "operations", id).status, "stopped");
      // Those that fit everything that is asked for, in pages, the latest first.
      const last = await begin(nodes[2], "rebalance", { rate: 4 });
      await stop(nodes[0], last.id);
      await reached(nodes[2], last.id, "stopped");
      const ids = async (parameters) => (await listAll(nodes[1], "operations", parameters)).map((one) => one.id);
      for (const parameters of [{}, { limit: 1 }, { kind: "rebalance", limit: 1 }]) assert.deepEqual(await ids(parameters), [last.id, id]);
      assert.deepEqual([await ids({ node: stopped.runner }), await ids({ node: last.runner, status: "stopped" })], [[id], [last.id]]);
      assert.deepEqual([await ids({ kind: "drain" }), await ids({ status: "running" }), await ids({ node: "nobody" })], [[], [], []]);
      assert.deepEqual(admin(nodes[0], "operations", "--kind", "rebalance", "--status", "stopped").items.at(-1).id, id);
      assert.deepEqual(admin(nodes[0], "operations", "--kind", "drain").items, []);
      for (const [name, value] of [["kind", "dance"], ["status", "over"], ["limit", "0"], ["after", "x"]]) {
        const { status, body } = await call(nodes[0], "GET", `/admin/v1/operations?${name}=${value}`);
        assert.deepEqual([status, body.parameter], [400, name]);
      }
      for (const socket of crowd) socket.disconnect();
      await Promise.all(nodes.map((node) => node.stop()));
    });

    it("are refused where they cannot be meant, and a cluster of one has nothing to do", async () => {
      for (const [path, body, status, code] of [
        ["rebalance", { rate: 0 }, 400, "bad-parameter"], ["rebalance", { rate: 10_001 }, 400, "bad-parameter"], ["rebalance", { speed: 1 }, 400, "malformed"],
        ["nodes/nobody/drain", undefined, 404, "not-found"],
      ]) {
        const answer = await call(nodes[0], "POST", `/admin/v1/${path}`, { body });
        assert.deepEqual([answer.status, answer.body.code], [status, code], path);
      }
      for (const method of ["GET", "DELETE"]) assert.equal((await call(nodes[0], method, "/admin/v1/operations/nothing")).status, 404);
      const alone = await startGateway(["--workers", "1"]);
      onEnd(() => alone.stop());
      const { id } = await begin(alone, "rebalance", {});
      assert.match((await reached(alone, id, "done")).detail, /no other node/);
      const drain = await begin(alone, `nodes/${(await get(alone, "cluster")).answeredBy}/drain`);
      assert.equal((await alone.exited).code, 0, drain.id);
    });

    it("one that may have begun is begun once, when it is asked for again", async () => {
      const redis = await Redis.start();
      const node = await startNode(redis, ["--node-id", "late"]);
      await ready(node);
      const timed = async (method, path, body, key) => {
        const [began, headers] = [performance.now(), key === undefined ? {} : { "idempotency-key": key }];
        const answer = await call(node, method, `/admin/v1/${path}`, { body, headers });
        return { ...answer, took: performance.now() - began };
      };
      // Redis does what it is told when this is over.
      await redis.ask("CLIENT PAUSE 2500 WRITE");
      const late = await Promise.all([timed("POST", "rebalance", { rate: 7 }, "late"), timed("POST", "revoke", { tokenId: "nobody's" })]);
      assert.match(late[0].body.detail, /may have begun/);
      for (const { status, took, body } of late) assert.ok(status === 503 && took < 2_400, `${took} ms: ${JSON.stringify(body)}`);
      let again;
      await until(async () => (again = await timed("POST", "rebalance", { rate: 7 }, "late")).status === 200, "Redis answers");
      const { id } = again.body;
      assert.equal((await timed("POST", "rebalance", { rate: 7 }, "late")).body.id, id);
      await reached(node, id, "done");
      assert.deepEqual((await get(node, "operations")).items.map((one) => one.id), [id]);
      await node.stop();
    });

    it("a drain says how far it is, and can be stopped: the node takes clients again", async () => {
      const node = await startNode(redis, ["--node-id", "drained", "--drain-delay", "300", "--drain-timeout", "9000"]);
      await ready(node);
      const crowd = await Promise.all(Array.from({ length: 12 }, () => connected(node.url, websocket)));
      const { id } = await begin(nodes[0], "nodes/drained/drain");
      const twice = await call(nodes[1], "POST", "/admin/v1/nodes/drained/drain");
      assert.deepEqual([twice.status, twice.body.code], [409, "operation-runs"]);
      await until(async () => (await get(nodes[1], `operations/${id}`)).done > 0, "some are gone");
      assert.equal((await get(nodes[2], "nodes/drained")).node.status, "draining");
      assert.equal((await health(node)).code, 503);
      assert.equal((await stop(nodes[2], id)).status, 200);
      const stopped = await reached(nodes[1], id, "stopped");
      assert.deepEqual([stopped.total, stopped.done < 12], [12, true], JSON.stringify(stopped));
      await ready(node);
      assert.equal((await get(nodes[2], "nodes/drained")).node.status, "online");
      await connected(node.url, websocket);
      assert.ok(crowd.some(({ connected }) => connected));

      for (const socket of crowd) socket.disconnect();
      // A signal has a drain go on, and nobody stops it then.
      const few = await Promise.all(Array.from({ length: 3 }, () => connected(node.url, websocket)));
      const cut = few.map((socket) => nextEvent(socket, "disconnect").then(() => performance.now()));
      const last = admin(nodes[0], "drain", "drained");
      assert.deepEqual([last.kind, last.status, last.runnerName], ["drain", "running", "drained"]);
      await until(async () => (await health(node)).code === 503, "it has begun");
      const signalled = performance.now();
      node.signal("SIGTERM");
      await until(async () => (await get(nodes[1], `operations/${last.id}`)).detail !== last.detail, "it goes on");
      assert.equal(admin(nodes[2], "operations", last.id, "--stop").status, "stopping");
      assert.equal((await node.exited).code, 0);
      const times = (await Promise.all(cut)).map((at) => at - signalled);
      assert.ok(Math.max(...times) > 1_500, `${times} ms`);
      const done = await reached(nodes[1], last.id, "done");
      assert.equal(done.done, done.total, JSON.stringify(done));
      for (const other of nodes) await until(async () => (await get(other, "cluster")).partial.length === 0, "it is not asked any more");
    });
  });
}
