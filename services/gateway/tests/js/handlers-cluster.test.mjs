// Two servers of one's own (crates/node/examples/handlers.rs) that are a cluster: a handler goes on with its socket while the client's session
// moves to the other node. Starts everything itself; HANDLERS_BIN names the example.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { balance, Redis } from "./cluster/setup.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { client, connected, record } from "./lib/clients.mjs";
import { TcpProxy } from "./lib/proxy.mjs";
import { request } from "./lib/http.mjs";
import { nextEvent, until, within } from "./lib/wait.mjs";

const CLIENTS = 8;
// Until then a client has upgraded, also on a busy machine: in a new cluster sessions move after five seconds.
const LATER_MS = 8_000;

const redis = await Redis.start();
after(closeAll);

async function start() {
  const child = spawn(process.env.HANDLERS_BIN, { env: { ...process.env, REDIS_URL: redis.url }, stdio: ["ignore", "pipe", "inherit"] });
  onEnd(() => child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stdout })) {
    const url = / listening public=(\S+)/.exec(line)?.[1];
    if (url) return { url };
  }
  throw new Error("the example does not start");
}

test("a handler joins, asks, leaves and disconnects a socket whose session has moved to another node", async () => {
  const nodes = [await start(), await start()];
  // Both know each other when what one says is heard at the other.
  const [here, there] = await Promise.all(nodes.map(({ url }) => connected(url, { transports: ["websocket"] })));
  const notes = record(there, "note");
  await until(() => (here.emit("all", "ready"), notes.length > 0), "they are one cluster");

  // Over a network with some delay, the namespace is there before the upgrade.
  const { url } = await TcpProxy.start(await balance(nodes), { delay: 15 });
  const clients = await Promise.all(Array.from({ length: CLIENTS }, async () => {
    const socket = client(url);
    const upgrade = nextEvent(socket.io.engine, "upgrade");
    upgrade.catch(() => {});
    // One is asked before its session moves, and answers after.
    socket.on("question", async (question, answer) => {
      if (question === "moved?") await upgrade;
      answer(`yes, ${question}`);
    });
    await nextEvent(socket, "connect");
    assert.equal(socket.io.engine.transport.name, "polling");
    const [done, gone] = [nextEvent(socket, "later-done"), nextEvent(socket, "disconnect")];
    for (const promise of [done, gone]) promise.catch(() => {});
    socket.emit("later", LATER_MS);
    const answered = record(socket, "answered");
    socket.emit("call-me", LATER_MS, "moved?");
    socket.emit("call-me-whenever", "moved?");
    await upgrade;
    return { socket, done, gone, answered };
  }));
  for (const { socket, done, gone, answered } of clients) {
    const { id } = socket;
    await until(() => answered.length === 2, "both handlers that have asked before have the answers");
    assert.deepEqual(answered, [["yes, moved?"], ["yes, moved?"]], id);
    assert.deepEqual(await done, [true, ["later"], "yes, still there?", true, []], id);
    await within(gone, "it is disconnected");
  }
  const bodies = await Promise.all(nodes.map(({ url }) => request(url, "GET", "/metrics")));
  const moved = bodies.map(({ body }) => Number(/^signalbox_session_transfers_total (\d+)/m.exec(body)[1]));
  assert.ok(moved[0] + moved[1] > 0, "the balancer has sent WebSockets to the other node");
});
