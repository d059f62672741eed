// Three gateways on one Redis: unmodified clients on different nodes are together, whatever happens to Redis and to nodes.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/` has the tests; PARTS names those to run, if not all.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { Redis, startNodes } from "./cluster/setup.mjs";
import { balanced } from "./cluster/balanced.mjs";
import { faults } from "./cluster/faults.mjs";
import { costs, vocabulary } from "./cluster/vocabulary.mjs";

const redis = await Redis.start();
const nodes = await startNodes(redis, 3);
after(closeAll);

const parts = {
  vocabulary: () => vocabulary(nodes),
  costs: () => costs(redis, nodes),
  balanced: () => balanced(redis, nodes),
  faults: () => faults(redis, nodes),
};
for (const part of process.env.PARTS?.split(",") ?? Object.keys(parts)) parts[part]();
