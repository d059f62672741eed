// HTTP/1 as it stands on the wire: which requests are upgrades, which connections live on, and that those which end say so.
//
// REFERENCE=1 runs the same file against the npm server.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { closeAll } from "./lib/cleanup.mjs";
import { differs } from "./lib/differences.mjs";
import { HANDSHAKE, PollingSession } from "./lib/polling.mjs";
import { startTarget } from "./lib/target.mjs";
import { HANDSHAKE as WS_HANDSHAKE } from "./lib/websocket.mjs";
import { post, text, Wire } from "./lib/wire.mjs";

const target = await startTarget();
after(async () => {
  await closeAll();
  await target.stop();
});

const connect = () => Wire.connect(target.url);
const get = (path, options) => text(target.url, "GET", path, options);
const WEBSOCKET = ["Upgrade: websocket", "Sec-WebSocket-Version: 13"];
const key = () => `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`;
const UPGRADE = [...WEBSOCKET, "Connection: Upgrade"];

/** Sends a request on a connection of its own. */
async function answered(request) {
  const wire = connect().send(request);
  const answer = await wire.answer();
  wire.end();
  return answer;
}

function assertLivesOn(answer) {
  assert.equal(answer.status, 200);
  assert.doesNotMatch(answer.headers.connection ?? "", /close|upgrade/i);
}

describe("connections", () => {
  for (const [name, lines] of [
    ["upgrade", ["Connection: upgrade"]],
    ["keep-alive, Upgrade", ["Connection: keep-alive, Upgrade"]],
    ["upgrade, with an empty Upgrade", ["Connection: upgrade", "Upgrade:"]],
  ]) {
    test(`50 plain requests with "Connection: ${name}" are answered on one connection`, async () => {
      const wire = connect();
      for (let number = 0; number < 50; number++) {
        wire.send(get(HANDSHAKE, { lines }));
        assertLivesOn(await wire.answer(`answer ${number}`));
      }
      wire.end();
    });
  }

  test("a POST with it too, and what follows", async () => {
    const session = await PollingSession.open(target.url);
    const wire = connect();
    for (const body of ["40", '42["a"]']) {
      wire.send(post(target.url, session.path, body, ["Connection: upgrade"]));
      assertLivesOn(await wire.answer());
    }
    wire.end();
  });

  for (const [name, options] of [
    ["1.1, which says close", { lines: ["Connection: close"] }],
    ["1.1, which says close and upgrade", { lines: ["Connection: close, upgrade"] }],
    ["1.0", { version: "1.0" }],
  ]) {
    test(`a request of HTTP/${name} is the last: the answer says so where that is not known, and nothing behind it is answered`, async () => {
      const wire = connect().send(get(HANDSHAKE, options));
      const answer = await wire.answer();
      assert.equal(answer.status, 200);
      if (options.lines) assert.match(answer.headers.connection, /close/);
      assert.deepEqual(await wire.answer("the end"), { closed: true, rest: "" });
    });
  }

  test("behind a request that says close nothing is answered", { skip: target.isReference }, async () => {
    const wire = connect().send(get(HANDSHAKE, { lines: ["Connection: close"] }) + get(HANDSHAKE) + get(HANDSHAKE));
    assert.equal((await wire.answer()).status, 200);
    assert.deepEqual(await wire.answer("the end"), { closed: true, rest: "" });
  });

  test("HTTP/1.0 with keep-alive lives on, and says so", async () => {
    const wire = connect();
    for (let number = 0; number < 3; number++) {
      wire.send(get(HANDSHAKE, { version: "1.0", lines: ["Connection: keep-alive"] }));
      const answer = await wire.answer();
      assert.equal(answer.status, 200);
      assert.match(answer.headers.connection, /keep-alive/i);
    }
    wire.end();
  });

  for (const [name, bytes] of [
    ["no request", "nonsense\r\n\r\n"],
    ["two lengths", get(HANDSHAKE, { lines: ["Content-Length: 1", "Content-Length: 2"] })],
    ["a length and chunks", get(HANDSHAKE, { lines: ["Content-Length: 1", "Transfer-Encoding: chunked"] })],
    ["a bare line feed", get(HANDSHAKE).replace("\r\n\r\n", "\n\n") + get(HANDSHAKE)],
    ["no Host", get(HANDSHAKE, { host: false })],
  ]) {
    test(`a later request that is refused (${name}) is answered with 400 and close`, async () => {
      const wire = connect().send(get(HANDSHAKE));
      assertLivesOn(await wire.answer("the first answer"));
      wire.send(bytes);
      const answer = await wire.answer("the refusal");
      assert.equal(answer.status, 400);
      assert.match(answer.headers.connection, /close/);
      assert.deepEqual(await wire.answer("the end"), { closed: true, rest: "" });
    });
  }

  test("a POST behind its own waiting GET, on the same connection, is not held up", async () => {
    const session = await PollingSession.join(target.url);
    const wire = connect().send(get(session.path));
    await pause(200);
    wire.send(post(target.url, session.path, '421["a"]'));
    const polled = await wire.answer("the GET's answer");
    assert.equal(polled.status, 200);
    if (differs(target, "a POST behind its own waiting GET")) {
      assert.equal(polled.body, "6");
      assert.equal((await wire.answer("the POST's answer")).body, "ok");
      wire.send(get(session.path));
      assert.match((await wire.answer("the next GET's answer")).body, /^431\[/);
    } else {
      assert.match(polled.body, /^431\[/);
      assert.equal((await wire.answer("the POST's answer")).body, "ok");
    }
    wire.end();
  });

  test("both in one packet are as good", async () => {
    const session = await PollingSession.join(target.url);
    const wire = connect().send(get(session.path) + post(target.url, session.path, '421["a"]'));
    assert.equal((await wire.answer("the GET's answer")).status, 200);
    assert.equal((await wire.answer("the POST's answer")).body, "ok");
    wire.end();
    await session.expectAlive();
  });
});

describe("upgrades", () => {
  for (const [name, options] of [
    ["Upgrade without its connection option", { lines: [...WEBSOCKET, key()] }],
    ["Upgrade with another connection option", { lines: [...WEBSOCKET, key(), "Connection: keep-alive"] }],
  ]) {
    for (const path of [HANDSHAKE, "/socket.io/?EIO=4&transport=websocket", "/socket.io/", "/nowhere/at/all"]) {
      test(`${name} is a plain request of ${path}`, async () => {
        const plain = await answered(get(path));
        const answer = await answered(get(path, options));
        assert.equal(answer.status, plain.status);
        if (path !== HANDSHAKE) assert.equal(answer.body.replace(/\d+/g, ""), plain.body.replace(/\d+/g, ""));
      });
    }
  }

  test("another protocol that is offered is not taken up", async () => {
    const wire = connect().send(get(HANDSHAKE, { lines: ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"] }));
    const answer = await wire.answer();
    if (differs(target, "another protocol that is offered")) {
      assertLivesOn(answer);
      wire.send(get(HANDSHAKE));
      assertLivesOn(await wire.answer());
    } else assert.equal(answer.status, 400);
    wire.end();
  });

  test("an upgrade in HTTP/1.0 is a plain request", async () => {
    const lines = [...UPGRADE, key()];
    const polling = await answered(get(HANDSHAKE, { version: "1.0", lines }));
    const websocket = await answered(get(WS_HANDSHAKE, { version: "1.0", lines }));
    if (differs(target, "an upgrade in HTTP/1.0")) assert.deepEqual([polling.status, websocket.status], [200, 400]);
    else assert.deepEqual([polling.status, websocket.status], [101, 101]);
  });

  for (const [name, lines, body] of [
    ["close beside it", [...WEBSOCKET, key(), "Connection: close, Upgrade"]],
    ["lower case and keep-alive", ["upgrade: WebSocket", "sec-websocket-version: 13", key(), "connection: keep-alive, upgrade"]],
    ["the option in a line of its own", [...WEBSOCKET, key(), "Connection: keep-alive", "Connection: Upgrade"]],
    ["chunks", [...UPGRADE, key(), "Transfer-Encoding: chunked"], "0\r\n\r\n"],
    ["a length", [...UPGRADE, key(), "Content-Length: 0"]],
    ["a body", [...UPGRADE, key(), "Content-Length: 5"], "hello"],
    ["a key with trailing bits", [...UPGRADE, "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC=="]],
  ]) {
    test(`an upgrade with ${name} is one`, async () => {
      const answer = await answered(get(WS_HANDSHAKE, { lines, body }));
      assert.equal(answer.status, 101);
      assert.match(answer.headers.connection, /^upgrade$/i);
    });
  }

  test("the example of RFC 6455 is answered as it says", async () => {
    const answer = await answered(get(WS_HANDSHAKE, { lines: [...UPGRADE, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] }));
    assert.equal(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  });

  for (const key of ["", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ====", "dGhlIHNhbXBsZSBub25jZ-==", "dGhlIHNhbXBsZSBub25jZTEyMw=="]) {
    test(`the key ${JSON.stringify(key)} is none`, async () => {
      const answer = await answered(get(WS_HANDSHAKE, { lines: [...UPGRADE, `Sec-WebSocket-Key: ${key}`] }));
      assert.equal(answer.status, 400);
      assert.match(answer.headers.connection, /close/);
    });
  }
});

describe("heads", () => {
  for (const [name, query] of [
    ["quotes and angle brackets", '&name="<me>"'],
    ["braces, bars and carets", "&name={a}|^`"],
  ]) {
    test(`raw ${name} in a query are taken, by polling and by WebSocket`, async () => {
      assert.equal((await answered(get(HANDSHAKE + query))).status, 200);
      assert.equal((await answered(get(WS_HANDSHAKE + query, { lines: [...UPGRADE, key()] }))).status, 101);
    });
  }

  for (const name of ["\u00e9", "\u00c3\u00a9"]) {
    test(`bytes that are not ASCII are refused in a query: ${Buffer.from(name, "latin1").toString("hex")}`, async () => {
      assert.equal((await answered(get(`${HANDSHAKE}&name=${name}`))).status, 400);
    });
  }

  for (const count of [97, 500]) {
    test(`${count} headers are taken, by polling and by WebSocket`, async () => {
      const lines = Array.from({ length: count }, (_, number) => `X-${number}: v`);
      assert.equal((await answered(get(HANDSHAKE, { lines }))).status, 200);
      const origin = "Origin: http://example.com";
      const cross = await answered(get(HANDSHAKE, { lines: [...lines, origin] }));
      assert.equal(cross.headers["access-control-allow-origin"], "http://example.com");
      assert.equal((await answered(get(WS_HANDSHAKE, { lines: [...lines, ...UPGRADE, key()] }))).status, 101);
    });
  }

  test("empty lines in front of a request are ignored", async () => {
    const wire = connect();
    for (let number = 0; number < 3; number++) {
      wire.send(`\r\n${get(HANDSHAKE)}`);
      assertLivesOn(await wire.answer());
    }
    wire.end();
  });

  test("a head that comes byte for byte, and one with the next behind it", async () => {
    const wire = connect();
    for (const byte of get(HANDSHAKE, { lines: ["Connection: upgrade"] })) {
      wire.send(byte);
      await pause(0);
    }
    assertLivesOn(await wire.answer());
    wire.send(get(HANDSHAKE) + get(HANDSHAKE, { lines: ["Connection: upgrade"] }) + get(HANDSHAKE));
    for (let number = 0; number < 3; number++) assertLivesOn(await wire.answer());
    wire.end();
  });

  test("a chunked POST, and the next behind it", async () => {
    const session = await PollingSession.open(target.url);
    const chunked = text(target.url, "POST", session.path, { lines: ["Transfer-Encoding: chunked", "Connection: upgrade"], body: "1\r\n4\r\n1;x=y\r\n0\r\n0\r\n\r\n" });
    const wire = connect().send(chunked + get(session.path));
    assert.equal((await wire.answer()).body, "ok");
    assert.match((await wire.answer()).body, /^40\{/);
    wire.end();
  });
});
