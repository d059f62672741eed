// Nodes of one format are replaced, one after the other, by nodes of the other, while clients talk: DIRECTION is `update`, from the
// previous format to the present one, or `rollback`. Starts everything itself, as `mixed.test.mjs` does; `cluster/drain.mjs` has the test.
import { after } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { replacing } from "./cluster/drain.mjs";
import { PREVIOUS } from "./cluster/mixed.mjs";
import { Redis } from "./cluster/setup.mjs";

const redis = await Redis.start();
after(closeAll);

const directions = { update: { from: PREVIOUS }, rollback: { to: PREVIOUS } };
// Some poll all the time, so that their requests cross from node to node all the time.
replacing(redis, { ...directions[process.env.DIRECTION], polls: (number) => number % 5 === 0 });
