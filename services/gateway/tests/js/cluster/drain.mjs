// Nodes that are drained and replaced, one after the other, under traffic: clients behind a load balancer, in rooms of ten, that reconnect
// as socket.io-client does by default.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { ask, client, connected, record } from "../lib/clients.mjs";
import { until } from "../lib/wait.mjs";
import { balanceReady, freePort, ready, startNode } from "./setup.mjs";

const CLIENTS = Number(process.env.DRAIN_CLIENTS ?? 60);
const ROOM = 10;
const NODES = 3;
const DRAIN_DELAY = 1_500;
const DRAIN_TIMEOUT = Number(process.env.DRAIN_TIMEOUT ?? 8_000);
// How often each client says something.
const EVERY = Number(process.env.DRAIN_EVERY ?? 1_000);
// How many times the even pace there may be. A small crowd says little about a pace; if all go at once it is four times the even one.
const PACE = Number(process.env.DRAIN_PACE ?? 2.5);
// What of the drain's time is for Socket.IO clients: see `drain.rs`.
const SOCKETIO_MS = (DRAIN_TIMEOUT - 1_000) * 0.7;
// The pace is looked at in windows of this length: a second of a small crowd is noise.
const WINDOW = Math.max(1_000, SOCKETIO_MS / 4);
// For how long after its join a client may miss what others say. Not zero where a node of the previous format comes: the others learn of
// it with their next heartbeat, and write a format until then that it does not read.
const SETTLE = Number(process.env.DRAIN_SETTLE ?? 0);
// How long a message may take on two busy cores.
export const TRAVEL = 2_000;

/** Nodes of one build (the present one, unless others are named) are replaced by nodes of another. `polls` tells who only polls. */
export function replacing(redis, { from, to, polls = () => false } = {}) {
  test(`${CLIENTS} clients stay together while each node is drained and replaced`, async () => {
    // Those that will replace the first ones are in the balancer's list from the start.
    const places = [];
    while (places.length < 2 * NODES) places.push(await place());
    const nodes = await Promise.all(places.slice(0, NODES).map((at) => startAt(redis, at, DRAIN_TIMEOUT, from)));
    await Promise.all(nodes.map(ready));
    const balancer = await balanceReady(places);
    await until(async () => (await balancer.rotation()) === "0,1,2", "the balancer has seen which nodes there are");

    const crowd = [];
    while (crowd.length < CLIENTS) {
      const portion = Array.from({ length: Math.min(50, CLIENTS - crowd.length) }, (_, n) => enter(balancer.url, crowd.length + n, polls(crowd.length + n)));
      crowd.push(...portion);
      await until(() => portion.every(({ joinedAt }) => joinedAt !== undefined), "they are in their rooms");
    }
    await complete(crowd);
    const traffic = crowd.map((one) => talk(one));

    for (const [index, node] of nodes.entries()) {
      const began = performance.now();
      node.signal("SIGTERM");
      const { code } = await node.exited;
      const took = performance.now() - began;
      assert.equal(code, 0, "a drained node ends well");
      // It drains for no longer than it was told to; the rest is its process's end.
      assert.ok(took <= DRAIN_DELAY + DRAIN_TIMEOUT + 1_000, `it took ${took} ms`);
      const moved = times(crowd, "lost").filter((at) => at >= began);
      console.log(`# node ${index}: drained in ${Math.round(took)} ms, ${moved.length} clients moved`);
      checkPace(crowd, began, moved.length);
      const next = await startAt(redis, places[NODES + index], DRAIN_TIMEOUT, to);
      await ready(next);
      await until(async () => (await balancer.rotation()).split(",").includes(`${NODES + index}`), "the new node is in the rotation");
    }
    await until(() => crowd.every(({ joinedAt }) => joinedAt !== undefined), "everybody is back");
    await complete(crowd);
    await pause(TRAVEL);
    for (const one of crowd) one.isSilent = true;
    await Promise.all(traffic);
    await pause(TRAVEL);
    await complete(crowd);

    const trouble = crowd.flatMap(({ number, trouble }) => trouble.map((what) => `${number}: ${what}`));
    assert.deepEqual(trouble, [], "no handshake was refused, and nobody heard what could not be");
    for (const one of crowd) assert.ok(one.stays.length > 0, `client ${one.number} was on a node that was drained`);
    const { sent, lost, doubled } = account(crowd);
    console.log(`# ${sent} messages acknowledged, ${lost.length} lost, ${doubled.length} doubled`);
    assert.deepEqual({ lost, doubled }, { lost: [], doubled: [] });
    for (const { socket } of crowd) socket.disconnect();
  });
}

export function drain(redis) {
  replacing(redis);

  test("clients that only poll, and have nothing to say, stay while another node drains that their requests landed on", async () => {
    const places = [await place(), await place()];
    const [staying, leaving] = await Promise.all(places.map((at) => startAt(redis, at, 2_000)));
    await Promise.all([staying, leaving].map(ready));
    const balancer = await balanceReady(places);
    await until(async () => (await balancer.rotation()) === "0,1", "both are in the rotation");
    const options = { transports: ["polling"] };
    const crowd = await Promise.all(Array.from({ length: 20 }, () => connected(balancer.url, options)));
    // A session's id begins with its node.
    const anchor = await connected(staying.url, options);
    const node = ({ id }) => id.slice(0, 5);
    const [there, gone] = [true, false].map((stays) => crowd.filter((socket) => (node(socket.io.engine) === node(anchor.io.engine)) === stays));
    assert.ok(there.length > 0 && gone.length > 0, "both have clients");
    const disconnects = there.map((socket) => record(socket, "disconnect"));

    leaving.signal("SIGTERM");
    assert.equal((await leaving.exited).code, 0);
    await until(() => gone.every(({ connected }) => !connected), "its own clients are let go");
    // Whoever was cut off notices at once.
    await pause(500);
    assert.deepEqual(disconnects.flat().map(([reason]) => reason), [], "the others are not");
    for (const socket of there) assert.equal((await ask(socket, "join", "still here")).ok, true);
    for (const socket of [...there, anchor]) socket.disconnect();
  });
}

/** Two ports for a node. */
export const place = async () => ({ port: await freePort(), adminPort: await freePort() });

export const startAt = (redis, { port, adminPort }, timeout, binary, flags = []) =>
  startNode(redis, ["--port", `${port}`, "--admin-port", `${adminPort}`, "--drain-delay", `${DRAIN_DELAY}`, "--drain-timeout", `${timeout}`, ...flags], binary);

/** A client that joins its room whenever it is connected, and notes what it is told and when. */
export function enter(url, number, onlyPolls) {
  const socket = client(url, { reconnection: true, ...(onlyPolls && { transports: ["polling"] }) });
  const one = {
    number,
    socket,
    room: `drain ${Math.floor(number / ROOM)}`,
    /** Since when it is in the room, unless it is not. */
    joinedAt: undefined,
    /** When it was in the room: [from, until]. */
    stays: [],
    view: new Set(),
    sent: [],
    heard: new Map(),
    trouble: [],
    back: [],
    lost: [],
  };
  socket.on("connect_error", (error) => one.trouble.push(`connect_error: ${error.message} ${error.description ?? ""} ${error.context?.responseText ?? ""}`));
  socket.on("connect", () => {
    const { id } = socket;
    one.back.push(performance.now());
    socket.emit("join", one.room, { number }, (reply) => {
      if (!reply.ok) return one.trouble.push(`not joined: ${reply.error}`);
      if (socket.id !== id) return one.trouble.push("an answer to a connection that is gone");
      one.joinedAt = performance.now();
      one.view = new Set(reply.members.map(({ id }) => id));
    });
  });
  socket.on("disconnect", (reason) => {
    if (reason === "io client disconnect") return;
    one.lost.push(performance.now());
    if (reason === "io server disconnect") one.trouble.push("told not to come back");
    if (one.joinedAt !== undefined) one.stays.push([one.joinedAt, performance.now()]);
    one.joinedAt = undefined;
  });
  socket.on("joined", ({ id }) => {
    if (one.joinedAt === undefined) return;
    if (one.view.has(id)) one.trouble.push(`joined again: ${id}`);
    one.view.add(id);
  });
  socket.on("left", ({ id }) => {
    // Whoever may have missed that somebody came is told all the same when that one goes.
    if (one.joinedAt !== undefined && !one.view.delete(id) && SETTLE === 0) one.trouble.push(`left without having been there: ${id}`);
  });
  socket.on("message", (name, { room }) => {
    if (room !== one.room) one.trouble.push(`heard another room: ${room}`);
    one.heard.set(name, (one.heard.get(name) ?? 0) + 1);
  });
  return one;
}

/** Says something every so often, while it is in its room. */
export async function talk(one) {
  await pause(Math.random() * EVERY);
  for (let n = 0; !one.isSilent && one.socket.active; n += 1) {
    if (one.joinedAt !== undefined) {
      const message = { name: `${one.number}:${n}`, sentAt: performance.now(), ackedAt: undefined };
      one.sent.push(message);
      one.socket.emit("message", one.room, message.name, (reply) => {
        if (reply.ok) message.ackedAt = performance.now();
        else one.trouble.push(`not sent: ${reply.error}`);
      });
    }
    await pause(EVERY * (0.5 + Math.random()));
  }
}

/**
 * Everybody's view is the truth. Whoever may have missed that somebody came or went asks for it, as a page would that missed something.
 */
export async function complete(crowd) {
  if (SETTLE > 0) {
    const refresh = async (one) => {
      const { ok, members } = await ask(one.socket, "members", one.room);
      if (ok) one.view = new Set(members.map(({ id }) => id).filter((id) => id !== one.socket.id));
    };
    await Promise.all(crowd.filter(({ joinedAt }) => joinedAt !== undefined).map(refresh));
  }
  const rooms = Array.from({ length: Math.ceil(crowd.length / ROOM) }, (_, n) => crowd.slice(n * ROOM, (n + 1) * ROOM));
  const isRight = (one, room) => [...one.view].sort().join() === room.filter((other) => other !== one).map(({ socket }) => socket.id).sort().join();
  const wrong = () => rooms.flatMap((room) => room.filter((one) => one.joinedAt === undefined || !isRight(one, room)));
  await until(() => wrong().length === 0, "every room is complete").catch((error) => {
    throw new Error(`${error.message}: ${wrong().map(({ number, view }) => `client ${number} sees ${view.size}`)}`);
  });
}

const times = (crowd, what) => crowd.flatMap((one) => one[what]).sort((a, b) => a - b);

/** Clients come back no faster than they are let go: so many within the time for Socket.IO clients. */
function checkPace(crowd, began, count) {
  const even = (count / SOCKETIO_MS) * WINDOW;
  for (const what of ["lost", "back"]) {
    const events = times(crowd, what).filter((at) => at >= began);
    const most = Math.max(...events.map((from, index) => events.slice(index).filter((at) => at < from + WINDOW).length));
    const line = `${what}: at most ${(most / WINDOW * 1000).toFixed(1)}/s within ${WINDOW} ms; the even pace is ${(even / WINDOW * 1000).toFixed(1)}/s`;
    console.log(`# ${line}`);
    // A handful has no pace. How clients are let go is the node's doing alone; when they come back is theirs, too, and says something
    // of a third of the crowd, which one of three nodes has.
    const least = what === "lost" ? ROOM : CLIENTS / NODES;
    if (count >= least) assert.ok(most <= even * PACE, line);
    // Some come back after this.
    const isSpread = what === "back" || count < 10 || events.at(-1) - events[0] > SOCKETIO_MS / 4;
    assert.ok(isSpread, `${what}: ${count} within ${events.at(-1) - events[0]} ms`);
  }
}

/**
 * What was lost: the sender was told that it was sent, and a member that was in the room all the time did not hear it. A member that
 * was let go meanwhile, or soon after, may have missed it.
 */
export function account(crowd) {
  const lost = [];
  const doubled = [];
  let sent = 0;
  for (const one of crowd) {
    const mates = crowd.filter((other) => other !== one && other.room === one.room);
    for (const { name, sentAt, ackedAt } of one.sent) {
      for (const mate of mates) {
        if ((mate.heard.get(name) ?? 0) > 1) doubled.push(`${name} at ${mate.number}`);
        const stays = [...mate.stays, [mate.joinedAt, Infinity]];
        const wasThere = stays.some(([from, until]) => from + SETTLE < sentAt && until > ackedAt + TRAVEL);
        if (ackedAt !== undefined && wasThere && !mate.heard.has(name)) lost.push(`${name} at ${mate.number}`);
      }
      if (ackedAt !== undefined) sent += 1;
    }
  }
  return { sent, lost, doubled };
}
