// Two servers of one's own (crates/node/examples/handlers.rs) that are a cluster: a handler goes on with its socket while the client's session
// moves to the other node. Starts everything itself; HANDLERS_BIN names the example.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { balance, Redis } from "./cluster/setup.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { client, connected, record } from "./lib/clients.mjs";
import { request } from "./lib/http.mjs";
import { PeerSocket } from "./lib/peer-socket.mjs";
import { PollingSession } from "./lib/polling.mjs";
import { TcpProxy } from "./lib/proxy.mjs";
import { nextEvent, until, within } from "./lib/wait.mjs";

const CLIENTS = 8;
// Until then a client has upgraded, also on a busy machine: in a new cluster sessions move after five seconds.
const LATER_MS = 8_000;
/** How many large answers are on their way to a node that stands still. */
const ANSWERS = Number(process.env.ANSWERS ?? 0);

after(closeAll);

async function start(redis) {
  const child = spawn(process.env.HANDLERS_BIN, { env: { ...process.env, REDIS_URL: redis.url }, stdio: ["ignore", "pipe", "inherit"] });
  onEnd(() => child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stdout })) {
    const url = / listening public=(\S+)/.exec(line)?.[1];
    if (url) return { url, signal: (signal) => child.kill(signal) };
  }
  throw new Error("the example does not start");
}

/** Two nodes on a Redis of their own. */
async function cluster() {
  const redis = await Redis.start();
  const nodes = [await start(redis), await start(redis)];
  // Both know each other when what one says is heard at the other.
  const [here, there] = await Promise.all(nodes.map(({ url }) => connected(url, { transports: ["websocket"] })));
  const notes = record(there, "note");
  await until(() => (here.emit("all", "ready"), notes.length > 0), "they are one cluster");
  return nodes;
}

async function metric({ url }, name) {
  const { body } = await request(url, "GET", "/metrics");
  const lines = body.split("\n").filter((line) => line.startsWith(name));
  return lines.length === 0 ? 0 : Number(lines[0].split(" ")[1]);
}

/** A client that a handler of one node has asked something, and whose session is on its way to the other; `answer` takes JSON. */
async function asked(here, there) {
  const session = await PollingSession.join(here.url);
  await session.post('42["call-me-whenever","nobody hurries"]');
  const question = await session.poll((packet) => packet.includes('"question"'), "the client is asked");
  const id = /^42(\d+)\[/.exec(question)[1];
  const upgrade = new PeerSocket(`${there.url.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket&sid=${session.sid}`);
  assert.ok(await upgrade.until(() => upgrade.isOpen));
  upgrade.send("2probe");
  assert.ok(await upgrade.until(() => upgrade.texts.includes("3probe")));
  upgrade.send("5");
  return { answer: (json) => upgrade.send(`43${id}[${json}]`) };
}

// They wait for the most part.
describe("servers of one's own that are a cluster", { concurrency: true }, () => {
  it("a handler joins, asks, leaves and disconnects a socket whose session has moved to another node", async () => {
    const nodes = await cluster();

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
    const moved = await Promise.all(nodes.map((node) => metric(node, "signalbox_session_transfers_total")));
    assert.ok(moved[0] + moved[1] > 0, "the balancer has sent WebSockets to the other node");
  });

  it("a handler that waits for an answer is told once the client's new node is dead", async () => {
    const [here, there] = await cluster();
    const lost = 'signalbox_acks_lost_total{reason="disconnected"}';
    await asked(here, there);
    await until(async () => (await metric(there, "signalbox_session_transfers_total")) === 1, "its session has moved");
    assert.equal(await metric(here, lost), 0);
    there.signal("SIGKILL");
    await until(async () => (await metric(here, lost)) === 1, "the handler is told", 3 * 15_000);
  });

  // So much that neither the queue of the link nor the sockets take it.
  it("answers come by another way when too much waits for the node of who has asked", { skip: ANSWERS === 0 }, async () => {
    const [here, there] = await cluster();
    const clients = [];
    for (let n = 0; n < ANSWERS; n++) clients.push(await asked(here, there));
    await until(async () => (await metric(there, "signalbox_session_transfers_total")) === ANSWERS, "all have moved");
    here.signal("SIGSTOP");
    for (const { answer } of clients) answer(JSON.stringify("x".repeat(900_000)));
    await pause(2_500);
    here.signal("SIGCONT");
    await until(async () => (await metric(here, 'signalbox_ack_seconds_count{of="client"}')) === ANSWERS, "all answers have come");
    assert.equal(await metric(there, 'signalbox_acks_lost_total{reason="undelivered"}'), 0);
  });
});
