// The STUN and TURN servers that the gateway tells clients of. The TURN credentials service is a stand-in here; it is driven by
// signalbox-turn's own tests.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { Redis, startNodes } from "./cluster/setup.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, connected, record } from "./lib/clients.mjs";
import { claims, hs256, now } from "./lib/jwt.mjs";
import { startGateway } from "./lib/peer-servers.mjs";
import { until, within } from "./lib/wait.mjs";
import { RawSocket } from "./lib/websocket.mjs";

after(closeAll);

/** A gateway with these flags; its public address. */
async function gateway(...flags) {
  const child = spawn(process.env.GATEWAY_BIN, ["--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--workers", "2", ...flags], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onEnd(() => child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stdout })) {
    const [, url] = / public=(\S+)/.exec(line) ?? [];
    if (url) {
      child.stdout.resume();
      return url;
    }
  }
  throw new Error("the gateway did not start");
}

/** A stand-in for signalbox-turn; `answer` is called with the query of each request. */
async function turnService(answer) {
  const seen = [];
  const server = createServer((request, response) => {
    const query = new URL(request.url, "http://x").searchParams;
    seen.push({ path: request.url.split("?")[0], key: request.headers["x-api-key"], subject: query.get("subject"), issuer: query.get("issuer") });
    const { status = 200, body } = answer(seen.length);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onEnd(() => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }));
  return { url: `http://127.0.0.1:${server.address().port}`, seen };
}

const listed = (number) => [{ urls: ["turn:turn.example"], username: `${number}:user`, credential: "secret" }];

test("without a setting nobody is sent to anybody", async () => {
  const url = await gateway();
  const socket = await connected(url);
  assert.deepEqual(await ask(socket, "ice-servers"), { ok: true, iceServers: [] });
  assert.deepEqual(await (await fetch(`${url}/turn/ice-servers`)).json(), { iceServers: [] });
  assert.doesNotMatch(await (await fetch(`${url}/demo/`)).text(), /stun:/);
});

test("a fixed list reaches everybody", async () => {
  const list = [{ urls: "stun:stun.example" }, { urls: ["turn:turn.example"], username: "u", credential: "c" }];
  const url = await gateway("--ice-servers", JSON.stringify(list));
  const socket = await connected(url, { transports: ["websocket"] });
  assert.deepEqual(await ask(socket, "ice-servers"), { ok: true, iceServers: list });
  const pushed = record(socket, "ice-servers");
  socket.emit("ice-servers");
  await within((async () => { while (pushed.length === 0) await new Promise((resolve) => setTimeout(resolve, 10)); })(), "the list as an event");
  assert.deepEqual(pushed[0][0], { ok: true, iceServers: list });
  assert.deepEqual(await (await fetch(`${url}/turn/ice-servers`)).json(), { iceServers: list });
});

test("credentials are renewed before they end, for as long as the client is there", async () => {
  const service = await turnService((number) => ({ body: { iceServers: listed(number), ttl: 1 } }));
  const url = await gateway("--turn-url", service.url, "--turn-key", "sbt_test", "--turn-anonymous");
  const socket = await connected(url);
  const pushed = record(socket, "ice-servers");
  const first = await ask(socket, "ice-servers");
  assert.deepEqual(first, { ok: true, iceServers: listed(1), ttl: 1 });
  // A second question is no reason to be told twice.
  assert.equal((await ask(socket, "ice-servers")).ok, true);
  await within((async () => { while (pushed.length < 3) await new Promise((resolve) => setTimeout(resolve, 10)); })(), "three renewals");
  assert.deepEqual(pushed.slice(0, 3).map(([{ ttl }]) => ttl), [1, 1, 1]);
  assert.ok(pushed[2][0].iceServers[0].username !== pushed[1][0].iceServers[0].username);
  assert.deepEqual([...new Set(service.seen.map(({ path, key }) => `${path} ${key}`))], ["/v1/ice-servers sbt_test"]);
  assert.deepEqual([...new Set(service.seen.map(({ issuer, subject }) => `${issuer} ${subject}`))], ["address 127.0.0.1"]);
  socket.disconnect();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const asked = service.seen.length;
  await new Promise((resolve) => setTimeout(resolve, 2000));
  assert.equal(service.seen.length, asked, "nobody asks for a client that has gone");
});

test("the holder of a token is the subject, where the token grants it", async () => {
  const service = await turnService((number) => ({ body: { iceServers: listed(number), ttl: 60 } }));
  const secret = "tokens are signed with this in tests";
  const url = await gateway("--turn-url", service.url, "--turn-key", "sbt_test", "--auth", "optional", "--jwt-secret", secret);
  const alice = hs256(secret, claims({ sub: "alice", signalbox: { turn: true } }));
  const bob = hs256(secret, claims({ sub: "bob", signalbox: {} }));
  assert.deepEqual(await ask(await connected(url, { auth: { token: alice } }), "ice-servers"), { ok: true, iceServers: listed(1), ttl: 60 });
  assert.deepEqual(service.seen.at(-1), { path: "/v1/ice-servers", key: "sbt_test", subject: "alice", issuer: null });
  assert.deepEqual(await ask(await connected(url, { auth: { token: bob } }), "ice-servers"), { ok: false, error: "turn-forbidden" });
  assert.deepEqual(await ask(await connected(url), "ice-servers"), { ok: false, error: "turn-forbidden" });

  const get = (headers) => fetch(`${url}/turn/ice-servers`, { headers });
  const answered = await get({ authorization: `Bearer ${alice}` });
  assert.deepEqual([answered.status, answered.headers.get("cache-control")], [200, "no-store"]);
  assert.equal((await fetch(`${url}/turn/ice-servers?token=${alice}`)).status, 200);
  assert.equal((await get({ authorization: `Bearer ${bob}` })).status, 403);
  assert.equal((await get({ authorization: `Bearer ${alice}x` })).status, 401);
  assert.equal((await get({})).status, 403);
  assert.deepEqual([...new Set(service.seen.map(({ subject }) => subject))], ["alice"]);
});

test("whoever shows a sid is the client of that session, on any node", async () => {
  const service = await turnService((number) => ({ body: { iceServers: listed(number), ttl: 60 } }));
  const secret = "tokens are signed with this in tests";
  const flags = ["--turn-url", service.url, "--turn-key", "sbt_test", "--auth", "optional", "--jwt-secret", secret];
  const nodes = await startNodes(await Redis.start(), 2, flags);
  const alice = hs256(secret, claims({ sub: "alice", signalbox: { turn: true } }));
  const get = (node, sid) => fetch(`${node.url}/turn/ice-servers?sid=${encodeURIComponent(sid)}`);
  for (const transports of [["websocket"], ["polling"]]) {
    const socket = await connected(nodes[0].url, { transports, auth: { token: alice } });
    const sid = socket.io.engine.id;
    for (const node of nodes) {
      const answered = await get(node, sid);
      assert.equal(answered.status, 200);
      assert.deepEqual((await answered.json()).ttl, 60);
      assert.deepEqual(service.seen.at(-1), { path: "/v1/ice-servers", key: "sbt_test", subject: "alice", issuer: null });
    }
    const asked = service.seen.length;
    // Others know the socket's id, and may guess.
    for (const wrong of [socket.id, "AAAAAAAAAAAAAAAAAAAA", "", "x".repeat(5000)]) {
      const refused = await get(nodes[1], wrong);
      assert.deepEqual([refused.status, await refused.json()], [401, { error: "sid-unknown" }]);
    }
    socket.disconnect();
    await within((async () => { while ((await get(nodes[1], sid)).status !== 401) await new Promise((resolve) => setTimeout(resolve, 20)); })(), "a session that has ended is unknown");
    assert.equal(service.seen.slice(asked).every(({ subject }) => subject === "alice"), true);
  }
  const stranger = await connected(nodes[0].url);
  assert.equal((await get(nodes[1], stranger.io.engine.id)).status, 403);
});

test("a session whose token has ended is nobody's any more", async () => {
  const service = await turnService((number) => ({ body: { iceServers: listed(number), ttl: 60 } }));
  const secret = "tokens are signed with this in tests";
  const flags = ["--turn-url", service.url, "--turn-key", "sbt_test", "--auth", "optional", "--jwt-secret", secret, "--jwt-leeway", "0"];
  const server = await startGateway(["--workers", "1", ...flags]);
  onEnd(() => server.stop());
  // The token comes with the session; its namespace has none of its own.
  const open = async (changed) => {
    const authorization = `Bearer ${hs256(secret, claims({ signalbox: { turn: true }, ...changed }))}`;
    const socket = await RawSocket.join(server.url, { headers: { authorization } });
    const get = () => fetch(`${server.url}/turn/ice-servers?sid=${encodeURIComponent(socket.handshake.sid)}`);
    assert.equal((await get()).status, 200);
    return { socket, get };
  };
  // socket.io-client closes its session then; others need not.
  const refused = async ({ socket, get }, code) => {
    await socket.until((packet) => packet === "41", "it has to leave the namespace");
    const answered = await get();
    assert.deepEqual([answered.status, await answered.json()], [401, { error: code }]);
  };
  const ends = await open({ sub: "bob", exp: now() + 3 });
  const revoked = await open({ sub: "alice" });
  const authorization = `Bearer ${hs256(secret, claims({ sub: "ops", signalbox: { admin: ["control"] } }))}`;
  const headers = { authorization, "content-type": "application/json" };
  const told = await fetch(`${server.adminUrl}/admin/v1/revoke`, { method: "POST", headers, body: JSON.stringify({ subject: "alice" }) });
  assert.equal(told.status, 200);
  await refused(revoked, "token-revoked");
  await refused(ends, "token-expired");
});

test("strangers behind a proxy are told apart, and pages of other origins get none", async () => {
  const service = await turnService((number) => ({ body: { iceServers: listed(number), ttl: 60 } }));
  const flags = ["--turn-url", service.url, "--turn-key", "sbt_test", "--turn-anonymous", "--proxied", "--trusted-proxies", "127.0.0.1"];
  const url = await gateway(...flags, "--origins", "https://app.example");
  const get = (headers) => fetch(`${url}/turn/ice-servers`, { headers });
  for (const [address, subject] of [["192.0.2.1", "192.0.2.1"], ["192.0.2.2", "192.0.2.2"], ["2001:db8::1", "2001:db8:0:0::/64"]]) {
    assert.equal((await get({ "x-forwarded-for": address, origin: "https://app.example" })).status, 200);
    assert.equal(service.seen.at(-1).subject, subject);
  }
  const foreign = await get({ origin: "https://elsewhere.example" });
  assert.deepEqual([foreign.status, await foreign.json()], [403, { error: "origin-forbidden" }]);
  assert.equal(service.seen.length, 3);
});

test("there are none for strangers unless they are wanted, and a silent service is no hang", async () => {
  const service = await turnService(() => ({ body: { iceServers: listed(1), ttl: 60 } }));
  const url = await gateway("--turn-url", service.url, "--turn-key", "sbt_test");
  const socket = await connected(url);
  assert.deepEqual(await ask(socket, "ice-servers"), { ok: false, error: "turn-forbidden" });
  const refused = await fetch(`${url}/turn/ice-servers`);
  assert.deepEqual([refused.status, await refused.json()], [403, { error: "turn-forbidden" }]);
  assert.equal(service.seen.length, 0);

  const full = await turnService(() => ({ status: 429, body: {} }));
  const limited = await gateway("--turn-url", full.url, "--turn-key", "sbt_test", "--turn-anonymous");
  assert.deepEqual(await ask(await connected(limited), "ice-servers"), { ok: false, error: "turn-limit" });
  const gone = await gateway("--turn-url", "http://127.0.0.1:9", "--turn-key", "sbt_test", "--turn-anonymous");
  assert.deepEqual(await ask(await connected(gone), "ice-servers"), { ok: false, error: "turn-unavailable" });
  const unavailable = await fetch(`${gone}/turn/ice-servers`);
  assert.deepEqual([unavailable.status, unavailable.headers.get("retry-after")], [503, "5"]);
});

test("the file of the key is read again on SIGHUP, and a file that is gone changes nothing", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "signalbox-ice-"));
  onEnd(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "key");
  const service = await turnService((number) => ({ body: { iceServers: listed(number), ttl: 600 } }));
  await writeFile(file, "sbt_first\n");
  const server = await startGateway(["--workers", "1", "--turn-url", service.url, "--turn-key-file", file, "--turn-anonymous"]);
  onEnd(() => server.stop());
  const ask = () => fetch(`${server.url}/turn/ice-servers`);
  const hangUp = async (said) => {
    server.signal("SIGHUP");
    await until(() => server.output.some((line) => line.includes(said)), said);
  };
  await ask();
  await writeFile(file, "sbt_second\n");
  await hangUp("was read again");
  await ask();
  await rm(file);
  await hangUp("the key in use stays");
  assert.equal((await ask()).status, 200);
  assert.deepEqual(service.seen.map(({ key }) => key), ["sbt_first", "sbt_second", "sbt_second"]);
});
