// One gateway of a cluster is cut off from Redis: what its clients, and those of the others, notice of it.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/cuts.mjs` has the tests.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { cuts } from "./cluster/cuts.mjs";
import { Redis, startNodes } from "./cluster/setup.mjs";

const redis = await Redis.start();
const nodes = await startNodes(redis, 2);
after(closeAll);

cuts(redis, nodes);
