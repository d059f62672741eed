// A room that many come to and leave all the time, on all nodes, while the connections over which nodes hear of it are killed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { ask, connected } from "../lib/clients.mjs";
import { until } from "../lib/wait.mjs";

const MEMBERS = Number(process.env.CHURN_MEMBERS ?? 60);
// Joins and leaves a second.
const RATE = Number(process.env.CHURN_RATE ?? 40);
const SECONDS = Number(process.env.CHURN_SECONDS ?? 4);
const KILL_EVERY_MS = 1_500;
// Who has left is back after at most so long.
const AWAY_MS = 500;
const ROOM = "churn";

export function churn(redis, nodes) {
  test(`${MEMBERS} members, ${RATE} joins and leaves a second for ${SECONDS} s, with subscriptions killed: everybody knows who is there`, async () => {
    const crowd = [];
    while (crowd.length < MEMBERS) {
      const portion = Array.from({ length: Math.min(50, MEMBERS - crowd.length) }, (_, n) => enter(nodes, crowd.length + n));
      crowd.push(...(await Promise.all(portion)));
    }
    crowd.forEach(join);
    await settled(crowd);

    const began = performance.now();
    const end = began + SECONDS * 1_000;
    let kills = 0;
    const killing = (async () => {
      for (let at = began + KILL_EVERY_MS; at < end; at += KILL_EVERY_MS) {
        await pause(at - performance.now());
        const answer = await redis.ask("CLIENT KILL TYPE pubsub");
        kills += Number(/^:(\d+)/.exec(answer)[1]);
      }
    })();
    // Each who leaves comes back, so half of them are leaves. Nobody waits for an answer before the next is done.
    let done = 0;
    const returns = new Set();
    for (let leaves = 0; performance.now() < end; ) {
      for (const due = ((performance.now() - began) / 1_000) * (RATE / 2); leaves < due; leaves += 1) {
        const there = crowd.filter(({ isWanted }) => isWanted);
        const one = there[Math.floor(Math.random() * there.length)];
        leave(one);
        done += 1;
        const timer = setTimeout(() => {
          returns.delete(timer);
          done += 1;
          join(one);
        }, Math.random() * AWAY_MS);
        returns.add(timer);
      }
      await pause(10);
    }
    // Whoever is away now stays away.
    for (const timer of returns) clearTimeout(timer);
    await killing;
    const took = (performance.now() - began) / 1_000;
    console.log(`# ${done} joins and leaves in ${took.toFixed(1)} s, ${kills} subscriptions killed, ${crowd.filter(({ isWanted }) => isWanted).length} stay`);
    assert.ok(kills > 0, "subscriptions were killed");

    await settled(crowd);
    console.log(`# everybody knew ${((performance.now() - began) / 1_000 - took).toFixed(1)} s later, after ${crowd.reduce((sum, { events }) => sum + events, 0)} events`);
    const truth = ids(crowd.filter(({ isWanted }) => isWanted)).join();
    // What a late comer is told is the same.
    const late = await enter(nodes, 0);
    const { members } = await ask(late.socket, "join", ROOM);
    assert.equal(members.map(({ id }) => id).sort().join(), truth);
    const trouble = crowd.flatMap(({ number, trouble }) => trouble.map((what) => `${number}: ${what}`));
    assert.deepEqual(trouble, [], "what each was told made sense at every moment");
    for (const { socket } of [...crowd, late]) socket.disconnect();
  });
}

/** A client, and who is in the room by what it was told alone: its own answers, and what was announced. */
async function enter(nodes, number) {
  const socket = await connected(nodes[number % nodes.length].url, { transports: ["websocket"] });
  const one = { number, socket, isWanted: false, isIn: false, waits: 0, view: new Set(), events: 0, trouble: [] };
  socket.on("joined", ({ id }) => {
    one.events += 1;
    if (!one.isIn) one.trouble.push(`heard of ${id} outside of the room`);
    if (one.view.has(id)) one.trouble.push(`joined again: ${id}`);
    one.view.add(id);
  });
  socket.on("left", ({ id }) => {
    one.events += 1;
    if (!one.isIn) one.trouble.push(`heard of ${id} outside of the room`);
    if (!one.view.delete(id)) one.trouble.push(`left without having been there: ${id}`);
  });
  socket.on("disconnect", (reason) => reason !== "io client disconnect" && one.trouble.push(`disconnected: ${reason}`));
  return one;
}

function join(one) {
  one.isWanted = true;
  one.waits += 1;
  one.socket.emit("join", ROOM, (reply) => {
    one.waits -= 1;
    if (!reply.ok) return one.trouble.push(`not joined: ${reply.error}`);
    one.isIn = true;
    one.view = new Set(reply.members.map(({ id }) => id));
  });
}

function leave(one) {
  one.isWanted = false;
  one.waits += 1;
  one.socket.emit("leave", ROOM, (reply) => {
    one.waits -= 1;
    if (!reply.ok) one.trouble.push(`not left: ${reply.error}`);
    one.isIn = false;
    one.view = new Set();
  });
}

const ids = (crowd) => crowd.map(({ socket }) => socket.id).sort();

/** Everybody has got every answer, and the view of each in the room is the truth. */
async function settled(crowd) {
  const wrong = () => {
    const truth = ids(crowd.filter(({ isWanted }) => isWanted));
    const isRight = ({ isWanted, view, socket }) => !isWanted || [...view, socket.id].sort().join() === truth.join();
    return crowd.filter((one) => one.waits > 0 || !isRight(one));
  };
  // Looking at a large crowd takes its time, which it would have to share.
  await until(async () => {
    await pause(200);
    return wrong().length === 0;
  }, "everybody knows who is there").catch((error) => {
    const here = new Set(ids(crowd.filter(({ isWanted }) => isWanted)));
    const tell = ({ number, waits, isWanted, view, socket, events }) =>
      `${number} (in: ${isWanted}, waits for ${waits}, after ${events} events) misses ${[...here].filter((id) => id !== socket.id && !view.has(id))} and has ${[...view].filter((id) => !here.has(id))} too many`;
    throw new Error(`${error.message}: ${wrong().slice(0, 5).map(tell).join("; ")} (${wrong().length} of them)`);
  });
}
