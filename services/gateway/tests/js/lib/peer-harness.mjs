// What a test of PeerServer behaviour is written with: clients on raw sockets, and gateways with flags.

import assert from "node:assert/strict";
import { test } from "node:test";
import { startGateway } from "./peer-servers.mjs";
import { PeerSocket, socketUrl } from "./peer-socket.mjs";

/** The gateway with default flags. */
export const DEFAULT = process.env.GATEWAY_URL;
/** Long enough for a debug build on a busy machine. */
export const PATIENCE_MS = 15_000;
/** Part of every id. */
export const run = `${Date.now()}`;

/** The nodes of a cluster that clients of the default gateway are spread over. */
const nodes = process.env.GATEWAY_URLS?.split(" ") ?? [DEFAULT];
let turn = 0;
/** What one node does at once, another hears of a moment later. */
export const isCluster = nodes.length > 1;

const sockets = new Set();
let names = 0;

/** An id that no other test uses. */
export function newId(name = "peer") {
  names += 1;
  return `${name}-${run}-${names}`;
}

/** Begins to connect; `first` of the result says what came first. */
export function dial(base, { id, token = `token of ${id}`, key = "peerjs" }, options) {
  assert.ok(base, "GATEWAY_URL is not set");
  turn += 1;
  const node = base === DEFAULT ? nodes[turn % nodes.length] : base;
  const socket = new PeerSocket(socketUrl(node, { key, id, token, version: "1.5.5" }), options);
  socket.id = id;
  sockets.add(socket);
  return socket;
}

/** The type of the first message, or how the socket ended without one. */
export async function first(socket) {
  assert.ok(await socket.until(() => socket.events.length > 0 || socket.closed, PATIENCE_MS), `${socket.id}: neither a message nor a close`);
  return socket.messages[0]?.type ?? `close ${socket.closed.code}`;
}

export async function connect(base, parameters, options) {
  const socket = dial(base, parameters, options);
  assert.equal(await first(socket), "OPEN", `${socket.id} is let in`);
  return socket;
}

export async function arrives(socket, predicate, what) {
  assert.ok(await socket.until(() => socket.messages.some(predicate), PATIENCE_MS), `${socket.id}: ${what} did not arrive: ${socket.texts}`);
}

export async function closes(socket) {
  assert.ok(await socket.until(() => socket.closed, PATIENCE_MS), `${socket.id} is not closed`);
  return socket.closed.code;
}

/** Everything that `from` sent before has been relayed to `to`, or never will be. */
export async function settled(from, to) {
  const marker = newId("marker");
  from.send({ type: "CANDIDATE", dst: to.id, payload: marker });
  await arrives(to, (message) => message.payload === marker, "the marker");
}

export const payloads = (socket, type = "OFFER") => socket.messages.filter((message) => message.type === type).map((message) => message.payload);
export const expiries = (socket) => socket.messages.filter((message) => message.type === "EXPIRE").map((message) => message.src);
export const offer = (dst, payload) => ({ type: "OFFER", dst, payload });

/** Runs a test against a gateway with these flags, which is stopped afterwards. */
export async function withGateway(flags, body) {
  const gateway = await startGateway(flags);
  try {
    await body(gateway.url, gateway);
    assert.equal(gateway.child.exitCode, null, `the gateway stopped: ${gateway.output.join("\n")}`);
  } finally {
    await gateway.stop();
  }
}

/** A test whose sockets are all gone when it ends. */
export function behaviour(name, body) {
  test(name, async () => {
    try {
      await body();
    } finally {
      sockets.forEach((socket) => socket.terminate());
      sockets.clear();
    }
  });
}
