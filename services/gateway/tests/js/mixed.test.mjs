// Nodes of the previous format and of the present one in one cluster, under traffic. Starts everything itself; GATEWAY_BIN names the
// present gateway, PREVIOUS_BIN the one that `cargo xtask prepare` builds from the history. `cluster/mixed.mjs` has the tests.
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { closeAll } from "./lib/cleanup.mjs";
import { upgrading } from "./cluster/balanced.mjs";
import { mixed, PREVIOUS } from "./cluster/mixed.mjs";
import { PEER_FLAGS, peers } from "./cluster/peers.mjs";
import { ready, Redis, startNode } from "./cluster/setup.mjs";
import { vocabulary } from "./cluster/vocabulary.mjs";

const STEADY_MS = 4_500;

after(closeAll);
const redis = await Redis.start();
const nodes = await Promise.all([PREVIOUS, undefined, PREVIOUS, undefined].map((binary) => startNode(redis, PEER_FLAGS, binary)));
await Promise.all(nodes.map(ready));

const began = performance.now();
vocabulary(nodes);
peers(nodes.slice(0, 3));
// Sessions move once the cluster has been steady for a while.
test("the cluster is steady", () => pause(Math.max(0, STEADY_MS - (performance.now() - began))));
upgrading(nodes);
mixed(nodes);
