// The cluster that the parts of auth-cluster.test.mjs share, and what they do with its nodes.
import { setTimeout as sleep } from "node:timers/promises";
import { ready, Redis, startNode } from "../cluster/setup.mjs";
import { request } from "../lib/http.mjs";
import { claims, hs256 } from "../lib/jwt.mjs";
import { everything, SECRET } from "./setup.mjs";

// Sessions move once the cluster has been whole for so long.
const STEADY_MS = 5_500;

const REALMS = ["--key", "peerjs", "--key", "other", "--expire_timeout", "1000"];
export const FLAGS = ["--auth", "required", "--jwt-secret", SECRET, "--jwt-max-lifetime", "7200000", "--jwt-leeway", "1000", ...REALMS];
export const redis = await Redis.start();
export const nodes = await Promise.all([[], [], ["--auth-without-redis", "refuse"]].map((flags) => startNode(redis, [...FLAGS, ...flags])));
await Promise.all(nodes.map((node) => ready(node)));
const began = performance.now();

/** A token that all nodes take. */
export const token = (changed) => hs256(SECRET, claims({ signalbox: everything, ...changed }));

/** Until sessions move. */
export const steady = () => sleep(Math.max(0, STEADY_MS - (performance.now() - began)));

/** Of the metrics of a node, one with its labels. */
export async function sample(node, name) {
  const { body } = await request(node.adminUrl, "GET", "/metrics");
  const line = body.split("\n").find((line) => line.startsWith(`${name} `));
  return Number(line?.split(" ").at(-1));
}
