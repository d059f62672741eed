// The WebSocket exchanges about messages: what is relayed, what it looks like then, and what malformed frames do.

const two = [{ open: "a" }, { open: "b" }];
const done = [{ sync: "b", from: "a" }, { sync: "a" }, { sync: "a", from: "b" }];

/** `a` sends these texts; whatever `b` and `a` receive of them is recorded. */
const texts = (name, ...list) => ({ name, steps: [...two, ...list.map((text) => ({ send: "a", text })), ...done] });

const toB = (rest) => `{"type":"OFFER","dst":"<b>"${rest}}`;

const relay = [
  {
    name: "relayed types",
    steps: [
      ...two,
      ...["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"].map((type) => ({ send: "a", json: { type, dst: "<b>", payload: { type } } })),
      ...done,
      { send: "b", json: { type: "ANSWER", dst: "<a>", payload: { back: true } } },
      { sync: "a", from: "b" },
    ],
  },
  {
    name: "to itself",
    steps: [
      { open: "a" },
      ...["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"].map((type) => ({ send: "a", json: { type, dst: "<a>" } })),
      { sync: "a" },
    ],
  },
  texts("forged source", toB(',"src":"<c>"'), toB(',"src":5'), toB(',"src":null'), toB(',"src":{"a":1}')),
  texts("unknown fields", toB(',"extra":1,"payload":1,"id":"x","__proto__":{"a":1}'), '{"more":[],"dst":"<b>","payload":2,"type":"ANSWER"}'),
  texts(
    "kinds of payload",
    toB(""),
    ...['null', '""', '"text"', "0", "-1.5", "true", "false", "[]", "{}", '[1,[2,{"a":null}]]', '{"payload":{"payload":{}}}'].map((payload) =>
      toB(`,"payload":${payload}`),
    ),
  ),
  texts("payload text: order of keys", toB(',"payload":{"b":1,"a":{"d":2,"c":3}}')),
  texts("payload text: keys like numbers", toB(',"payload":{"b":1,"2":2,"1":3}')),
  texts("payload text: repeated keys", toB(',"payload":{"a":1,"a":2}')),
  texts("payload text: spaces", '  { "type" : "OFFER" , "dst" : "<b>" , "payload" : { "a" : [ 1 , 2 ] } }\n'),
  texts("payload text: numbers", toB(',"payload":[1.0,1e2,-0,0.10,1E-7]')),
  texts("payload text: large numbers", toB(',"payload":[12345678901234567890,1e400]')),
  texts("payload text: escapes", toB(',"payload":"\\u00e9\\/\\u0041"')),
  texts("payload text: lone surrogate", toB(',"payload":"\\ud800"')),
  texts("payload text: unicode", toB(',"payload":"é🦊\u2028\u007f"')),
  texts("repeated fields", '{"type":"OFFER","type":"ANSWER","dst":"<c>","dst":"<b>","payload":1,"payload":2}'),
  texts("escaped names", '{"\\u0074ype":"OFF\\u0045R","d\\u0073t":"<b>","payload":1}'),
  texts("deep payload", toB(`,"payload":${"[".repeat(200)}${"]".repeat(200)}`)),
  texts("ignored types", ...["OPEN", "ID-TAKEN", "ERROR", "INVALID-KEY", "offer", "Offer", "OFFER ", "ACK", "", "__proto__", "constructor"].map(
    (type) => `{"type":"${type}","dst":"<b>","payload":1}`,
  )),
  texts("types that are not strings", ...["null", "5", "true", '["OFFER"]', "{}"].map((type) => `{"type":${type},"dst":"<b>"}`)),
  texts("no type", '{"dst":"<b>","payload":1}', "{}", "[]", '[{"type":"OFFER","dst":"<b>"}]'),
  texts("heartbeat", '{"type":"HEARTBEAT"}', '{"type":"HEARTBEAT","dst":"<b>","payload":1}', '{"type":"HEARTBEAT","dst":"<a>"}'),
  texts("no destination", '{"type":"OFFER"}', '{"type":"OFFER","dst":""}', '{"type":"OFFER","dst":null}', '{"type":"EXPIRE"}', '{"type":"ANSWER","dst":0}'),
  {
    name: "destination that is a number",
    steps: [{ open: "a" }, { open: "five", id: "55" }, { send: "a", text: '{"type":"OFFER","dst":55}' }, { sync: "five", from: "a" }],
  },
  {
    name: "in order",
    steps: [
      ...two,
      ...Array.from({ length: 50 }, (_, index) => ({ send: "a", json: { type: "CANDIDATE", dst: "<b>", payload: index } })),
      { frames: "b", count: 51 },
    ],
  },
  {
    name: "sent before OPEN",
    steps: [
      { open: "b" },
      { open: "a", wait: false },
      { send: "a", json: { type: "OFFER", dst: "<b>", payload: "early" } },
      { frames: "b", count: 2 },
      { sync: "a" },
    ],
  },
  {
    name: "to one who has left",
    server: "--allow_discovery --expire_timeout 8000",
    steps: [
      ...two,
      { close: "b" },
      { listed: "<b>", present: false },
      { send: "a", json: { type: "LEAVE", dst: "<b>" } },
      { send: "a", json: { type: "OFFER", dst: "<b>", payload: "kept" } },
      { sync: "a" },
      { open: "again", id: "<b>", token: "another" },
      { frames: "again", count: 2 },
      { sync: "again" },
    ],
  },
];

const json = JSON.stringify({ type: "OFFER", dst: "<b>", payload: "in pieces" });
const half = json.indexOf("dst");

const frames = [
  {
    name: "binary frame",
    steps: [...two, { send: "a", binary: json }, ...done],
  },
  {
    name: "fragmented message",
    steps: [
      ...two,
      {
        send: "a",
        frames: [
          { fin: false, payload: json.slice(0, half) },
          { fin: false, opcode: 0, payload: "" },
          { opcode: 9, payload: "between" },
          { opcode: 0, payload: json.slice(half) },
        ],
      },
      ...done,
    ],
  },
  { name: "fragmented binary message", steps: [...two, { send: "a", frames: [{ fin: false, opcode: 2, payload: json.slice(0, half) }, { opcode: 0, payload: json.slice(half) }] }, ...done] },
  { name: "ping", steps: [{ open: "a" }, { ping: "a", data: "hello" }, { ping: "a", data: "" }, { ping: "a", data: "x".repeat(125) }, { sync: "a" }] },
  { name: "unasked pong", steps: [{ open: "a" }, { send: "a", frames: [{ opcode: 10, payload: "x" }] }, { sync: "a" }] },
  { name: "length in more bytes than needed", steps: [...two, { send: "a", frames: [{ payload: json, lengthBytes: 8 }] }, ...done] },
];

// Violations of RFC 6455: the close code is what matters. The neighbour sees nothing of it.
const violations = [
  ["unmasked frame", { mask: false, payload: "{}" }],
  ["reserved bit", { rsv: 4, payload: "{}" }],
  ["reserved opcode", { opcode: 3, payload: "{}" }],
  ["reserved control opcode", { opcode: 11 }],
  ["long ping", { opcode: 9, payload: "x".repeat(126) }],
  ["fragmented ping", { opcode: 9, fin: false }],
  ["continuation of nothing", { opcode: 0, payload: "{}" }],
  ["message inside a message", { fin: false, payload: "{" }, { payload: "{}" }],
  ["close frame of one byte", { opcode: 8, payload: "x" }],
  ["close code 1005", { opcode: 8, payload: Buffer.from([0x03, 0xed]) }],
  ["close code 999", { opcode: 8, payload: Buffer.from([0x03, 0xe7]) }],
  ["close code 5000", { opcode: 8, payload: Buffer.from([0x13, 0x88]) }],
  ["close reason that is not UTF-8", { opcode: 8, payload: Buffer.from([0x03, 0xe8, 0xff]) }],
  ["text that is not UTF-8", { payload: Buffer.from([0x22, 0xff, 0x22]) }],
  ["declared length of 400 MB", { declared: 400_000_000, payload: "{" }],
  ["declared length of 2 MB", { declared: 2_000_000, payload: "{" }],
  ["declared length of 2^62", { declared: 2n ** 62n, payload: "{" }],
  ["declared length beyond 63 bits", { declared: 2n ** 63n, payload: "{" }],
].map(([name, ...list]) => ({
  name: `violation: ${name}`,
  steps: [{ open: "a" }, { open: "neighbour" }, { send: "a", frames: list }, { closed: "a" }, { sync: "neighbour" }],
}));

// A frame that holds no JSON object: the socket goes on as if nothing had happened.
const malformed = [
  ["not JSON", "{"],
  ["empty frame", ""],
  ["null", "null"],
  ["a string", '"OFFER"'],
  ["a number", "5"],
  ["a boolean", "true"],
  ["byte order mark", '\ufeff{"type":"HEARTBEAT"}'],
  ["trailing comma", '{"type":"HEARTBEAT",}'],
  ["two objects", '{"type":"HEARTBEAT"}{"type":"HEARTBEAT"}'],
  ["NaN", '{"type":"HEARTBEAT","payload":NaN}'],
].map(([name, text]) => ({
  name: `malformed: ${name}`,
  steps: [{ open: "a" }, { open: "neighbour" }, { send: "a", text }, { sync: "a" }, { sync: "neighbour" }],
}));

const big = [
  {
    name: "message of 900 kB",
    steps: [...two, { send: "a", json: { type: "OFFER", dst: "<b>", payload: "x".repeat(900_000) } }, ...done],
  },
  {
    name: "message of 1.5 MB",
    steps: [...two, { send: "a", json: { type: "OFFER", dst: "<b>", payload: "x".repeat(1_500_000) } }, { frames: "b", count: 2 }, { sync: "b" }],
  },
];

export const relayExchanges = [...relay, ...frames, ...violations, ...malformed, ...big];
