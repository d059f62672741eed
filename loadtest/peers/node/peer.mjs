// What the load test compares with: `peer` from npm, the reference of the PeerServer protocol, with its defaults but one.

import { PeerServer } from "peer";
import { port, announce } from "./arguments.mjs";

// Its default of 5,000 clients is a setting, not what it can do.
const options = { host: "127.0.0.1", port, concurrent_limit: 1_000_000 };
PeerServer(options, (http) => announce("peer", http));
