// The handshake over both transports, and every refusal with its exact code and body.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { upgraded } from "../lib/clients.mjs";
import { differs } from "../lib/differences.mjs";
import { exchange, frame, upgradeRequest } from "../lib/frames.mjs";
import { HANDSHAKE, PollingSession } from "../lib/polling.mjs";
import { HANDSHAKE as WS_HANDSHAKE, RawSocket } from "../lib/websocket.mjs";
import { assertRefusal, BAD_METHOD, BAD_REQUEST, BAD_VERSION, http, KEYS, LIMIT, SID, target, UNKNOWN_SID, UNKNOWN_TRANSPORT } from "./setup.mjs";

describe("the handshake", () => {
  test("over polling: one open packet with exactly five keys", async () => {
    const reply = await http("GET", HANDSHAKE);
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["content-type"].toLowerCase(), "text/plain; charset=utf-8");
    assert.equal(reply.headers["cache-control"], "no-store");
    assert.equal(Number(reply.headers["content-length"]), reply.bytes.length);
    assert.equal(reply.headers["set-cookie"], undefined, "cookies are off unless configured");
    assert.equal(reply.body[0], "0");
    const open = JSON.parse(reply.body.slice(1));
    assert.deepEqual(Object.keys(open).sort(), KEYS);
    assert.match(open.sid, SID);
    assert.deepEqual(open, { sid: open.sid, upgrades: ["websocket"], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: LIMIT });
  });

  test("over WebSocket: the same packet in a text frame, with nothing left to upgrade to", async () => {
    const socket = await RawSocket.connect(target.url);
    const packet = await socket.next("the handshake");
    assert.equal(packet[0], "0");
    const open = JSON.parse(packet.slice(1));
    assert.deepEqual(Object.keys(open).sort(), KEYS);
    assert.match(open.sid, SID);
    assert.deepEqual(open, { sid: open.sid, upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: LIMIT });
    socket.end();
  });

  test("session ids and socket ids have the same form and are all different", async () => {
    const sessions = await Promise.all(Array.from({ length: 20 }, () => PollingSession.join(target.url)));
    const ids = sessions.flatMap((session) => [session.sid, session.socketId]);
    for (const id of ids) assert.match(id, SID);
    assert.equal(new Set(ids).size, ids.length);
  });

  for (const [name, path] of [
    ["a cache buster and unknown parameters", `${HANDSHAKE}&t=P1x2y3&b64=1&other=%2F`],
    ["an empty sid", `${HANDSHAKE}&sid=`],
    ["the last of repeated parameters", "/socket.io/?EIO=3&EIO=4&transport=nothing&transport=polling"],
    ["a percent-encoded parameter", "/socket.io/?EIO=4&transport=poll%69ng"],
    ["anything behind the path prefix", "/socket.io/anything/else?EIO=4&transport=polling"],
  ]) {
    test(`accepts ${name}`, async () => {
      const reply = await http("GET", path);
      assert.equal(reply.status, 200);
      assert.match(reply.body, /^0\{"sid":"/);
    });
  }

  for (const [name, path] of [
    ["the path without its slash", "/socket.io?EIO=4&transport=polling"],
    ["a longer name", "/socket.iox/?EIO=4&transport=polling"],
    ["other letter case", "/SOCKET.IO/?EIO=4&transport=polling"],
    ["another path", "/engine.io/?EIO=4&transport=polling"],
  ]) {
    test(`${name} is not found`, async () => assert.equal((await http("GET", path)).status, 404));
  }

  for (const [name, method, path, expected] of [
    ["no query", "GET", "/socket.io/", UNKNOWN_TRANSPORT],
    ["no transport", "GET", "/socket.io/?EIO=4", UNKNOWN_TRANSPORT],
    ["an unknown transport", "GET", "/socket.io/?EIO=4&transport=carrier-pigeon", UNKNOWN_TRANSPORT],
    ["webtransport over HTTP", "GET", "/socket.io/?EIO=4&transport=webtransport", UNKNOWN_TRANSPORT],
    ["an unknown transport before an unknown sid", "GET", "/socket.io/?EIO=4&transport=x&sid=x", UNKNOWN_TRANSPORT],
    ["an unknown sid", "GET", `${HANDSHAKE}&sid=AAAAAAAAAAAAAAAAAAAA`, UNKNOWN_SID],
    ["a malformed sid", "GET", `${HANDSHAKE}&sid=__proto__`, UNKNOWN_SID],
    ["a very long sid", "GET", `${HANDSHAKE}&sid=${"A".repeat(2000)}`, UNKNOWN_SID],
    ["a sid that is not ASCII", "GET", `${HANDSHAKE}&sid=%C3%A9%00%FF`, UNKNOWN_SID],
    ["a POST to an unknown sid", "POST", `${HANDSHAKE}&sid=AAAAAAAAAAAAAAAAAAAA`, UNKNOWN_SID],
    ["an unknown sid before a bad version", "GET", "/socket.io/?EIO=3&transport=polling&sid=x", UNKNOWN_SID],
    ["a handshake by POST", "POST", HANDSHAKE, BAD_METHOD],
    ["a handshake by PUT", "PUT", HANDSHAKE, BAD_METHOD],
    ["a handshake by DELETE", "DELETE", HANDSHAKE, BAD_METHOD],
    ["a handshake by PATCH", "PATCH", HANDSHAKE, BAD_METHOD],
    ["a bad method before a bad version", "POST", "/socket.io/?EIO=3&transport=polling", BAD_METHOD],
    ["websocket without an upgrade", "GET", "/socket.io/?EIO=4&transport=websocket", BAD_REQUEST],
    ["websocket without an upgrade before a bad version", "GET", "/socket.io/?EIO=3&transport=websocket", BAD_REQUEST],
    ["version 3", "GET", "/socket.io/?EIO=3&transport=polling", BAD_VERSION],
    ["version 5", "GET", "/socket.io/?EIO=5&transport=polling", BAD_VERSION],
    ["version 04", "GET", "/socket.io/?EIO=04&transport=polling", BAD_VERSION],
    ["no version", "GET", "/socket.io/?transport=polling", BAD_VERSION],
  ]) {
    test(`refuses ${name}: ${expected.message}`, async () => assertRefusal(await http(method, path), expected));
  }

  test("refuses HEAD like any other method, without a body", async () => {
    const reply = await http("HEAD", HANDSHAKE);
    assert.equal(reply.status, 400);
    assert.equal(reply.body, "");
  });

  test("a control character in the Origin header is a 400", async () => {
    const bytes = upgradeRequest(target.url, HANDSHAKE, {
      headers: { Origin: "http://a\x01b" },
      drop: ["Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key"],
    });
    assert.match(await exchange(target.url, bytes), /^HTTP\/1\.1 400 /);
  });
});

describe("the handshake of an upgrade", () => {
  const attempt = (path, options) => exchange(target.url, upgradeRequest(target.url, path, options));

  /** Refusals of an upgrade are plain HTTP with the bare message, and the connection is closed. */
  function assertUpgradeRefusal(text, message) {
    const [head, body] = text.split("\r\n\r\n");
    assert.match(head, /^HTTP\/1\.1 400 Bad Request\r\n/);
    assert.match(head, /\r\ncontent-type: text\/html/i);
    assert.match(head, new RegExp(`\\r\\ncontent-length: ${message.length}(\\r\\n|$)`, "i"));
    assert.equal(body, message);
  }

  for (const [name, path, message, options] of [
    ["no transport", "/socket.io/?EIO=4", "Transport unknown"],
    ["an unknown transport", "/socket.io/?EIO=4&transport=x", "Transport unknown"],
    ["an unknown sid", `${WS_HANDSHAKE}&sid=AAAAAAAAAAAAAAAAAAAA`, "Session ID unknown"],
    ["a POST", WS_HANDSHAKE, "Bad handshake method", { method: "POST" }],
  ]) {
    test(`refuses ${name}: ${message}`, async () => assertUpgradeRefusal(await attempt(path, options), message));
  }

  test("refuses version 3: Unsupported protocol version", async () => {
    const text = await attempt("/socket.io/?EIO=3&transport=websocket");
    if (differs(target, "the upgrade of an unsupported protocol version")) {
      assertUpgradeRefusal(text, "Unsupported protocol version");
    } else {
      assert.match(text, /^HTTP\/1\.1 101 [^]*\r\n\r\nUnsupported protocol version$/);
    }
  });

  test("an upgrade that names the polling transport is closed at once", async () => {
    const socket = await RawSocket.connect(target.url, HANDSHAKE);
    assert.equal(await socket.closeCode(), 1005);
  });

  for (const [name, path] of [
    ["the path without its slash", "/socket.io?EIO=4&transport=websocket"],
    ["another path", "/engine.io/?EIO=4&transport=websocket"],
  ]) {
    test(`${name} is not upgraded`, async () => assert.doesNotMatch(await attempt(path), /^HTTP\/1\.1 101/));
  }

  test("anything behind the path prefix is upgraded", async () => {
    const socket = await RawSocket.connect(target.url, "/socket.io/anything?EIO=4&transport=websocket");
    assert.match(await socket.next("the handshake"), /^0\{/);
    socket.end();
  });

  for (const [name, options] of [
    ["no key", { drop: ["Sec-WebSocket-Key"] }],
    ["a short key", { headers: { "Sec-WebSocket-Key": "abc" } }],
    ["no version", { drop: ["Sec-WebSocket-Version"] }],
    ["an unknown version", { headers: { "Sec-WebSocket-Version": "7" } }],
    ["another protocol to upgrade to", { headers: { Upgrade: "h2c" } }],
  ]) {
    test(`a WebSocket handshake with ${name} is a 400`, async () => {
      const text = await attempt(WS_HANDSHAKE, { ...options, headers: { ...options.headers, Connection: "Upgrade, close" } });
      assert.match(text, /^HTTP\/1\.1 400 /);
    });
  }

  test("header values are compared without regard to case, and Connection is a list", async () => {
    const socket = await RawSocket.connect(target.url, WS_HANDSHAKE, { headers: { connection: "keep-alive, UPGRADE", upgrade: "WebSocket" } });
    assert.match(await socket.next("the handshake"), /^0\{/);
    socket.end();
  });

  test("an offered compression is not taken up by default", async () => {
    const socket = await RawSocket.connect(target.url, WS_HANDSHAKE, { perMessageDeflate: true });
    assert.equal(socket.ws.extensions, "");
    assert.match(await socket.next("the handshake"), /^0\{/);
    socket.end();
  });
});
