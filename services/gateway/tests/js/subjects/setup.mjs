// The cluster of subjects.test.mjs, whose tokens are let in four times at the same moment.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { ready, Redis, startNode } from "../cluster/setup.mjs";
import { claims, hs256 } from "../lib/jwt.mjs";
import { request } from "../lib/http.mjs";
import { until } from "../lib/wait.mjs";
import { everything, io, ioRefusal, peerAnswer, SECRET } from "../auth/setup.mjs";

// Sessions move once the cluster has been whole for so long.
const STEADY_MS = 5_500;

const FLAGS = ["--auth", "required", "--jwt-secret", SECRET, "--connections-per-subject", "4"];
export const redis = await Redis.start();
export const nodes = await Promise.all(Array.from({ length: 3 }, () => startNode(redis, FLAGS)));
await Promise.all(nodes.map((node) => ready(node)));
const began = performance.now();

/** Until sessions move. */
export const steady = () => sleep(Math.max(0, STEADY_MS - (performance.now() - began)));

/** A token of this subject. */
export const shown = (sub, grants = {}) => hs256(SECRET, claims({ sub, signalbox: { ...everything, ...grants } }));

/** A socket.io-client that is let in, or an error. */
export const connect = (node, token, options) => io(node, token, options);

/** A node lets nobody in with this token, of neither protocol. */
export async function refused(node, token) {
  assert.deepEqual(await ioRefusal(node.url, { auth: { token } }), { code: "too-many-connections", message: "too many connections of this subject" });
  assert.equal(await peerAnswer(node, `refused ${Math.random()}`, token), "ERROR: too many connections of this subject");
}

/** There is room for so many connections, soon, and for no more. */
export async function room(node, token, count, limit) {
  for (let number = 0; number < count; number += 1) {
    await until(() => connect(node, token).then(() => true, () => false), "a place is free", limit);
  }
  await refused(node, token);
}

/** A metric of a node, with its labels. */
export async function sample(node, name) {
  const { body } = await request(node.adminUrl, "GET", "/metrics");
  const line = body.split("\n").find((line) => line.startsWith(`${name} `));
  return Number(line?.split(" ").at(-1));
}
