// Three gateways on one Redis behind a load balancer, and two that join: clients are sent there, while they talk.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/rebalance.mjs` has the test.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { rebalance } from "./cluster/rebalance.mjs";
import { Redis } from "./cluster/setup.mjs";

const redis = await Redis.start();
after(closeAll);

rebalance(redis);
