// Three gateways on a Redis Cluster do what they do on one Redis: rooms, ids, letters, sessions that move.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/` has the tests.
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { closeAll } from "./lib/cleanup.mjs";
import { upgrading } from "./cluster/balanced.mjs";
import { PEER_FLAGS, peers } from "./cluster/peers.mjs";
import { startNodes } from "./cluster/setup.mjs";
import { RedisCluster } from "./cluster/stores.mjs";
import { vocabulary } from "./cluster/vocabulary.mjs";

const STEADY_MS = 4_500;

after(closeAll);
const redis = await RedisCluster.start();
const nodes = await startNodes(redis, 3, PEER_FLAGS);

const began = performance.now();
vocabulary(nodes);
peers(nodes);
// Sessions move once the cluster has been steady for a while.
test("the cluster is steady", () => pause(Math.max(0, STEADY_MS - (performance.now() - began))));
upgrading(nodes);
