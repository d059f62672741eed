// Three gateways on one Redis, and a room that many come to and leave all the time.
// Starts everything itself; GATEWAY_BIN names the gateway. `cluster/churn.mjs` has the test.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { churn } from "./cluster/churn.mjs";
import { Redis, startNodes } from "./cluster/setup.mjs";

const redis = await Redis.start();
// A crowd that a busy machine is slow to tell everything answers pings late; that is not what is looked at.
const nodes = await startNodes(redis, 3, ["--ping-interval", "600000", "--ping-timeout", "600000"]);
after(closeAll);

churn(redis, nodes);
