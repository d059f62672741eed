// What happens in a cluster of three gateways on one Redis, as whoever listens at any of them is told. Starts everything itself; GATEWAY_BIN
// names the gateway.
import { execFileSync } from "node:child_process";
import net from "node:net";
import { after, test } from "node:test";
import assert from "node:assert/strict";
import { Redis, ready, startNode, startNodes } from "./cluster/setup.mjs";
import { call, get } from "./admin/setup.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, client, connected } from "./lib/clients.mjs";
import { Listener } from "./lib/events.mjs";
import { startGateway } from "./lib/peer-servers.mjs";
import { PeerSocket, socketUrl } from "./lib/peer-socket.mjs";
import { PollingSession } from "./lib/polling.mjs";
import { until } from "./lib/wait.mjs";

const websocket = { transports: ["websocket"] };
const LIMITS = ["--events-per-second", "off", "--bytes-per-second", "off"];

const redis = await Redis.start();
const nodes = await startNodes(redis, 3, ["--max-payload", "20000", "--outbox-limit", "100000", ...LIMITS]);
const ids = await Promise.all(nodes.map(async (node) => (await get(node, "cluster")).answeredBy));
after(closeAll);

const peerUrl = (node, id) => socketUrl(node.url, { key: "peerjs", id, token: "t" });
const kinds = (events) => events.map(({ kind }) => kind);

test("everything that happens to a client of another node is told, in its order", async () => {
  const listener = await Listener.start(nodes[0]);
  const socket = await connected(nodes[1].url, websocket);
  await ask(socket, "join", "told", {});
  await ask(socket, "join", "told", { again: true });
  assert.equal((await ask(socket, "no-such-event")).error, "unknown-event");
  await ask(socket, "leave", "told");
  await ask(socket, "join", "left behind", {});
  const { id } = socket;
  socket.disconnect();
  const [gone] = await listener.heard({ kind: "disconnect", socket: id });
  const told = listener.events.filter((event) => event.socket === id);
  assert.deepEqual(kinds(told), ["connect", "join", "refuse", "leave", "join", "leave", "disconnect"]);
  for (const event of told) assert.deepEqual([event.node, event.nodeName, event.namespace, event.protocol], [ids[1], ids[1], "/", "socketio"]);
  assert.deepEqual([told[0].address, told[1].room, told[2].reason, told[2].event, gone.reason], ["127.0.0.1", "told", "unknown-event", "no-such-event", "client namespace disconnect"]);
  assert.ok(told.every(({ at }) => Math.abs(at - Date.now()) < 60_000));
  assert.equal(new Set(listener.events.map(({ id: own }) => own)).size, listener.events.length);

  const first = new PeerSocket(peerUrl(nodes[1], "told-peer"));
  assert.ok(await first.until(() => first.messages.some(({ type }) => type === "OPEN")));
  const [claim] = await listener.heard({ kind: "claim", peer: "told-peer" });
  assert.deepEqual([claim.key, claim.protocol, claim.node], ["peerjs", "peerserver", ids[1]]);
  const second = new PeerSocket(peerUrl(nodes[2], "told-peer"));
  assert.ok(await second.until(() => second.messages.some(({ type }) => type === "OPEN")));
  const [, again] = await listener.heard({ kind: "claim", peer: "told-peer" }, 2);
  assert.ok(again.generation > claim.generation);
  const [released] = await listener.heard({ kind: "release", peer: "told-peer" });
  assert.deepEqual([released.reason, released.generation], ["superseded", claim.generation]);
  second.terminate();
  await listener.heard({ kind: "release", peer: "told-peer", generation: again.generation });
  listener.stop();
});

test("a filter leaves only what fits it", async () => {
  const room = await Listener.start(nodes[0], { room: "wanted", kinds: "join,leave" });
  const node = await Listener.start(nodes[1], { node: ids[2], kinds: "connect" });
  const here = await connected(nodes[1].url, websocket);
  const there = await connected(nodes[2].url, websocket);
  for (const name of ["other", "wanted", "third"]) await ask(there, "join", name, {});
  await ask(here, "join", "wanted", {});
  await ask(there, "leave", "wanted");
  await room.heard({ kind: "leave" });
  await room.heard({ kind: "join" }, 2);
  const told = room.events.map(({ kind, socket }) => `${kind} ${socket}`);
  // Only what happens at one node is in order.
  assert.deepEqual(told.toSorted(), [`join ${here.id}`, `join ${there.id}`, `leave ${there.id}`].toSorted());
  assert.ok(told.indexOf(`join ${there.id}`) < told.indexOf(`leave ${there.id}`));
  await node.heard({ kind: "connect" });
  assert.deepEqual(node.events.map(({ socket }) => socket), [there.id]);
  for (const [parameters, parameter] of [[{ kinds: "nonsense" }, "kinds"], [{ kinds: "resync" }, "kinds"], [{ room: "x".repeat(2000) }, "filter"]]) {
    const { status, body } = await call(nodes[0], "GET", `/admin/v1/events?${new URLSearchParams(parameters)}`);
    assert.deepEqual([status, body.parameter], [400, parameter]);
  }
  assert.equal((await call(nodes[0], "GET", "/admin/v1/events?roomm=a")).body.code, "bad-parameter");
  [here, there].forEach((socket) => socket.disconnect());
  [room, node].forEach((listener) => listener.stop());
});

test("whoever was cut off goes on where it was, or is told to look anew", async () => {
  const first = await Listener.start(nodes[0], { kinds: "connect,disconnect" });
  const before = await connected(nodes[1].url, websocket);
  await first.heard({ kind: "connect", socket: before.id });
  first.stop();
  await until(() => first.hasEnded, "it is cut off");
  const missed = await connected(nodes[2].url, websocket);
  // Everything that has come to the node meanwhile is behind what this one hears.
  const probe = await Listener.start(nodes[0]);
  const marker = await connected(nodes[0].url, websocket);
  await probe.heard({ kind: "connect", socket: marker.id });
  await until(async () => {
    const back = await Listener.start(nodes[0], { kinds: "connect,disconnect" }, { lastId: first.lastId });
    await back.heard({ kind: "connect", socket: marker.id });
    back.stop();
    assert.ok(!kinds(back.events).includes("resync") && !back.events.some(({ socket }) => socket === before.id));
    return back.events.some(({ socket }) => socket === missed.id);
  }, "what was missed is told");
  // Another node has another order.
  for (const [node, lastId] of [[nodes[1], first.lastId], [nodes[0], "long.ago.1"]]) {
    const stranger = await Listener.start(node, {}, { lastId });
    await stranger.heard({ kind: "resync" });
    const next = await connected(nodes[2].url, websocket);
    await stranger.heard({ kind: "connect", socket: next.id });
    assert.equal(kinds(stranger.events)[0], "resync");
    stranger.stop();
  }
  probe.stop();
});

test("a client that moves to another node with its WebSocket is told of", async () => {
  const listener = await Listener.start(nodes[2], { kinds: "connect,transfer" });
  const session = await PollingSession.join(nodes[0].url);
  const upgrade = new PeerSocket(`${nodes[1].url.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket&sid=${session.sid}`);
  assert.ok(await upgrade.until(() => upgrade.isOpen));
  upgrade.send("2probe");
  assert.ok(await upgrade.until(() => upgrade.texts.includes("3probe")));
  upgrade.send("5");
  const [moved] = await listener.heard({ kind: "transfer", socket: session.socketId });
  assert.equal(moved.node, ids[1]);
  upgrade.terminate();
  listener.stop();
});

test("a client that does not read is evicted, and that is told", async () => {
  const listener = await Listener.start(nodes[0], { kinds: "evict,disconnect" });
  const [slow, busy] = [await connected(nodes[1].url, websocket), await connected(nodes[1].url, websocket)];
  await Promise.all([slow, busy].map((socket) => ask(socket, "join", "crowded", {})));
  slow.io.engine.transport.ws._socket.pause();
  const bytes = "x".repeat(19_000);
  const talking = setInterval(() => { for (let n = 0; n < 40; n++) busy.emit("message", "crowded", bytes); }, 20);
  onEnd(() => clearInterval(talking));
  const [evicted] = await listener.heard({ kind: "evict", socket: slow.id }).finally(() => clearInterval(talking));
  assert.deepEqual([evicted.reason, evicted.node, evicted.address], ["slow_reader", ids[1], "127.0.0.1"]);
  await listener.heard({ kind: "disconnect", socket: slow.id, reason: "transport error" });
  busy.disconnect();
  listener.stop();
});

test("a token that is revoked is the reason of a disconnect", async () => {
  const secret = "a secret of the tests, of more than 32 bytes";
  const { claims, hs256 } = await import("./lib/jwt.mjs");
  const node = await startGateway(["--workers", "1", "--auth", "required", "--jwt-secret", secret]);
  onEnd(() => node.stop());
  const admin = hs256(secret, claims({ sub: "ops", signalbox: { admin: ["read", "control"] } }));
  const listener = await Listener.start(node, { subject: "ada" }, { token: admin });
  const ada = await connected(node.url, { ...websocket, auth: { token: hs256(secret, claims({ sub: "ada" })) } });
  // It has none any more once it is gone, which may be before the answer comes.
  const { id } = ada;
  assert.equal((await call(node, "POST", "/admin/v1/revoke", { token: admin, body: { subject: "ada" } })).status, 200);
  await listener.heard({ kind: "disconnect", socket: id, reason: "token revoked" });
  assert.ok(listener.events.every(({ subject }) => subject === "ada"));
  // A client that is not let in at all.
  const refused = await Listener.start(node, { kinds: "refuse" }, { token: admin });
  await assert.rejects(connected(node.url, websocket));
  await refused.heard({ kind: "refuse", reason: "token-missing" });
});

test("a node that is paused is named, and so is its return; what it told meanwhile comes", async () => {
  const listener = await Listener.start(nodes[0]);
  const socket = await connected(nodes[2].url, websocket);
  await listener.heard({ kind: "connect", socket: socket.id });
  await nodes[2].freeze();
  const began = performance.now();
  try {
    const [missing] = await listener.heard({ kind: "missing" });
    assert.deepEqual([missing.node, missing.reason], [ids[2], "timeout"]);
    assert.ok(performance.now() - began < 3 * 3_000);
    // The others are told of all the same; and whoever begins to listen now is not kept waiting, and knows whom to miss.
    const other = await connected(nodes[1].url, websocket);
    await listener.heard({ kind: "connect", socket: other.id });
    const late = await Listener.start(nodes[1]);
    await late.heard({ kind: "missing", node: ids[2] });
    late.stop();
    socket.emit("join", "paused", {});
  } finally {
    nodes[2].signal("SIGCONT");
  }
  await listener.heard({ kind: "back", node: ids[2] });
  await listener.heard({ kind: "join", socket: socket.id, room: "paused" });
  listener.stop();
});

test("without Redis the nodes still tell, and what they lost and have again too", async () => {
  const listener = await Listener.start(nodes[0]);
  await redis.stop();
  for (const node of ids) await listener.heard({ kind: "degraded", node });
  const socket = await connected(nodes[1].url, websocket);
  await listener.heard({ kind: "connect", socket: socket.id });
  await redis.start();
  for (const node of ids) {
    const [online] = await listener.heard({ kind: "online", node });
    assert.ok(online.count > 0);
  }
  socket.disconnect();
  listener.stop();
});

test("nodes come, drain and go, and what happens on a new one is told", async () => {
  const listener = await Listener.start(nodes[0]);
  const fourth = await startNode(redis, ["--node-id", "fourth", "--drain-delay", "2000", "--drain-timeout", "3000"]);
  await ready(fourth);
  const [up] = await listener.heard({ kind: "node-up", nodeName: "fourth" });
  // What happens on a new node is told from its first answer on.
  let socket;
  let id;
  await until(async () => {
    socket?.disconnect();
    socket = await connected(fourth.url, websocket);
    ({ id } = socket);
    const isTold = () => listener.events.some(({ kind, socket: told, node }) => kind === "connect" && told === id && node === up.node);
    for (let n = 0; n < 20 && !isTold(); n += 1) await new Promise((resolve) => setTimeout(resolve, 50));
    return isTold();
  }, "a client on the new node is told of");
  const { body: { id: stopped } } = await call(nodes[1], "POST", "/admin/v1/nodes/fourth/drain");
  await listener.heard({ kind: "drain", reason: "announced" });
  await call(nodes[2], "DELETE", `/admin/v1/operations/${stopped}`);
  const [told] = await listener.heard({ kind: "drain", reason: "stopped" });
  assert.deepEqual([told.nodeName, told.count], ["fourth", 1]);
  await call(nodes[1], "POST", "/admin/v1/nodes/fourth/drain");
  const gone = await listener.heard({ kind: "node-down", nodeName: "fourth" });
  const drain = listener.events.filter(({ kind }) => kind === "drain");
  assert.deepEqual([drain[0].reason, drain[0].count, drain.at(-1).reason, drain.at(-1).count], ["announced", 1, "done", 0]);
  assert.deepEqual(listener.events.filter(({ socket: told }) => told === id).at(-1).reason, "server shutting down");
  assert.equal(gone.length, 1);

  const fifth = await startNode(redis, ["--node-id", "fifth"]);
  await ready(fifth);
  await listener.heard({ kind: "node-up", nodeName: "fifth" });
  await fifth.stop();
  await listener.heard({ kind: "missing", nodeName: "fifth" });
  await listener.heard({ kind: "node-down", nodeName: "fifth" });
  listener.stop();
});

test("a listener that does not read is cut off, and nobody else minds", async () => {
  const other = await Listener.start(nodes[0], { kinds: "refuse" });
  const { hostname, port } = new URL(nodes[0].adminUrl);
  const slow = net.connect(Number(port), hostname);
  onEnd(() => slow.destroy());
  slow.write(`GET /admin/v1/events HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`);
  await new Promise((resolve) => slow.once("data", resolve));
  slow.pause();
  const socket = await connected(nodes[0].url, websocket);
  const name = "n".repeat(250);
  let asked = 0;
  let isCut = false;
  slow.on("close", () => (isCut = true));
  slow.on("error", () => {});
  while (!isCut && asked < 300_000) {
    // Their refusals fit into what may wait for the client.
    for (let n = 0; n < 500; n++) socket.emit(name);
    asked += 500;
    await ask(socket, name);
    // Whether it was cut off shows when something is read.
    if (asked % 20_000 === 0) {
      const connections = await get(nodes[0], "cluster");
      assert.ok(connections.nodes >= 3);
    }
    const { body } = await call(nodes[0], "GET", "/metrics");
    if (Number(/^signalbox_event_listeners (\d+)/m.exec(body)[1]) === 1) break;
  }
  slow.resume();
  await until(() => isCut, "it is cut off");
  assert.ok(asked < 300_000, "it took too much");
  const last = await connected(nodes[1].url, websocket);
  await ask(last, "no-such-event");
  await other.heard({ kind: "refuse", socket: last.id });
  assert.equal(other.hasEnded, false);
  socket.disconnect();
  other.stop();
});

test("over a WebSocket the same is told, to whoever shows a token", async () => {
  const open = await Listener.websocket(nodes[0], { kinds: "connect" });
  const socket = await connected(nodes[1].url, websocket);
  await open.heard({ kind: "connect", socket: socket.id });
  // Where it is told by a ping, too, before anything has happened.
  for (const position of [open.lastId, open.pinged]) assert.match(position, new RegExp(`^${ids[0]}\\.\\d+\\.\\d+$`));
  open.stop();

  const made = (scopes) => {
    const text = execFileSync(process.env.GATEWAY_BIN, ["admin-token", "--name", "ops", "--scopes", scopes]).toString();
    return { token: /(sba_\S+)/.exec(text)[1], setting: /--admin-token-hash (\S+)/.exec(text)[1] };
  };
  const [reads, emits] = [made("read"), made("emit")];
  const node = await startGateway(["--workers", "1", "--admin-token-hash", reads.setting, "--admin-token-hash", emits.setting]);
  onEnd(() => node.stop());
  const bearer = (token) => ["signalbox.events", `bearer.${Buffer.from(token).toString("base64url")}`];
  const listener = await Listener.websocket(node, {}, bearer(reads.token));
  assert.equal(listener.socket.protocol, "signalbox.events");
  const seen = await connected(node.url, websocket);
  await listener.heard({ kind: "connect", socket: seen.id });
  await assert.rejects(Listener.websocket(node, {}, bearer(emits.token)), /403/);
  await assert.rejects(Listener.websocket(node, {}, bearer(`${reads.token}x`)), /401/);
  await assert.rejects(Listener.websocket(node), /401/);
  // The subprotocol is for WebSockets alone.
  const { status } = await call(node, "GET", "/admin/v1/nodes", { headers: { "sec-websocket-protocol": bearer(reads.token).join(", ") } });
  assert.equal(status, 401);
  // Whoever sends much is not kept.
  listener.socket.send("x".repeat(100_000));
  await until(() => listener.hasEnded, "it is cut off");
});

test("so many may listen, and no more", async () => {
  const listeners = await Promise.all(Array.from({ length: 32 }, () => Listener.start(nodes[2])));
  assert.equal((await call(nodes[2], "GET", "/admin/v1/events")).status, 503);
  listeners.forEach((listener) => listener.stop());
  await until(() => Listener.start(nodes[2]).then((listener) => (listener.stop(), true), () => false), "there is room again");
});
