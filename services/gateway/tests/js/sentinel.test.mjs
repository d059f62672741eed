// Three gateways on servers that Sentinel watches; the master dies and is relieved under traffic.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/failovers.mjs` has the tests.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { failoversOfSentinel } from "./cluster/failovers.mjs";
import { startNodes } from "./cluster/setup.mjs";
import { Watched } from "./cluster/stores.mjs";

after(closeAll);
const redis = await Watched.start();
failoversOfSentinel(redis, await startNodes(redis, 3));
