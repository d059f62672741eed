// Files of one's own, served beside the protocols: what is served, what is not, and what an address of a room means.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, utimes, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { connected } from "./lib/clients.mjs";
import { request } from "./lib/http.mjs";
import { startGateway } from "./lib/peer-servers.mjs";

after(closeAll);
let folder;
let server;
const get = (at, headers = {}, method = "GET") => request(server.url, method, at, { headers });

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "static-"));
  onEnd(() => rm(folder, { recursive: true, force: true }));
  const root = path.join(folder, "root");
  const files = {
    "root/index.html": "<h1>home</h1>",
    "root/script.js": "let a = 1",
    "root/a b.txt": "a space",
    "root/.secret": "hidden",
    "root/.git/config": "hidden",
    "root/plain/only.txt": "only",
    "root/r/{room}.html": "<script>const ROOM_ID = '<%= roomId %>', again = `${'<%= room %>'}`</script>",
    "root/large.bin": "x".repeat(300_000),
    "outside/secret.txt": "outside",
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), text);
  }
  await symlink(path.join(folder, "outside"), path.join(root, "out"));
  await symlink(path.join(folder, "outside/secret.txt"), path.join(root, "out.txt"));
  await symlink("script.js", path.join(root, "link.js"));
  server = await startGateway(["--workers", "1", "--static", root]);
  onEnd(() => server.stop());
});

test("files are served with their types, and again only when they have changed", async () => {
  for (const [at, type, body] of [
    ["/", /^text\/html/, "<h1>home</h1>"],
    ["/index.html?x=1", /^text\/html/, "<h1>home</h1>"],
    ["/script.js", /javascript/, "let a = 1"],
    ["/link.js", /javascript/, "let a = 1"],
    ["/a%20b.txt", /^text\/plain/, "a space"],
    ["/plain/only.txt", /^text\/plain/, "only"],
  ]) {
    const { status, headers, body: got } = await get(at);
    assert.deepEqual([status, got, headers["x-content-type-options"], headers["cache-control"]], [200, body, "nosniff", "no-cache"], at);
    assert.match(headers["content-type"], type);
    const again = await get(at, { "if-none-match": headers.etag });
    assert.deepEqual([again.status, again.body], [304, ""], at);
    const head = await get(at, {}, "HEAD");
    assert.deepEqual([head.status, head.body, head.headers["content-length"]], [200, "", `${body.length}`], at);
  }
  const { headers } = await get("/script.js");
  await writeFile(path.join(folder, "root/script.js"), "let a = 2");
  await utimes(path.join(folder, "root/script.js"), new Date(), new Date(Date.now() + 5_000));
  assert.equal((await get("/script.js", { "if-none-match": headers.etag })).body, "let a = 2");
  const part = await get("/large.bin", { range: "bytes=10-19" });
  assert.deepEqual([part.status, part.body], [206, "x".repeat(10)]);
  assert.equal((await get("/large.bin")).bytes.length, 300_000);
});

test("nothing else is: no lists, no hidden files, nothing outside", async () => {
  const paths = [
    "/plain/", "/missing.txt", "/.secret", "/.git/config", "/plain/../.secret", "/out/secret.txt", "/out.txt", "/out/",
    "/../outside/secret.txt", "/%2e%2e/outside/secret.txt", "/plain/..%2f..%2foutside/secret.txt", "/..%5coutside", "/script.js/", "/script.js/x", "/a%00b",
    "/%252e%252e/outside/secret.txt", "//outside/secret.txt", "/plain//only.txt", "/\xff", "/*",
  ];
  for (const at of paths) {
    const { status, body } = await raw(at);
    assert.ok(status === 404 || status === 400, `${at}: ${status} ${body}`);
    assert.doesNotMatch(body, /outside\n|hidden|only\.txt<\/a>/);
  }
  for (const method of ["POST", "PUT", "DELETE"]) assert.equal((await get("/script.js", {}, method)).status, 404);
  const slash = await get("/plain?x=1");
  assert.deepEqual([slash.status, slash.headers.location], [308, "/plain/?x=1"]);
});

/** As it is, where a client library would tidy it. */
async function raw(at) {
  const { hostname, port } = new URL(server.url);
  const socket = net.connect(port, hostname);
  socket.write(`GET ${at} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`, "latin1");
  const chunks = [];
  for await (const chunk of socket) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString("latin1");
  return { status: Number(text.split(" ")[1]), body: text.slice(text.indexOf("\r\n\r\n") + 4) };
}

test("a directory of rooms leads to a new one, and its page knows which one it is", async () => {
  const [one, other] = [await get("/r/"), await get("/r/")];
  assert.deepEqual([one.status, one.headers["cache-control"]], [302, "no-store"]);
  assert.match(one.headers.location, /^\/r\/[0-9a-f]{8}-[0-9a-f-]{27}$/);
  assert.notEqual(one.headers.location, other.headers.location);
  const page = await get("/r/Room_1-x");
  assert.equal(page.body, "<script>const ROOM_ID = 'Room_1-x', again = `${'Room_1-x'}`</script>");
  assert.match(page.headers["content-type"], /^text\/html/);
  assert.equal((await get("/r/Room_1-x", { "if-none-match": page.headers.etag })).status, 304);
  assert.equal((await get("/r/other", { "if-none-match": page.headers.etag })).status, 200);
  for (const bad of ["/r/a'b", "/r/%3Cscript%3E", "/r/a.js", `/r/${"x".repeat(65)}`, "/r/x/", "/r/x/y", "/nowhere/x", "/other"]) {
    assert.equal((await get(bad)).status, 404, bad);
  }
});

test("the protocols, the demo and the bundles keep their addresses", async () => {
  assert.match((await get("/peerjs/id")).body, /^[0-9a-f-]{36}$/);
  assert.equal((await get("/peerjs/peers")).status, 401);
  assert.equal((await get("/demo/")).status, 200);
  assert.equal((await get("/socket.io/socket.io.js")).status, 302);
  assert.match((await get("/socket.io/?EIO=4&transport=polling")).body, /^0\{/);
  await connected(server.url);
});
