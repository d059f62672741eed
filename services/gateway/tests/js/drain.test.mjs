// Three gateways on one Redis behind a load balancer, that are drained and replaced while clients talk.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/drain.mjs` has the test.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { drain } from "./cluster/drain.mjs";
import { Redis } from "./cluster/setup.mjs";

const redis = await Redis.start();
after(closeAll);

drain(redis);
