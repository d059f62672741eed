// The HTTP exchanges: one request each, named after its request line.

const ORIGIN = { Origin: "https://app.example" };
const PREFLIGHT = { ...ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-one, x-two" };
const UPGRADE = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Version": "13",
};

function exchange(server, method, path, headers, variant) {
  const name = `${server === "default" ? "" : `${server}: `}${method} ${path}${variant ? ` ${variant}` : ""}`;
  return { name, server, http: { method, path, headers } };
}

const get = (path, headers, variant) => exchange("default", "GET", path, headers, variant);
const send = (method, path, headers, variant) => exchange("default", method, path, headers, variant);
const on = (server) => (method, path, headers, variant) => exchange(server, method, path, headers, variant);

const routes = [
  get("/"),
  get("/?format=text"),
  get("/peerjs/id"),
  get("/peerjs/id?ts=17953904969270.0739&version=1.5.5", {}, "as the client asks"),
  get("/peerjs/peers"),
  get("/peerjs/peers?ts=17953904969270.0739&version=1.5.5", {}, "as the client asks"),
  // The key of an HTTP path is never checked.
  get("/anything/id"),
  get("/anything/peers"),
  get("/a%2Fb/id"),
  get("/%C3%A9/id"),
  get("/id/id"),
  get("/peers/peers"),
  // Routing: any case, a trailing slash or two.
  get("/PEERJS/ID"),
  get("/peerjs/Id/"),
  get("/peerjs/id//"),
  get("/PeerJS/Peers/"),
  get("/peerjs//id"),
  get("//peerjs/id"),
  get("/peerjs/%69d"),
  get("/peerjs/id%20"),
  get("/%zz/id"),
  get("/peerjs/id/more"),
  get("/a/b/id"),
  get("/./peerjs/id"),
  get("/peerjs/../peerjs/id"),
  // What is not there.
  get("/id"),
  get("/peers"),
  get("/peerjs"),
  get("/peerjs/"),
  get("//"),
  get("/nothing/here?x=1"),
  get("/favicon.ico"),
  get("/%3Cscript%3E"),
  get("/livez"),
  get("/readyz"),
  get("/metrics"),
  get("/admin/"),
  get("/admin/v1/openapi.json"),
];

const methods = [
  send("HEAD", "/"),
  send("HEAD", "/peerjs/id"),
  send("HEAD", "/peerjs/peers"),
  send("HEAD", "/nothing/here"),
  send("POST", "/"),
  send("POST", "/peerjs/id"),
  send("PUT", "/peerjs/id"),
  send("PATCH", "/peerjs/id"),
  send("DELETE", "/peerjs/peers"),
  send("OPTIONS", "/"),
  send("OPTIONS", "/peerjs/id"),
  send("OPTIONS", "/nothing/here"),
];

const cors = [
  get("/", ORIGIN, "of another origin"),
  get("/peerjs/id", ORIGIN, "of another origin"),
  get("/peerjs/peers", ORIGIN, "of another origin"),
  get("/nothing/here", ORIGIN, "of another origin"),
  get("/%zz/id", ORIGIN, "of another origin"),
  get("/peerjs/id", { Origin: "null" }, "of a sandboxed page"),
  get("/peerjs/id", { ...ORIGIN, Cookie: "a=b" }, "with a cookie"),
  send("HEAD", "/peerjs/id", ORIGIN, "of another origin"),
  send("POST", "/peerjs/id", ORIGIN, "of another origin"),
  send("OPTIONS", "/peerjs/id", PREFLIGHT, "as a preflight"),
  send("OPTIONS", "/peerjs/peers", PREFLIGHT, "as a preflight"),
  send("OPTIONS", "/nothing/here", PREFLIGHT, "as a preflight"),
  send("OPTIONS", "/peerjs/id", { ...ORIGIN, "Access-Control-Request-Method": "DELETE" }, "as a preflight without headers"),
];

const caching = [
  get("/", { "If-None-Match": "*" }, "with If-None-Match"),
  get("/peerjs/id", { "If-None-Match": "*" }, "with If-None-Match"),
  get("/peerjs/id", { "Accept-Encoding": "gzip, br" }, "accepting compression"),
];

const upgrades = [
  get("/peerjs/id", { Connection: "Upgrade", Upgrade: "h2c" }, "upgrading to h2c"),
  get("/peerjs", { ...UPGRADE, "Sec-WebSocket-Version": "12" }, "with WebSocket version 12"),
  get("/peerjs", { ...UPGRADE, "Sec-WebSocket-Key": "short" }, "with a bad WebSocket key"),
  get("/peerjs", { ...UPGRADE, "Sec-WebSocket-Version": "8" }, "with WebSocket version 8"),
  send("POST", "/peerjs", UPGRADE, "upgrading"),
  get("/peerjs/", UPGRADE, "upgrading"),
  get("/PEERJS", UPGRADE, "upgrading"),
  get("/peerjs/id", UPGRADE, "upgrading"),
  get("/", UPGRADE, "upgrading"),
  get("/nothing/here", UPGRADE, "upgrading"),
  get("/nothing/here", { ...UPGRADE, ...ORIGIN }, "upgrading from another origin"),
];

// Paths that Signalbox uses for something else: to peer, their first segment is a key like any other.
const taken = [get("/socket.io/id"), get("/socket.io/"), get("/demo/id"), get("/demo/"), get("/demo"), get("/turn/id")];

const mounted = ["/myapp", "/myapp/", "/MYAPP", "/myapp/peerjs/id", "/MyApp/PeerJS/id/", "/myapp/peerjs/peers", "/myapp/nothing"]
  .concat(["/", "/peerjs/id", "/peerjs/peers", "/myappx/peerjs/id", "/myapp/myapp/id", "/myapp//peerjs/id", "/myapp//", "//myapp/peerjs/id"])
  .map((path) => on("--path /myapp")("GET", path, ORIGIN))
  .concat([
    on("--path /myapp")("OPTIONS", "/myapp/peerjs/id", PREFLIGHT),
    on("--path /myapp")("OPTIONS", "/peerjs/id", PREFLIGHT),
    on("--path /myapp")("HEAD", "/peerjs/id", ORIGIN),
    on("--path /myapp")("GET", "/peerjs", { ...UPGRADE, ...ORIGIN }, "upgrading"),
    on("--path /myapp")("GET", "/myapp/peerjs/", { ...UPGRADE, ...ORIGIN }, "upgrading"),
    on("--path /myapp")("GET", "/MYAPP/peerjs", { ...UPGRADE, ...ORIGIN }, "upgrading"),
    on("--path /myapp")("GET", "/myapp", { ...UPGRADE, ...ORIGIN }, "upgrading"),
  ]);

const bare = ["/myapp", "/myapp/", "/myapp/peerjs/id", "/peerjs/id"].map((path) => on("--path myapp")("GET", path));

const key = ["/a/b", "/a/b/", "/a/b/secret/id", "/a/b/peerjs/id", "/a/b/secret/peers", "/a/b/peerjs/peers", "/a/secret/id", "/"].map((path) =>
  on("--path /a/b --key secret")("GET", path),
);

// The mount is given with a trailing slash here.
const ORIGINS = "--path /myapp/ --cors https://a.example --cors https://b.example";
const originList = ["https://a.example", "https://b.example", "https://c.example", "http://a.example", "https://A.example", "null"]
  .map((origin) => on(ORIGINS)("GET", "/myapp/peerjs/id", { Origin: origin }, `of ${origin}`))
  .concat([
    on(ORIGINS)("GET", "/myapp"),
    on(ORIGINS)("GET", "/myapp/"),
    on(ORIGINS)("GET", "/myapp/peerjs/id"),
    on(ORIGINS)("GET", "/myapp/peerjs/peers", { Origin: "https://a.example" }, "of https://a.example"),
    on(ORIGINS)("OPTIONS", "/myapp/peerjs/id", { ...PREFLIGHT, Origin: "https://a.example" }, "of https://a.example"),
    on(ORIGINS)("OPTIONS", "/myapp/peerjs/id", { ...PREFLIGHT, Origin: "https://c.example" }, "of https://c.example"),
  ]);

export const httpExchanges = [
  ...routes,
  ...methods,
  ...cors,
  ...caching,
  ...upgrades,
  ...taken,
  ...mounted,
  ...bare,
  ...key,
  ...originList,
];
