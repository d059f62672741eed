// What a polling client may do, what ends its session, and what it can still read then.
import assert from "node:assert/strict";
import net from "node:net";
import { describe, test } from "node:test";
import { client } from "../lib/clients.mjs";
import { differs } from "../lib/differences.mjs";
import { request } from "../lib/http.mjs";
import { HANDSHAKE, packets, PollingSession } from "../lib/polling.mjs";
import { within } from "../lib/wait.mjs";
import { RawSocket } from "../lib/websocket.mjs";
import { assertEnd, assertRefusal, BAD_REQUEST, goneSoon, halfPost, http, LIMIT, target, waitingGet } from "./setup.mjs";

// What ends a session, and what its client can still read.
//   abrupt   the sid is unknown from that moment; a GET that was waiting receives `1`
//   orderly  likewise, but without a waiting GET the next one still receives `6`, `1`
//   kept     the session goes on
describe("inside a polling session", { concurrency: true }, () => {
  const EMPTY_400 = { status: 400, body: "" };
  const OK = { status: 200, body: "ok" };
  const post = (body, headers) => (session) => session.post(body, { headers });

  const ROWS = [
    ["an empty POST", post(""), OK, "abrupt"],
    ["a POST that is no packet", post("abc"), OK, "abrupt"],
    ["an unknown packet type", post("7"), OK, "abrupt"],
    ["a good packet and a bad one", post(packets("43[]", "abc")), OK, "abrupt"],
    ["a trailing separator", post(packets("43[]", "")), OK, "abrupt"],
    ["a ping from the client", post("2"), OK, "abrupt"],
    ["a probe outside of an upgrade", post("2probe"), OK, "abrupt"],
    ["a close packet", post("1"), OK, "abrupt", "6"],
    ["a close packet among others", post(packets("43[]", "1", "42[")), OK, "abrupt", "6"],
    ["a POST of another content type", post("43[]", { "content-type": "application/octet-stream" }), EMPTY_400, "abrupt"],
    ["an open packet", post("0"), OK, "kept"],
    ["an unsolicited pong", post("3"), OK, "kept"],
    ["an upgrade packet without an upgrade", post("5"), OK, "kept"],
    ["a noop packet", post("6"), OK, "kept"],
    ["a PUT", (session) => session.request("PUT"), { status: 500, body: "" }, "kept"],
    ["a DELETE", (session) => session.request("DELETE"), { status: 500, body: "" }, "kept"],
    ["a PATCH", (session) => session.request("PATCH"), { status: 500, body: "" }, "kept"],
    ["a HEAD", (session) => session.request("HEAD"), { status: 500, body: "" }, "kept"],
    ["a chunked POST", post("43[]", { "transfer-encoding": "chunked" }), OK, "kept"],
    ["a malformed Socket.IO packet", post("4abc"), OK, "orderly"],
    ["an event without a name", post("42[]"), OK, "orderly"],
    ["a good event and one without a name", post(packets("43[]", "42[]")), OK, "orderly"],
    ["a second CONNECT", post("40"), OK, "orderly"],
    ["an attachment that nobody announced", post("bAQID"), OK, "orderly"],
    ["an attachment that is no base64", post("b!!!"), OK, "orderly"],
  ];

  for (const [name, act, reply, end, toWaiting = "1"] of ROWS) {
    for (const waiting of [false, true]) {
      test(`${name}, ${waiting ? "with a GET waiting" : "with no GET waiting"}: ${end}`, async () => {
        const session = await PollingSession.join(target.url);
        const get = waiting ? await waitingGet(session) : undefined;
        const answer = await act(session);
        assert.equal(answer.status, reply.status);
        assert.equal(answer.body, reply.body);
        if (reply === OK) {
          assert.match(answer.headers["content-type"], /^text\/html/);
          assert.equal(answer.headers["cache-control"], "no-store");
        }
        await assertEnd(session, end, get, toWaiting);
      });
    }
  }

  for (const [name, body] of [
    ["an event before CONNECT", '42["a"]'],
    ["a DISCONNECT before CONNECT", "41"],
    ["an acknowledgement before CONNECT", "431[]"],
  ]) {
    test(`${name}: orderly`, async () => {
      const session = await PollingSession.open(target.url);
      assert.equal((await session.post(body)).body, "ok");
      await assertEnd(session, "orderly");
    });
  }

  test("a second GET is refused and ends the session; the first receives a close packet", async () => {
    const session = await PollingSession.join(target.url);
    const first = await waitingGet(session);
    const second = await session.get();
    assert.deepEqual([second.status, second.body], [400, ""]);
    await assertEnd(session, "abrupt", first);
  });

  test("a GET that its client gives up ends the session", async () => {
    const session = await PollingSession.join(target.url);
    const abort = new AbortController();
    const get = await waitingGet(session, { signal: abort.signal });
    abort.abort();
    await assert.rejects(get.reply, { name: "AbortError" });
    await goneSoon(session);
  });

  test("a POST that its client gives up half-way ends the session", async () => {
    const session = await PollingSession.join(target.url);
    const post = await halfPost(session);
    post.socket.destroy();
    await goneSoon(session);
  });

  test("a second POST is refused and ends the session; the first loses its connection", async () => {
    const session = await PollingSession.join(target.url);
    const first = await halfPost(session);
    const second = await session.post("3");
    assert.deepEqual([second.status, second.body], [400, ""]);
    await within(first.closed, "the first POST's connection is closed");
    await assertEnd(session, "abrupt");
  });

  for (const [name, headers] of [
    ["with its length announced", {}],
    ["in chunks", { "transfer-encoding": "chunked" }],
  ]) {
    for (const waiting of [false, true]) {
      test(`a POST over the limit, ${name}, ${waiting ? "with a GET waiting" : "with no GET waiting"}: 413`, async () => {
        const session = await PollingSession.join(target.url);
        const get = waiting ? await waitingGet(session) : undefined;
        const reply = await session.post("4".repeat(LIMIT + 1), { headers });
        assert.deepEqual([reply.status, reply.body], [413, ""]);
        await assertEnd(session, "abrupt", get);
      });
    }
  }

  test("a POST in more than 10,000 chunks", async () => {
    const session = await PollingSession.join(target.url);
    const { hostname, port, host } = new URL(target.url);
    const socket = net.connect(Number(port), hostname);
    socket.on("error", () => {});
    const answered = new Promise((resolve) => socket.once("data", (data) => resolve(data.toString().split(" ")[1])));
    const body = `42["a","${"x".repeat(10_001)}"]`;
    socket.write(`POST ${session.path} HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n`);
    socket.write(`${[...body].map((byte) => `1\r\n${byte}\r\n`).join("")}0\r\n\r\n`);
    const taken = differs(target, "a POST in more than 10,000 chunks");
    assert.equal(await within(answered, "the answer"), taken ? "200" : "413");
    socket.destroy();
    await assertEnd(session, taken ? "kept" : "abrupt");
  });

  test("a POST that is not UTF-8", async () => {
    const session = await PollingSession.join(target.url);
    assert.equal((await session.post(Buffer.from('42["volatile \xff"]', "latin1"))).body, "ok");
    await assertEnd(session, differs(target, "a POST that is not UTF-8") ? "abrupt" : "kept");
  });

  test("the limit counts bytes, not characters", async () => {
    const session = await PollingSession.join(target.url);
    assert.equal((await session.post(`42["a","${"é".repeat(LIMIT / 2)}"]`)).status, 413);
  });

  test("a POST of exactly the limit is accepted", async () => {
    const session = await PollingSession.join(target.url);
    const [head, tail] = ['421["fill","', '"]'];
    const body = head + "x".repeat(LIMIT - head.length - tail.length) + tail;
    assert.equal((await session.post(body)).status, 200);
    await session.poll((packet) => packet.startsWith("431["), "the acknowledgement");
  });

  test("a request of the same session with another transport or version is a bad request; the session is kept", async () => {
    const session = await PollingSession.join(target.url);
    assertRefusal(await http("GET", session.path.replace("polling", "websocket")), BAD_REQUEST);
    assertRefusal(await http("POST", session.path.replace("polling", "websocket")), BAD_REQUEST);
    assertRefusal(await http("GET", session.path.replace("EIO=4", "EIO=3")), BAD_REQUEST);
    assertRefusal(await http("GET", session.path.replace("EIO=4&", "")), BAD_REQUEST);
    await session.expectAlive();
  });

  test("an unknown namespace is refused by a packet, and the session is kept", async () => {
    const session = await PollingSession.join(target.url);
    await session.post("40/nowhere,");
    const packet = await session.poll((text) => text.startsWith("44"), "the CONNECT_ERROR");
    assert.equal(packet, '44/nowhere,{"message":"Invalid namespace"}');
    await session.expectAlive();
  });

  test("a session that started on WebSocket takes no polling requests", async () => {
    const socket = await RawSocket.join(target.url);
    const path = `${HANDSHAKE}&sid=${socket.handshake.sid}`;
    assertRefusal(await http("GET", path), BAD_REQUEST);
    assertRefusal(await http("POST", path, { body: "41" }), BAD_REQUEST);
    await socket.expectAlive();
    socket.end();
  });
});
