// The admin API of three gateways on one Redis, with real clients on each of them: whichever node is asked answers for all.
// Starts everything itself; GATEWAY_BIN names the gateway. `admin/` has the tests; PARTS names those to run, if not all.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { Redis, startNodes } from "./cluster/setup.mjs";
import { act, dying } from "./admin/act.mjs";
import { access } from "./admin/access.mjs";
import { cli } from "./admin/cli.mjs";
import { cursors } from "./admin/cursors.mjs";
import { explain } from "./admin/explain.mjs";
import { look } from "./admin/look.mjs";
import { rules } from "./admin/rules.mjs";
import { longOperations } from "./admin/operations.mjs";
import { partial } from "./admin/partial.mjs";

const redis = await Redis.start();
const nodes = await startNodes(redis, 3);
after(closeAll);

const parts = {
  look: () => look(nodes),
  access: () => access(nodes),
  cursors: () => cursors(nodes),
  act: () => act(nodes),
  cli: () => cli(nodes),
  explain: () => explain(nodes),
  rules: () => rules(redis, nodes),
  operations: () => longOperations(redis, nodes),
  partial: () => partial(redis, nodes),
  // What is left of its nodes is named for a few seconds more.
  dying: () => dying(redis, nodes),
};
for (const part of process.env.PARTS?.split(",") ?? Object.keys(parts)) parts[part]();
