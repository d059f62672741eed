// What the programs here have in common: `--port N` (0, the default, is any free one), `--redis URL` for a cluster, `--announce` for presence in rooms, and the line
// that says where they listen.

import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { port: { type: "string", default: "0" }, redis: { type: "string" }, announce: { type: "boolean" } } });

/** The port to listen at. */
export const port = Number(values.port);

/** The Redis that several servers share, if any. */
export const { redis } = values;

/** Whether the members of a room are told of each other. */
export const announces = values.announce === true;

/** Prints where the server listens. */
export function announce(name, server) {
  console.log(`${name} listening public=http://127.0.0.1:${server.address().port}`);
}
