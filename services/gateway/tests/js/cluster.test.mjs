// Three gateways on one Redis: unmodified clients on different nodes are together, whatever happens to Redis and to nodes.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/` has the tests.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { Redis, startNodes } from "./cluster/setup.mjs";
import { balanced } from "./cluster/balanced.mjs";
import { faults } from "./cluster/faults.mjs";
import { costs, vocabulary } from "./cluster/vocabulary.mjs";

const redis = await Redis.start();
const nodes = await startNodes(redis, 3);
after(closeAll);

vocabulary(nodes);
costs(redis, nodes);
balanced(nodes);
faults(redis, nodes);
