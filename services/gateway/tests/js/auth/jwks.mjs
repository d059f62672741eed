// A key set from a URL, whose server is the test's own: it rotates its keys, hangs, returns garbage, redirects and dies. Each gateway has
// a server of its own, and all are waited for together: a set is fetched every ten seconds at most.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";
import { onEnd } from "../lib/cleanup.mjs";
import { claims, es256, keyPair } from "../lib/jwt.mjs";
import { request } from "../lib/http.mjs";
import { until } from "../lib/wait.mjs";
import { gateway, io, ioRefusal, keySet, peerAnswer } from "./setup.mjs";

// Tokens with an unknown kid have a set fetched no more often.
const INTERVAL_MS = 10_000;
const [one, two] = [keyPair("one"), keyPair("two")];
const [ones, twos] = [one, two].map((pair) => () => es256(pair, claims()));

/** A server of key sets; `answer` may be replaced. */
class KeyServer {
  static async start(answer) {
    const server = new KeyServer();
    server.answer = answer;
    server.paths = [];
    server.http = createServer((request, response) => {
      server.paths.push(request.url);
      server.answer(response);
    });
    server.http.listen(0, "127.0.0.1");
    await once(server.http, "listening");
    onEnd(() => server.stop());
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.http.address().port}/keys`;
  }

  stop() {
    this.http.closeAllConnections();
    return new Promise((resolve) => this.http.close(resolve));
  }
}

const keys = (...pairs) => (response) => response.end(keySet(...pairs));
const code = (server, shown) => ioRefusal(server.url, { auth: { token: shown } }).then(({ code }) => code, () => "let in");

/** When the set was fetched last, as the node's metrics say. */
async function fetchedAt(node) {
  const { body } = await request(node.adminUrl, "GET", "/metrics");
  return Number(/^signalbox_key_set_fetched_timestamp_seconds (\S+)$/m.exec(body)[1]);
}

/** A gateway that has fetched the set of a server of its own. */
async function fetched() {
  const server = await KeyServer.start(keys(one));
  const node = await gateway("--auth", "required", "--jwks", server.url);
  const at = performance.now();
  assert.ok((await io(node, ones())).connected);
  // Then it may be fetched again.
  const again = () => sleep(INTERVAL_MS + 500 - (performance.now() - at));
  return { server, node, again };
}

describe("a key set from a URL", { concurrency: true }, async () => {
  test("that rotates is fetched again for a kid that is unknown, but no more often than every ten seconds", async () => {
    const { server, node, again } = await fetched();
    server.answer = keys(one, two);
    // Anybody can make tokens with a kid of their own: they cost the provider nothing.
    const strangers = Array.from({ length: 50 }, (_, index) => es256(keyPair(`stranger ${index}`), claims()));
    const codes = await Promise.all(strangers.map((shown) => code(node, shown)));
    assert.deepEqual([...new Set(codes)], ["key-unknown"]);
    assert.equal(await code(node, twos()), "key-unknown");
    assert.equal(await peerAnswer(node, "early", twos()), "closed", "peerjs tries again by itself");
    assert.deepEqual(server.paths, ["/keys"]);
    const before = await fetchedAt(node);
    assert.ok(before > Date.now() / 1000 - 60 && before < Date.now() / 1000 + 1, `fetched at ${before}`);
    await again();
    // The token waits for the keys.
    assert.ok((await io(node, twos())).connected);
    assert.equal(await peerAnswer(node, "new", twos()), "OPEN");
    assert.ok((await io(node, ones())).connected, "the older key is in the set still");
    assert.deepEqual(server.paths, ["/keys", "/keys"]);
    await Promise.all(strangers.slice(0, 10).map(async (shown) => assert.equal(await code(node, shown), "key-unknown")));
    assert.equal(server.paths.length, 2);
    assert.ok((await fetchedAt(node)) > before);
  });

  test("that is withdrawn counts no more", async () => {
    const { server, node, again } = await fetched();
    server.answer = keys(two);
    await again();
    assert.ok((await io(node, twos())).connected);
    assert.equal(await code(node, ones()), "key-unknown");
  });

  for (const [fault, answer] of [
    ["returns garbage", (response) => response.end("<html>down for maintenance</html>")],
    ["returns an error", (response) => response.writeHead(500).end(keySet(two))],
    ["returns no key at all", (response) => response.end('{"keys":[]}')],
    ["sends without an end", (response) => {
      const filler = setInterval(() => response.write("x".repeat(65_536)), 1);
      response.on("close", () => clearInterval(filler));
    }],
    ["redirects", (response) => response.writeHead(302, { location: "/elsewhere" }).end()],
    ["hangs", () => {}],
    ["dies", (response) => response.socket.destroy()],
  ]) {
    test(`whose server ${fault}: the last good set stays in use`, async () => {
      const { server, node, again } = await fetched();
      server.answer = answer;
      await again();
      const asked = code(node, twos());
      await until(() => server.paths.length > 1, "it is asked again");
      for (const shown of [ones(), ones()]) assert.ok((await io(node, shown)).connected);
      assert.equal(await peerAnswer(node, "known", ones()), "OPEN");
      assert.notEqual(await asked, "let in");
      assert.deepEqual([...new Set(server.paths)], ["/keys"], "nobody is followed anywhere");
      // It comes back, and is found again without anybody's doing.
      server.answer = keys(one, two);
      await until(async () => (await code(node, twos())) === "let in", "it is fetched again", 3 * INTERVAL_MS);
    });
  }

  test("that was never there: clients try again, and are let in when it is", async () => {
    const server = await KeyServer.start((response) => response.writeHead(503).end());
    const node = await gateway("--auth", "required", "--jwks", server.url);
    assert.equal(await code(node, ones()), "keys-unavailable");
    assert.equal(await peerAnswer(node, "early", ones()), "closed", "peerjs tries again by itself");
    server.answer = keys(one);
    await until(async () => (await code(node, ones())) === "let in", "it is fetched");
  });
});
