// The WebSocket exchanges in which time matters: the queue of messages for absent peers, EXPIRE, liveness, stopping.

const message = (dst, payload, type = "OFFER") => ({ type, dst, payload });

const EXPIRE = "--expire_timeout 1000";
// For exchanges in which much has to happen before the time has run out.
const SLOW_EXPIRE = "--allow_discovery --expire_timeout 8000";
const ALIVE = "--alive_timeout 5000";

const EXPIRE_WITHIN = 12_000;

/** A message for somebody who never comes: once its EXPIRE is here, those of earlier messages must be here too. */
const later = (name) => [
  { send: name, json: message("<nobody>", "last") },
  { expired: "<nobody>", told: name, within: EXPIRE_WITHIN },
];

const queue = [
  {
    name: "queued until the destination opens",
    steps: [
      { open: "a" },
      { send: "a", json: message("<b>", 1, "OFFER") },
      { send: "a", json: { type: "ANSWER", dst: "<b>", src: "<c>", extra: 1 } },
      { send: "a", json: message("<b>", null, "CANDIDATE") },
      { sync: "a" },
      { open: "b" },
      { frames: "b", count: 4 },
      { send: "a", json: message("<b>", "live") },
      { sync: "b", from: "a" },
    ],
  },
  {
    name: "queued by two senders of whom one has gone",
    server: SLOW_EXPIRE,
    steps: [
      { open: "a" },
      { open: "gone" },
      { send: "a", json: message("<b>", 1) },
      { sync: "a" },
      { send: "gone", json: message("<b>", 2) },
      { sync: "gone" },
      { close: "gone" },
      { listed: "<gone>", present: false },
      { send: "a", json: message("<b>", 3) },
      { sync: "a" },
      { open: "b", token: "any" },
      { frames: "b", count: 4 },
      { sync: "b", from: "a" },
    ],
  },
  {
    name: "delivered from the queue only once",
    server: SLOW_EXPIRE,
    steps: [
      { open: "a" },
      { send: "a", json: message("<b>", "once") },
      { sync: "a" },
      { open: "b" },
      { frames: "b", count: 2 },
      { close: "b" },
      { listed: "<b>", present: false },
      { open: "again", id: "<b>" },
      { sync: "again" },
    ],
  },
  {
    name: "LEAVE and EXPIRE are not queued",
    server: EXPIRE,
    steps: [
      { open: "a" },
      { send: "a", json: message("<b>", 1, "LEAVE") },
      { send: "a", json: message("<b>", 2, "EXPIRE") },
      { sync: "a" },
      { open: "b" },
      { sync: "b", from: "a" },
      ...later("a"),
    ],
  },
];

const expiry = [
  {
    name: "EXPIRE with the default timeout",
    steps: [
      { open: "a" },
      { send: "a", json: message("<x>", 1) },
      { send: "a", json: message("<x>", 2, "CANDIDATE") },
      { frames: "a", count: 2, within: EXPIRE_WITHIN },
      { open: "x" },
      { sync: "x", from: "a" },
      { sync: "a" },
    ],
  },
  {
    name: "EXPIRE once for each pair",
    server: EXPIRE,
    steps: [
      { open: "a" },
      { open: "c" },
      ...[1, 2, 3].map((payload) => ({ send: "a", json: message("<x>", payload) })),
      { sync: "a" },
      { send: "c", json: message("<x>", 4) },
      { frames: "a", count: 2, within: EXPIRE_WITHIN },
      { frames: "c", count: 2, within: EXPIRE_WITHIN },
      ...later("a"),
    ],
  },
  {
    name: "EXPIRE again for a later message",
    server: EXPIRE,
    steps: [
      { open: "a" },
      { send: "a", json: message("<x>", 1) },
      { frames: "a", count: 2, within: EXPIRE_WITHIN },
      { send: "a", json: message("<x>", 2) },
      { frames: "a", count: 3, within: EXPIRE_WITHIN },
      { sync: "a" },
    ],
  },
  {
    // peer remembers whom it told as "source_destination", so it takes a_b to c and a to b_c for one pair when both run out at once. To
    // make sure that they do, somebody else begins both queues with a single write.
    name: "EXPIRE for ids that look alike when joined",
    steps: [
      { open: "beginner" },
      { open: "a", id: "<a>_b" },
      { open: "b", id: "<a>" },
      { send: "beginner", frames: ["<c>", "b_<c>"].map((dst) => ({ payload: JSON.stringify(message(dst, 0)) })) },
      { sync: "beginner" },
      { send: "a", json: message("<c>", 1) },
      { send: "b", json: message("b_<c>", 1) },
      { frames: "a", count: 2, within: EXPIRE_WITHIN },
      { frames: "b", count: 2, within: 2_000 },
    ],
  },
  {
    name: "EXPIRE finds the sender after a reconnect",
    server: SLOW_EXPIRE,
    steps: [
      { open: "old", id: "<a>" },
      { send: "old", json: message("<x>", 1) },
      { sync: "old" },
      { close: "old" },
      { listed: "<a>", present: false },
      { open: "new", id: "<a>" },
      { frames: "new", count: 2, within: EXPIRE_WITHIN },
    ],
  },
  {
    name: "EXPIRE is not kept for a sender who has gone",
    server: SLOW_EXPIRE,
    steps: [
      { open: "witness" },
      { open: "a" },
      { send: "a", json: message("<x>", 1) },
      { sync: "a" },
      { close: "a" },
      { listed: "<a>", present: false },
      { send: "witness", json: message("<y>", 1) },
      { frames: "witness", count: 2, within: EXPIRE_WITHIN },
      { open: "again", id: "<a>" },
      { sync: "again" },
      { open: "x" },
      { sync: "x" },
    ],
  },
  {
    name: "EXPIRE for a destination that is not a string",
    server: EXPIRE,
    steps: [
      { open: "a" },
      ...["5", "true", '["<x>"]'].map((dst) => ({ send: "a", text: `{"type":"OFFER","dst":${dst}}` })),
      ...later("a"),
    ],
  },
];

const alive = [
  {
    name: "liveness: nothing at all",
    server: ALIVE,
    steps: [
      { open: "a", autoPong: false },
      { closed: "a", within: 10_000 },
      { open: "b", id: "<a>", token: "another" },
    ],
  },
  {
    name: "liveness: heartbeats",
    server: ALIVE,
    steps: [{ open: "a", autoPong: false }, { repeat: [{ send: "a", json: { type: "HEARTBEAT" } }], every: 1_000, times: 7 }, { sync: "a" }],
  },
  {
    name: "liveness: other messages",
    server: ALIVE,
    steps: [{ open: "a", autoPong: false }, { repeat: [{ sync: "a" }], every: 1_000, times: 7 }],
  },
  {
    name: "liveness: messages that are ignored",
    server: ALIVE,
    steps: [{ open: "a", autoPong: false }, { repeat: [{ send: "a", json: { type: "HELLO" } }], every: 1_000, times: 7 }, { sync: "a" }],
  },
  {
    name: "liveness: pings of the client",
    server: ALIVE,
    steps: [{ open: "a", autoPong: false }, { repeat: [{ send: "a", frames: [{ opcode: 9 }] }], every: 1_000, times: 7 }, { sync: "a" }],
  },
  {
    name: "liveness: only answers to pings",
    server: ALIVE,
    steps: [{ open: "a", pings: true }, { wait: 7_000 }, { sync: "a" }],
  },
  {
    name: "liveness: a reconnect starts anew",
    // In the middle of the time that is left to the old socket, so that a slow machine does not matter.
    server: ALIVE,
    steps: [
      { open: "old", id: "<a>", autoPong: false },
      { wait: 3_000 },
      { open: "new", id: "<a>", autoPong: false, wait: false },
      { wait: 3_000 },
      { sync: "new" },
    ],
  },
];

const stopping = [
  {
    name: "stopping with a client connected",
    server: "(stopped)",
    steps: [{ open: "a" }, { signal: "SIGTERM", exitWithin: 10_000 }, { closed: "a", within: 2_000 }],
  },
];

export const timerExchanges = [...queue, ...expiry, ...alive, ...stopping];
