// Three gateways on a Redis Cluster do what they do on one Redis: rooms, ids, letters, sessions that move.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/` has the tests.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { upgrading } from "./cluster/balanced.mjs";
import { PEER_FLAGS, peers } from "./cluster/peers.mjs";
import { startNodes } from "./cluster/setup.mjs";
import { RedisCluster } from "./cluster/stores.mjs";
import { vocabulary } from "./cluster/vocabulary.mjs";

after(closeAll);
const redis = await RedisCluster.start();
const nodes = await startNodes(redis, 3, PEER_FLAGS);

vocabulary(nodes);
peers(nodes);
upgrading(nodes);
