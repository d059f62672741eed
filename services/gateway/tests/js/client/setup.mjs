// What the parts of client.test.mjs share: the server, clients in rooms, and what they hear.
import assert from "node:assert/strict";
import { after } from "node:test";
import { closeAll } from "../lib/cleanup.mjs";
import { ask, client, connected } from "../lib/clients.mjs";
import { startTarget } from "../lib/target.mjs";
import { nextEvent, until } from "../lib/wait.mjs";

export const target = await startTarget();
after(async () => {
  await closeAll();
  await target.stop();
});

export const LIMIT = 1_000_000;
export const WEBSOCKET = { transports: ["websocket"] };
export const POLLING = { transports: ["polling"] };
export const DEFAULT = {};
export const TRANSPORTS = [["polling", POLLING], ["WebSocket", WEBSOCKET], ["the default transports", DEFAULT]];

let rooms = 0;
/** A room name that no other test uses; the spaces keep it from looking like a socket id. */
export const newRoom = () => `client test ${process.pid} ${++rooms}`;

/** A connected client that has joined `room`. */
export async function member(room, profile, options = WEBSOCKET, url = target.url) {
  const socket = await connected(url, options);
  const reply = await ask(socket, "join", room, ...(profile === undefined ? [] : [profile]));
  assert.equal(reply.ok, true, JSON.stringify(reply));
  return socket;
}

/**
 * Clients that join `room` one after the other. Each has heard of those who came after it, so that what
 * is heard from now on is news.
 */
export async function gather(room, ...profiles) {
  const sockets = [];
  for (const profile of profiles) {
    const told = sockets.map((socket) => nextEvent(socket, "joined"));
    sockets.push(await member(room, profile));
    await Promise.all(told);
  }
  return sockets;
}

/** Everything that `socket` hears from now on, as [event, ...arguments]. */
export function hear(socket) {
  const heard = [];
  socket.onAny((...args) => heard.push(args));
  return heard;
}

/**
 * Resolves when what was sent to these members of `room` before has arrived: a last message of a member
 * of its own runs behind it. That member and its coming and going are taken out of `heard`.
 */
export async function settle(room, ...heard) {
  const probe = await connected(target.url, WEBSOCKET);
  const reply = await ask(probe, "join", room, { probe: true });
  await ask(probe, "message", room, "probe");
  const { id } = probe;
  probe.disconnect();
  const own = ([event, first, second]) =>
    (["joined", "left"].includes(event) && first?.id === id) || (event === "message" && second?.from === id);
  const arrived = (list) => list.some(([event, first]) => event === "left" && first?.id === id);
  await until(() => heard.every(arrived), "the last of the probe");
  for (const list of heard) list.splice(0, list.length, ...list.filter((item) => !own(item)));
  return reply.members;
}

// The POST is refused and the waiting GET told that the session is over, on two connections: either may arrive first.
// A GET that was about to wait finds no session any more.
export function tooLargeOverPolling([reason, { description }]) {
  if (reason === "transport error") assert.ok([413, 400].includes(description), `status ${description}`);
  else assert.equal(reason, "transport close");
}

export function byId(list) {
  return list.toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

export function byRoom([, a], [, b]) {
  return a.room < b.room ? -1 : 1;
}

export async function allUsers(socket) {
  const users = [];
  let after;
  do {
    const page = await ask(socket, "users", ...(after === undefined ? [] : [after]));
    assert.equal(page.ok, true);
    users.push(...page.users);
    after = page.next;
  } while (after !== undefined);
  return users;
}
