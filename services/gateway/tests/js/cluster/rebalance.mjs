// Two nodes join three others, and clients are spread again, at the rate that was asked for. One of the new ones runs this, and is killed
// half-way: another one goes on. Meanwhile the admin API speaks to those who move, and acts on them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { call, get } from "../admin/setup.mjs";
import { until } from "../lib/wait.mjs";
import { client } from "../lib/clients.mjs";
import { TRAVEL, account, complete, enter, place, startAt, talk } from "./drain.mjs";
import { balanceReady, ready } from "./setup.mjs";

const CLIENTS = Number(process.env.DRAIN_CLIENTS ?? 60);
const RATE = Number(process.env.REBALANCE_RATE ?? 4);
const NODES = 3;
// Rooms that the admin API speaks to all the time, and clients that it acts on.
const SPOKEN = 12;
const STEERED = 4;
// The pace is looked at in windows of this length.
const WINDOW = 2_000;
// Between two requests to the admin API.
const PAUSE = 250;
// Clients notice within this time that their node was killed.
const NOTICED = 1_000;

export function rebalance(redis) {
  test(`${CLIENTS} clients are spread again when nodes join, though the node that sees to it is killed`, async () => {
    const places = [];
    while (places.length < NODES + 2) places.push(await place());
    const nodes = await Promise.all(places.slice(0, NODES).map((at) => startAt(redis, at, 8_000)));
    await Promise.all(nodes.map(ready));
    const balancer = await balanceReady(places, process.env.REBALANCE_BALANCE ?? "leastconn");
    await until(async () => (await balancer.rotation()) === "0,1,2", "the balancer has seen which nodes there are");
    const crowd = [];
    while (crowd.length < CLIENTS) {
      const portion = Array.from({ length: Math.min(50, CLIENTS - crowd.length) }, (_, n) => enter(balancer.url, crowd.length + n, false));
      crowd.push(...portion);
      await until(() => portion.every(({ joinedAt }) => joinedAt !== undefined), "they are in their rooms");
    }
    await until(() => crowd.every(({ socket }) => socket.io.engine.transport.name === "websocket"), "every upgrade");
    await complete(crowd);
    const traffic = crowd.map((one) => talk(one));
    const steered = Array.from({ length: STEERED }, () => client(balancer.url, { reconnection: true, transports: ["websocket"] }));
    for (const socket of steered) socket.on("question", (answer) => answer(socket.id));
    await until(() => steered.every(({ connected }) => connected), "those who are acted on are there");

    nodes.push(...(await Promise.all(places.slice(NODES).map((at) => startAt(redis, at, 8_000)))));
    await Promise.all(nodes.map(ready));
    await until(async () => (await balancer.rotation()) === "0,1,2,3,4", "the new nodes are in the rotation");
    const began = performance.now();
    const runner = nodes.at(-1);
    // The one that is killed is not asked.
    const asked = nodes.slice(0, -1);
    const rooms = new Set(crowd.map(({ room }) => room));
    const operators = Array.from(rooms, (room) => operator(room)).slice(0, SPOKEN);
    const steering = [...operators.map((one) => speak(asked, one)), ...steered.map((socket, number) => steer(asked, socket, number))];
    // Whatever waits for these waits until the end; a failure is not to end the process before.
    steering.forEach((ends) => ends.catch(() => {}));
    const { status, body: { id } } = await call(runner, "POST", "/admin/v1/rebalance", { body: { rate: RATE } });
    assert.equal(status, 200);
    let operation;
    const look = async () => {
      const { status, body } = await call(nodes[1], "GET", `/admin/v1/operations/${id}`);
      // On a busy machine Redis may not answer in time, and whoever asks asks again.
      assert.ok([200, 503].includes(status), JSON.stringify(body));
      if (status === 200) operation = body;
      return operation ?? {};
    };
    // A sixth of what the new nodes lack, and as many are on their way by now.
    await until(async () => (await look()).done >= CLIENTS / 15, "some are sent away");
    const killed = (await get(runner, "cluster")).answeredBy;
    assert.equal(operation.runner, killed);
    const before = losses(crowd, began, Infinity);
    checkPace(before);
    const killedAt = performance.now();
    runner.signal("SIGKILL");
    await until(async () => (await look()).runner !== killed, "another node goes on with it");
    const takenAt = performance.now();
    const sent = operation.done;
    await until(async () => (await look()).status !== "running", "it is over");
    assert.ok(operation.done > sent, "there was something left to do");
    console.log(`# ${operation.done} sent away; taken over after ${Math.round(takenAt - killedAt)} ms; over after ${Math.round(performance.now() - began)} ms: ${operation.detail}`);
    assert.equal(operation.status, "done", JSON.stringify(operation));
    checkPace(losses(crowd, takenAt, Infinity));
    await until(() => crowd.every(({ joinedAt }) => joinedAt !== undefined), "everybody is back");
    await until(() => steered.every(({ connected }) => connected), "those who are acted on are back, too");
    let counts;
    const sum = () => counts.reduce((a, b) => a + b);
    await until(async () => {
      const { items } = await get(nodes[1], "nodes");
      counts = items.map(({ websocketClients, pollingClients }) => websocketClients + pollingClients);
      // A session whose client was about to upgrade to the killed node is counted until it misses a heartbeat.
      return sum() >= CLIENTS + STEERED;
    }, "everybody is counted");
    console.log(`# ${CLIENTS + STEERED} clients; the nodes have ${counts}`);
    assert.equal(counts.length, NODES + 1, "a new one is there, and the killed one is not");
    const mean = sum() / (NODES + 1);
    for (const count of counts) assert.ok(Math.abs(count - mean) <= Math.max(mean / 10, 1), `${counts}`);

    await complete(crowd);
    await pause(TRAVEL);
    for (const one of [...crowd, ...operators, ...steered]) one.isSilent = true;
    await Promise.all([...traffic, ...steering]);
    await pause(TRAVEL);
    await complete(crowd);
    // A node that is killed takes with it what it has just acknowledged; that is not the rebalance's doing.
    for (const one of crowd) {
      const wasThere = one.lost.some((at) => at >= killedAt && at < killedAt + NOTICED);
      if (wasThere) one.sent = one.sent.filter(({ sentAt }) => sentAt < killedAt - TRAVEL || sentAt > killedAt);
    }
    const trouble = crowd.flatMap(({ number, trouble }) => trouble.map((what) => `${number}: ${what}`));
    assert.deepEqual(trouble.filter((what) => !/connect_error/.test(what)), [], "nobody heard what could not be");
    const { sent: said, lost, doubled } = account([...crowd, ...operators]);
    const spoken = operators.reduce((sum, { sent }) => sum + sent.length, 0);
    const acted = steered.reduce((sum, { rounds }) => sum + rounds, 0);
    console.log(`# ${spoken} of the messages through the admin API; ${acted} times it had somebody join, answer and leave`);
    assert.ok(spoken > 0 && steered.every(({ rounds }) => rounds > 0));
    console.log(`# ${said} messages acknowledged, ${lost.length} lost, ${doubled.length} doubled; the nodes have ${counts}`);
    assert.deepEqual({ lost, doubled }, { lost: [], doubled: [] });
    const outcome = await order(asked[0], "disconnect", { to: { sockets: steered.map(({ id }) => id) } });
    assert.equal(outcome.done, STEERED);
    await until(() => steered.every(({ connected, active }) => !connected && !active), "they are told to go, and do not come back");
    for (const { socket } of crowd) socket.disconnect();
  });
}

async function order(node, path, body) {
  const { status, body: outcome } = await call(node, "POST", `/admin/v1/${path}`, { body });
  assert.equal(status, 200, `${path}: ${JSON.stringify(outcome)}`);
  return outcome;
}

/** The admin API in a room: it says something there, and hears nothing. */
function operator(room) {
  return { number: "operator", room, joinedAt: undefined, stays: [], sent: [], heard: new Map() };
}

/** Says something in a room every so often, through one node after the other. */
async function speak(nodes, one) {
  for (let n = 0; !one.isSilent; n += 1) {
    const message = { name: `operator in ${one.room}:${n}`, sentAt: performance.now(), ackedAt: undefined };
    one.sent.push(message);
    const emission = { to: { rooms: [one.room] }, event: "message", args: [message.name, { room: one.room }] };
    await (n % 2 === 0 ? order(nodes[n % nodes.length], "emit", emission) : order(nodes[n % nodes.length], "batch", { events: [emission] }));
    message.ackedAt = performance.now();
    await pause(PAUSE);
  }
}

/** Has a client join a room, answer there, and leave. Whoever cannot be found has gone at that time. */
async function steer(nodes, socket, number) {
  const room = `steered ${number}`;
  socket.rounds = 0;
  for (let n = 0; !socket.isSilent; n += 1) {
    const { id } = socket;
    const to = { sockets: [id] };
    const isGone = async (what, outcome) => {
      await pause(NOTICED);
      assert.notEqual(socket.id, id, `${what} of a client that is there: ${JSON.stringify(outcome)}`);
      return true;
    };
    const joined = id && (await order(nodes[n % nodes.length], "join", { to, rooms: [room] }));
    if (!joined || (joined.done !== 1 && (await isGone("join", joined)))) {
      await pause(PAUSE);
      continue;
    }
    const answered = await order(nodes[(n + 1) % nodes.length], "emit", { to: { rooms: [room] }, event: "question", ack: { timeout: 5_000 } });
    if (answered.acks[0]?.args[0] !== id && (await isGone("question", answered))) continue;
    // Nobody has that token.
    await order(nodes[n % nodes.length], "revoke", { tokenId: `${room}:${n}`, expiresAt: Math.round(Date.now() / 1000) + 60 });
    const left = await order(nodes[(n + 2) % nodes.length], "leave", { to, rooms: [room] });
    if (left.done !== 1 && (await isGone("leave", left))) continue;
    socket.rounds += 1;
    await pause(PAUSE);
  }
}

/** When clients lost their connections, between two moments. */
function losses(crowd, from, to) {
  return crowd.flatMap(({ lost }) => lost).filter((at) => at >= from && at < to).sort((a, b) => a - b);
}

/** No window has more than the rate, and the half of a second's worth that may come together. */
function checkPace(events) {
  const within = events.map((from, index) => events.slice(index).filter((at) => at < from + WINDOW).length);
  const most = Math.max(0, ...within);
  const allowed = (RATE * (WINDOW + 1_500)) / 1000 + 1;
  console.log(`# at most ${most} within ${WINDOW} ms; the rate is ${RATE}/s`);
  assert.ok(most <= allowed, `${most} within ${WINDOW} ms, ${allowed} may be`);
}
