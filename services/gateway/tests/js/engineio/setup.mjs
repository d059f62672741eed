// What the parts of engineio.test.mjs share: the server, its refusals, requests that are held.
import assert from "node:assert/strict";
import net from "node:net";
import { after } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { closeAll } from "../lib/cleanup.mjs";
import { request } from "../lib/http.mjs";
import { packets } from "../lib/polling.mjs";
import { startTarget } from "../lib/target.mjs";
import { within } from "../lib/wait.mjs";

export const target = await startTarget();
after(async () => {
  await closeAll();
  await target.stop();
});

export const LIMIT = 1_000_000;
export const KEYS = ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"];
export const SID = /^[A-Za-z0-9_-]{20}$/;

export const UNKNOWN_TRANSPORT = { code: 0, message: "Transport unknown" };
export const UNKNOWN_SID = { code: 1, message: "Session ID unknown" };
export const BAD_METHOD = { code: 2, message: "Bad handshake method" };
export const BAD_REQUEST = { code: 3, message: "Bad request" };
export const BAD_VERSION = { code: 5, message: "Unsupported protocol version" };

export const http = (method, path, options) => request(target.url, method, path, options);

export function assertRefusal(reply, expected) {
  assert.equal(reply.status, 400);
  assert.match(reply.headers["content-type"], /^application\/json/);
  // The text, not the parsed value: clients in other languages compare it.
  assert.equal(reply.body, JSON.stringify(expected));
}

/**
 * Waits until a request that was just sent is in the server's hands. Nothing tells a client so; the
 * pause is followed by requests that the server answers, so that a busy machine has its turn as well.
 */
export async function reachedTheServer() {
  await pause(200);
  await http("GET", "/socket.io/");
}

/** A GET that the server is holding: {reply}, wrapped because a bare promise would be awaited. */
export async function waitingGet(session, options) {
  const reply = session.get(options);
  reply.catch(() => {});
  await reachedTheServer();
  return { reply };
}

/** A POST whose body is not complete: {socket, closed}. */
export async function halfPost(session) {
  const { hostname, port, host } = new URL(target.url);
  const socket = net.connect(Number(port), hostname);
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.on("error", () => {});
  socket.on("data", () => {});
  socket.write(`POST ${session.path} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 10\r\n\r\n43`);
  await reachedTheServer();
  return { socket, closed };
}

/** Asserts one of the three ends; `waiting` is the GET that was pending, if one was. */
export async function assertEnd(session, end, waiting, toWaiting = "1") {
  if (end === "kept") {
    await session.expectAlive(waiting?.reply);
    return;
  }
  if (waiting) {
    const reply = await waiting.reply;
    assert.deepEqual([reply.status, reply.body], [200, toWaiting]);
  } else if (end === "orderly") {
    const reply = await session.get();
    assert.deepEqual([reply.status, reply.body], [200, packets("6", "1")]);
  }
  assertRefusal(await session.get(), UNKNOWN_SID);
  assertRefusal(await session.post("3"), UNKNOWN_SID);
}

/** Waits until the server has noticed that a client's connection is gone, and the session with it. */
export async function goneSoon(session) {
  const gone = async () => {
    while ((await session.post("3")).status === 200);
  };
  await within(gone(), "the session ends");
  assertRefusal(await session.get(), UNKNOWN_SID);
}
