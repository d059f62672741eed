// Three gateways on a Redis Cluster whose masters die and are relieved, and whose slots move, under traffic.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/failovers.mjs` has the tests.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { failoversOfRedisCluster } from "./cluster/failovers.mjs";
import { startNodes } from "./cluster/setup.mjs";
import { RedisCluster } from "./cluster/stores.mjs";

after(closeAll);
const redis = await RedisCluster.start();
failoversOfRedisCluster(redis, await startNodes(redis, 3));
