// Three gateways on one Redis, which goes away under traffic and comes back empty.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/failovers.mjs` has the tests.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { outage } from "./cluster/failovers.mjs";
import { Redis, startNodes } from "./cluster/setup.mjs";

after(closeAll);
const redis = await Redis.start();
outage(redis, await startNodes(redis, 3));
