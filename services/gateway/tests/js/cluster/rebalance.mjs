// Two nodes join three others, and clients are spread again, at the rate that was asked for. One of the new ones runs this, and is killed
// half-way: another one goes on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { call, get } from "../admin/setup.mjs";
import { until } from "../lib/wait.mjs";
import { TRAVEL, account, complete, enter, place, startAt, talk } from "./drain.mjs";
import { balanceReady, ready } from "./setup.mjs";

const CLIENTS = Number(process.env.DRAIN_CLIENTS ?? 60);
const RATE = Number(process.env.REBALANCE_RATE ?? 4);
const NODES = 3;
// The pace is looked at in windows of this length.
const WINDOW = 2_000;
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

    nodes.push(...(await Promise.all(places.slice(NODES).map((at) => startAt(redis, at, 8_000)))));
    await Promise.all(nodes.map(ready));
    await until(async () => (await balancer.rotation()) === "0,1,2,3,4", "the new nodes are in the rotation");
    const began = performance.now();
    const runner = nodes.at(-1);
    const { status, body: { id } } = await call(runner, "POST", "/admin/v1/rebalance", { body: { rate: RATE } });
    assert.equal(status, 200);
    let operation;
    const look = async () => (operation = await get(nodes[1], `operations/${id}`));
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
    let counts;
    await until(async () => {
      const { items } = await get(nodes[1], "nodes");
      counts = items.map(({ websocketClients, pollingClients }) => websocketClients + pollingClients);
      // One that upgrades has both for a moment.
      return counts.reduce((a, b) => a + b) === CLIENTS;
    }, "each client is counted once");
    assert.equal(counts.length, NODES + 1, "a new one is there, and the killed one is not");
    const mean = CLIENTS / (NODES + 1);
    for (const count of counts) assert.ok(Math.abs(count - mean) <= Math.max(mean / 10, 1), `${counts}`);

    await complete(crowd);
    await pause(TRAVEL);
    for (const one of crowd) one.isSilent = true;
    await Promise.all(traffic);
    await pause(TRAVEL);
    await complete(crowd);
    // A node that is killed takes with it what it has just acknowledged; that is not the rebalance's doing.
    for (const one of crowd) {
      const wasThere = one.lost.some((at) => at >= killedAt && at < killedAt + NOTICED);
      if (wasThere) one.sent = one.sent.filter(({ sentAt }) => sentAt < killedAt - TRAVEL || sentAt > killedAt);
    }
    const trouble = crowd.flatMap(({ number, trouble }) => trouble.map((what) => `${number}: ${what}`));
    assert.deepEqual(trouble.filter((what) => !/connect_error/.test(what)), [], "nobody heard what could not be");
    const { sent: said, lost, doubled } = account(crowd);
    console.log(`# ${said} messages acknowledged, ${lost.length} lost, ${doubled.length} doubled; the nodes have ${counts}`);
    assert.deepEqual({ lost, doubled }, { lost: [], doubled: [] });
    for (const { socket } of crowd) socket.disconnect();
  });
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
