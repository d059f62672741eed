// Pages of another origin: what they may read, preflights, and no credentials by default.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { request } from "../lib/http.mjs";
import { HANDSHAKE, PollingSession } from "../lib/polling.mjs";
import { RawSocket } from "../lib/websocket.mjs";
import { http, LIMIT, target } from "./setup.mjs";

describe("another origin", () => {
  const ORIGIN = "http://elsewhere.example:8080";
  const headers = { origin: ORIGIN };

  function assertReadable(reply) {
    assert.equal(reply.headers["access-control-allow-origin"], ORIGIN);
    assert.match(reply.headers.vary, /\borigin\b/i);
    assert.equal(reply.headers["access-control-allow-credentials"], undefined);
  }

  test("may read every reply: handshake, data, refusals and errors", async () => {
    const handshake = await http("GET", HANDSHAKE, { headers });
    assert.equal(handshake.status, 200);
    assertReadable(handshake);

    const session = await PollingSession.open(target.url);
    for (const [status, reply] of [
      [200, await session.post("40", { headers })],
      [200, await session.get({ headers })],
      [500, await session.request("PUT", { headers })],
      [400, await session.post("40", { headers: { ...headers, "content-type": "application/octet-stream" } })],
      [400, await session.get({ headers })],
      [400, await http("GET", "/socket.io/?EIO=4", { headers })],
      [400, await http("GET", "/socket.io/?EIO=3&transport=polling", { headers })],
      [400, await http("POST", HANDSHAKE, { headers })],
    ]) {
      assert.equal(reply.status, status);
      assertReadable(reply);
    }

    const long = await PollingSession.open(target.url);
    const over = await long.post("4".repeat(LIMIT + 1), { headers });
    assert.equal(over.status, 413);
    assertReadable(over);
  });

  test("without an Origin header nothing is allowed, and the reply still varies", async () => {
    const reply = await http("GET", HANDSHAKE);
    assert.equal(reply.headers["access-control-allow-origin"], undefined);
    assert.match(reply.headers.vary, /\borigin\b/i);
  });

  for (const [name, path] of [
    ["of the handshake", HANDSHAKE],
    ["of an unknown session", `${HANDSHAKE}&sid=AAAAAAAAAAAAAAAAAAAA`],
    ["without a query", "/socket.io/"],
  ]) {
    test(`a preflight ${name} is answered 204 and allows what was asked for`, async () => {
      const reply = await http("OPTIONS", path, {
        headers: { ...headers, "access-control-request-method": "POST", "access-control-request-headers": "content-type,x-token" },
      });
      assert.equal(reply.status, 204);
      assert.equal(reply.body, "");
      assertReadable(reply);
      assert.match(reply.headers["access-control-allow-methods"], /\bGET\b/);
      assert.match(reply.headers["access-control-allow-methods"], /\bPOST\b/);
      assert.match(reply.headers["access-control-allow-headers"], /content-type/i);
      assert.match(reply.headers["access-control-allow-headers"], /x-token/i);
    });
  }

  test("a preflight of a living session leaves it alone", async () => {
    const session = await PollingSession.join(target.url);
    const reply = await session.request("OPTIONS", { headers: { ...headers, "access-control-request-method": "POST" } });
    assert.equal(reply.status, 204);
    assertReadable(reply);
    await session.expectAlive();
  });

  test("may open a WebSocket", async () => {
    const socket = await RawSocket.join(target.url, { headers });
    await socket.expectAlive();
    socket.end();
  });
});
