// The WebSocket exchanges about who gets in: parameters, keys, ids, tokens, the limit, reconnecting, leaving.

const DISCOVERY = "--allow_discovery --expire_timeout 8000";

const offer = (dst, payload) => ({ type: "OFFER", dst, payload });

/** Each id is claimed by a socket of its own, which then sends itself a message: the answer shows the id the server understood. */
const ids = (entries) =>
  entries.flatMap(([name, id]) => [{ open: name, id }, { send: name, json: offer(id, 1) }, { frames: name, count: 2 }]);

const parameters = [
  {
    name: "opening",
    steps: [{ open: "a", showUpgrade: true }, { sync: "a" }],
  },
  {
    name: "missing or empty parameters",
    steps: [
      { open: "id", query: "key=peerjs&token=t" },
      { open: "token", query: "key=peerjs&id=<token>" },
      { open: "key", query: "id=<key>&token=t" },
      { open: "all", query: "" },
      { open: "emptyid", query: "key=peerjs&id=&token=t" },
      { open: "emptytoken", query: "key=peerjs&id=<emptytoken>&token=" },
      { open: "emptykey", query: "key=&id=<emptykey>&token=t" },
      { open: "bare", query: "key&id&token" },
      { open: "uppercase", query: "KEY=peerjs&ID=<uppercase>&TOKEN=t" },
      ...["id", "token", "key", "all", "emptyid", "emptytoken", "emptykey", "bare", "uppercase"].map((closed) => ({ closed })),
    ],
  },
  {
    name: "missing id and wrong key",
    steps: [{ open: "a", query: "key=wrong&token=t" }, { closed: "a" }],
  },
  {
    name: "wrong key",
    steps: [
      { open: "a", key: "wrong" },
      { closed: "a" },
      { open: "b", key: "PEERJS" },
      { closed: "b" },
      { open: "holder" },
      { open: "taken", id: "<holder>", token: "another", key: "wrong" },
      { closed: "taken" },
      { sync: "holder" },
    ],
  },
  {
    name: "id taken",
    steps: [
      { open: "holder" },
      { open: "other", token: "another", id: "<holder>" },
      { closed: "other" },
      { open: "lookalike", token: "TOKEN OF <holder>", id: "<holder>" },
      { closed: "lookalike" },
      { sync: "holder" },
    ],
  },
  {
    name: "how parameters are read",
    steps: [
      // The last of two wins, `+` is a space, unknown parameters and the order do not matter.
      ...readAs("twice", "key=wrong&key=peerjs&id=first&id=<twice>&token=t&token=u", "<twice>"),
      ...readAs("plus", "token=t&key=peerjs&id=<plus>+x&nothing=1", "<plus> x"),
      ...readAs("percent", "id=%26<percent>%2B%C3%A9&key=peerjs&token=t", "&<percent>+é"),
      ...readAs("broken", "id=<broken>%zz%&key=peerjs&token=t", "<broken>%zz%"),
      ...readAs("utf", "id=<utf>%ff&key=peerjs&token=t", "<utf>\ufffd"),
      ...readAs("semicolon", "id=<semicolon>;x&key=peerjs&token=t", "<semicolon>;x"),
      ...readAs("equals", "id=<equals>=x&key=peerjs&token=t", "<equals>=x"),
      ...readAs("encoded", "%69d=<encoded>&key=peerjs&token=t", "<encoded>"),
      ...readAs("emptylast", "key=peerjs&id=<emptylast>&token=t&version=", "<emptylast>"),
    ],
  },
  {
    name: "unusual ids",
    steps: ids([
      ["accent", "é<accent>"],
      ["emoji", "🦊<emoji>"],
      ["slash", "a/b<slash>"],
      ["markup", "\"\\<markup>'"],
      ["control", "\u0001\n<control>"],
      ["proto", "__proto__"],
      ["ctor", "constructor"],
      ["space", " "],
      ["number", "5"],
      ["nul", "\u0000"],
      ["separator", "\u2028<separator>"],
      ["long", `${"x".repeat(220)}<long>`],
    ]),
  },
  {
    name: "id of 5,000 characters",
    steps: [...ids([["a", `${"x".repeat(4_980)}<a>`]])],
  },
  {
    name: "unusual tokens",
    steps: [
      { open: "long", token: "t".repeat(2_048) },
      { open: "longer", token: `${"t".repeat(2_048)}x`, id: "<long>" },
      { closed: "longer" },
      { open: "signed", token: "eyJhbGciOiJub25lIn0.eyJhIjoiw6kifQ.a-b_c==" },
      { sync: "long" },
      { sync: "signed" },
    ],
  },
  {
    name: "subprotocol",
    steps: [{ open: "a", protocols: ["first", "second"], showUpgrade: true }, { sync: "a" }],
  },
  {
    name: "extension",
    steps: [{ open: "a", headers: { "Sec-WebSocket-Extensions": "permessage-deflate" }, showUpgrade: true }, { sync: "a" }],
  },
  {
    name: "another origin",
    steps: [{ open: "a", headers: { Origin: "https://app.example", Cookie: "a=b" }, showUpgrade: true }, { sync: "a" }],
  },
  {
    name: "another origin than --cors",
    server: "--path /myapp/ --cors https://a.example --cors https://b.example",
    steps: [
      { open: "a", path: "/myapp/peerjs", headers: { Origin: "https://a.example" }, showUpgrade: true },
      { open: "c", path: "/myapp/peerjs", headers: { Origin: "https://c.example" }, showUpgrade: true },
      { sync: "a" },
    ],
  },
  {
    name: "wrong path",
    steps: [
      { open: "slash", path: "/peerjs/" },
      { open: "upper", path: "/PEERJS" },
      { open: "none", path: "/" },
      { open: "more", path: "/peerjs/peerjs" },
      { open: "id", path: "/peerjs/id" },
    ],
  },
  {
    name: "mounted",
    server: "--path /myapp",
    steps: [
      { open: "a", path: "/myapp/peerjs" },
      { open: "b", path: "/myapp/peerjs", token: "t", id: "<a>" },
      { closed: "b" },
      { sync: "a" },
      { open: "root", path: "/peerjs" },
    ],
  },
  {
    name: "mounted without a slash",
    server: "--path myapp",
    steps: [{ open: "a", path: "/myapp/peerjs" }, { sync: "a" }],
  },
  {
    name: "mounted deeper, with a key",
    server: "--path /a/b --key secret",
    steps: [
      { open: "a", path: "/a/b/peerjs", key: "secret" },
      { open: "b", path: "/a/b/peerjs", key: "peerjs" },
      { closed: "b" },
      { open: "key", path: "/a/b/secret", key: "secret" },
      { open: "half", path: "/a/peerjs", key: "secret" },
      { sync: "a" },
    ],
  },
];

const limit = [
  {
    name: "concurrent limit",
    server: "--concurrent_limit 2 --allow_discovery",
    steps: [
      { open: "a" },
      { open: "b" },
      { open: "third" },
      { closed: "third" },
      // What the limit comes after.
      { open: "taken", id: "<a>", token: "another" },
      { closed: "taken" },
      { open: "incomplete", query: "key=peerjs&id=<incomplete>" },
      { closed: "incomplete" },
      { open: "wrong", key: "wrong" },
      { closed: "wrong" },
      // A fetched id is not a registered id.
      { http: { path: "/peerjs/id" }, as: "id" },
      { open: "again", id: "<b>" },
      { close: "again" },
      { close: "b" },
      { listed: "<b>", present: false },
      { open: "fourth" },
      { sync: "a" },
      { sync: "fourth" },
    ],
  },
];

const discovery = [
  {
    name: "list of peers",
    server: "--allow_discovery (list)",
    steps: [
      { http: { path: "/peerjs/peers" }, as: "empty" },
      { open: "a" },
      { http: { path: "/peerjs/peers" }, as: "one" },
      { http: { path: "/other/peers" }, as: "other key" },
      { http: { method: "HEAD", path: "/peerjs/peers" }, as: "head" },
      { http: { path: "/PEERJS/PEERS/?x=1", headers: { Origin: "https://app.example" } }, as: "spelled otherwise" },
      { open: "refused", id: "<a>", token: "another" },
      { closed: "refused" },
      { http: { path: "/peerjs/peers" }, as: "after a refusal" },
      { close: "a" },
      { listed: "<a>", present: false },
      { http: { path: "/peerjs/peers" }, as: "empty again" },
      { open: "b", id: 'é"\\/ \u0001' },
      { http: { path: "/peerjs/peers" }, as: "unusual" },
    ],
  },
];

const returning = [
  {
    name: "reconnect while the old socket is open",
    steps: [
      { open: "b" },
      { open: "old", id: "<a>" },
      { open: "new", id: "<a>" },
      { closed: "old" },
      { send: "b", json: offer("<a>", "who receives") },
      { sync: "new", from: "b" },
      // Of the old socket nothing is relayed any more.
      { send: "old", json: offer("<b>", "late") },
      { frames: "b", count: 2 },
      { close: "old" },
      // Nor does its end touch the new one.
      { sync: "new" },
      { sync: "b", from: "new" },
    ],
  },
  {
    name: "reconnect after the old socket was cut",
    server: DISCOVERY,
    steps: [
      { open: "old", id: "<a>" },
      { terminate: "old" },
      { listed: "<a>", present: false },
      { open: "new", id: "<a>" },
      { sync: "new" },
    ],
  },
  {
    name: "an id is free once its socket has closed",
    server: DISCOVERY,
    steps: [
      { open: "a", id: "<x>" },
      { close: "a", code: 1000 },
      { listed: "<x>", present: false },
      { open: "b", id: "<x>", token: "another" },
      { sync: "b" },
    ],
  },
  {
    name: "LEAVE without a destination",
    server: DISCOVERY,
    steps: [
      { open: "witness" },
      { open: "first", id: "<a>", token: "one" },
      { send: "first", json: { type: "LEAVE" } },
      { listed: "<a>", present: false },
      { open: "second", id: "<a>", token: "two" },
      { send: "first", json: offer("<witness>", "of one who left") },
      { frames: "witness", count: 2 },
      // The first one's end must not take the id from the second.
      { close: "first" },
      { sync: "witness" },
      { send: "witness", json: offer("<a>", "to the second") },
      { frames: "second", count: 2 },
      { listed: "<a>" },
    ],
  },
  {
    name: "LEAVE with an empty destination",
    server: DISCOVERY,
    steps: [
      { open: "empty" },
      { send: "empty", json: { type: "LEAVE", dst: "" } },
      { open: "null" },
      { send: "null", json: { type: "LEAVE", dst: null } },
      { listed: "<empty>", present: false },
      { listed: "<null>", present: false },
    ],
  },
];

const closing = [
  ["without a code", undefined, undefined],
  ["with 1000", 1000, "done"],
  ["with 3001", 3001, "reason"],
  ["with 4999", 4999, ""],
].map(([name, code, reason]) => ({ name: `closing ${name}`, steps: [{ open: "a" }, { close: "a", code, reason }] }));

/** Opens with the raw query and sends itself a message under the id that the query should mean. */
function readAs(name, query, id) {
  return [{ open: name, query }, { send: name, json: offer(id, 1) }, { frames: name, count: 2 }];
}

export const handshakeExchanges = [...parameters, ...limit, ...discovery, ...returning, ...closing];
