// A node that dies while sessions move to it and away from it. Starts everything itself; GATEWAY_BIN names the gateway.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { closeAll } from "./lib/cleanup.mjs";
import { client, connected } from "./lib/clients.mjs";
import { PollingSession } from "./lib/polling.mjs";
import { TcpProxy } from "./lib/proxy.mjs";
import { moveTo } from "./lib/upgrading.mjs";
import { until, within } from "./lib/wait.mjs";
import { RawSocket } from "./lib/websocket.mjs";
import { call } from "./admin/setup.mjs";
import { balance, metric, ready, Redis, startNode, startNodes } from "./cluster/setup.mjs";

const ROUNDS = Number(process.env.MOVING_ROUNDS ?? 1);
const CLIENTS = 40;
// A node is gone within 10 s of its death.
const DEATH_MS = 30_000;

// A client whose upgrade fails in its last moment has paused its polling for good, and notices by its ping timeout only.
const FLAGS = ["--ping-interval", "3000", "--ping-timeout", "2000"];

const redis = await Redis.start();
const nodes = await startNodes(redis, 2, FLAGS);
after(closeAll);

const FATES = {
  killed: async (node) => node.stop(),
  // For longer than its lease, and longer than others wait for it.
  paused: async (node) => {
    await node.freeze();
    await pause(8_000);
    node.signal("SIGCONT");
  },
};

test("a WebSocket whose session's node dies at the last moment is closed, and not kept for ever", async () => {
  const [home, other] = await startNodes(redis, 2, [...FLAGS, "--redis-prefix", "last-moment", "--upgrade-timeout", "1000"]);
  await pause(5_500);
  const open = await (await fetch(`${home.url}/socket.io/?EIO=4&transport=polling`)).text();
  const { sid } = JSON.parse(open.slice(1));
  const socket = await RawSocket.connect(other.url, `/socket.io/?EIO=4&transport=websocket&sid=${sid}`);
  socket.send("2probe");
  assert.equal(await socket.next("the answer"), "3probe");
  // Of another one that has moved before, an operator waits for the answer where it was asked: that node is named.
  const session = await PollingSession.join(home.url);
  const body = { to: { sockets: [session.socketId] }, event: "question", ack: { timeout: 10_000 } };
  const asked = call(other, "POST", "/admin/v1/emit", { body });
  await session.poll((packet) => /^42\d+\["question"\]$/.test(packet), "the question");
  const moved = await moveTo(other, session);
  const began = performance.now();
  await home.stop();
  const { body: answer } = await asked;
  assert.deepEqual([answer.acks, answer.partial.map(({ reason }) => reason)], [[], ["unreachable"]]);
  assert.ok(performance.now() - began < 9_000, "it is known before the time is over");
  moved.send('430["too late"]');
  moved.send('42977["still-there"]');
  await moved.until((packet) => typeof packet === "string" && packet.startsWith("43977["), "its session goes on");
  socket.send("5");
  await within(socket.closed, "the end of the WebSocket", 10_000);
  await other.stop();
});

for (let round = 0; round < ROUNDS; round += 1) {
  describe(`round ${round}`, { concurrency: true }, () => {
    for (const fate of Object.keys(FATES)) test(`a node is ${fate} while sessions move`, () => suffer(fate, round));
  });
}

async function suffer(fate, round) {
  const doomed = await startNode(redis, FLAGS);
  await ready(doomed);
  // Sessions move once the cluster is steady for the new node, too.
  await pause(5_500);
  // In turns, clients in step with each other may all end on one node.
  const url = await balance([...nodes, doomed], "random");
  const proxy = await TcpProxy.start(url, { delay: 5 });
  const room = `moving ${round} ${fate}`;
  const watchers = await Promise.all(nodes.map((node) => enter(node.url, room, { transports: ["websocket"] })));
  const moved = () => metric(doomed, "signalbox_session_transfers_total");
  const before = await moved();
  const crowd = Promise.all(Array.from({ length: CLIENTS }, () => enter(proxy.url, room, { reconnection: true, reconnectionDelay: 200, reconnectionDelayMax: 1000 })));
  // Somewhere between the first move and the last.
  await until(async () => (await moved()) > before, "the first session moves");
  await pause(round * 7);
  await FATES[fate](doomed);
  // Until its clients have noticed, all seems well.
  await pause(1_000);

  const all = [...watchers, ...(await crowd)];
  const truth = () => all.map(({ socket }) => socket.id).sort().join();
  const complete = () => all.every((one) => one.socket.connected && [...one.view, one.socket.id].sort().join() === truth());
  await until(complete, "everybody knows who is there, and nobody else", DEATH_MS).catch((error) => {
    const ids = new Set(all.map(({ socket }) => socket.id));
    const ghosts = watchers.map(({ view }) => [...view].filter((id) => !ids.has(id)));
    const unknown = all.filter(({ socket }) => !watchers.every((one) => one.socket === socket || one.view.has(socket.id)));
    const short = all.filter(({ view, socket }) => [...ids].some((id) => id !== socket.id && !view.has(id)));
    const tell = ({ socket }) => [socket.id, socket.connected, socket.io.engine?.transport?.name];
    throw new Error(`${error.message}: ghosts ${JSON.stringify(ghosts)}; unknown ${JSON.stringify(unknown.map(tell))}; short ${JSON.stringify(short.map(tell))}`);
  });
  for (const one of all) assert.deepEqual(one.strange, []);
  for (const { socket } of all) socket.disconnect();
  await proxy.stop();
  await doomed.stop();
}

/** A client that joins the room whenever it connects, and knows by what it is told who is there. */
async function enter(url, room, options) {
  const socket = options.reconnection ? client(url, options) : await connected(url, options);
  const one = { socket, view: new Set(), strange: [] };
  let joined = false;
  socket.on("joined", ({ id }) => {
    if (joined && one.view.has(id)) one.strange.push(`joined again: ${id}`);
    one.view.add(id);
  });
  socket.on("left", ({ id }) => {
    if (!one.view.delete(id) && joined) one.strange.push(`left without having been there: ${id}`);
  });
  socket.on("disconnect", () => (joined = false));
  // What is heard behind the answer is news to it, in the same packet of a poll too.
  const join = () => socket.emit("join", room, ({ members }) => {
    one.view = new Set(members.map(({ id }) => id));
    joined = true;
  });
  socket.on("connect", join);
  if (socket.connected) join();
  await until(() => joined, "the client is in the room");
  return one;
}
