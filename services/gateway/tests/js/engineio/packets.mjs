// Packets on the wire: text and binary, the limit, compression.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gunzipSync, inflateSync } from "node:zlib";
import { client } from "../lib/clients.mjs";
import { differs } from "../lib/differences.mjs";
import { frame } from "../lib/frames.mjs";
import { packets, PollingSession } from "../lib/polling.mjs";
import { HANDSHAKE as WS_HANDSHAKE, RawSocket } from "../lib/websocket.mjs";
import { LIMIT, target } from "./setup.mjs";

describe("packets", () => {
  test("binary travels as base64 over polling, as a binary frame over WebSocket", async () => {
    const room = "engineio-binary";
    const polling = await PollingSession.join(target.url);
    const socket = await RawSocket.join(target.url);
    for (const [peer, id] of [[polling, 1], [socket, 2]]) {
      if (peer === polling) await polling.post(`42${id}["join","${room}"]`);
      else socket.send(`42${id}["join","${room}"]`);
    }
    await polling.poll((packet) => packet.startsWith("431["), "the acknowledgement of join");
    await socket.until((packet) => String(packet).startsWith("432["), "the acknowledgement of join");

    await polling.post(packets(`451-["message","${room}",{"_placeholder":true,"num":0}]`, "bAQIDBA=="));
    assert.match(await socket.until((packet) => String(packet).startsWith("45"), "the message"), /^451-\["message",\{"_placeholder":true,"num":0\},/);
    assert.deepEqual(await socket.next("its attachment"), Buffer.from([1, 2, 3, 4]));

    socket.send(`451-["message","${room}",{"_placeholder":true,"num":0}]`, Buffer.from([5, 6, 7]));
    const seen = [];
    await polling.poll((packet) => seen.push(packet) && packet[0] === "b", "the attachment");
    assert.match(seen.at(-2), /^451-\["message",\{"_placeholder":true,"num":0\},/);
    assert.equal(seen.at(-1), "bBQYH");

    // The base64 form is understood in a text frame as well.
    socket.send(`451-["message","${room}",{"_placeholder":true,"num":0}]`, "bCAkK");
    await polling.poll((packet) => packet === "bCAkK", "the attachment that was sent as text");
    socket.end();
  });

  for (const [name, connect] of [
    ["from the start", async (query) => {
      const socket = await RawSocket.connect(target.url, `${WS_HANDSHAKE}${query}`);
      await socket.next("the handshake");
      return socket;
    }],
    ["after an upgrade", async (query) => {
      const session = await PollingSession.open(target.url);
      const socket = await RawSocket.connect(target.url, `${WS_HANDSHAKE}${query}&sid=${session.sid}`);
      socket.send("2probe");
      await socket.until((packet) => packet === "3probe", "the answer to the probe");
      socket.send("5");
      return socket;
    }],
  ]) {
    test(`binary comes as text to a WebSocket with b64=1, ${name}`, async () => {
      for (const [query, expected] of [["&b64=1", "bAQIDBA=="], ["&b64=", Buffer.from([1, 2, 3, 4])], ["", Buffer.from([1, 2, 3, 4])]]) {
        const [receiver, sender] = [await connect(query), await RawSocket.join(target.url)];
        receiver.send("40");
        await receiver.until((packet) => packet.startsWith("40{"), "the CONNECT reply");
        for (const socket of [receiver, sender]) {
          socket.send('421["join","base64"]');
          await socket.until((packet) => packet.startsWith?.("431["), "the acknowledgement of the join");
        }
        sender.send('451-["message","base64",{"_placeholder":true,"num":0}]', Buffer.from([1, 2, 3, 4]));
        await receiver.until((packet) => packet.startsWith?.("451-"), "the message");
        assert.deepEqual(await receiver.next("its attachment"), expected);
        for (const socket of [receiver, sender]) socket.end();
      }
    });
  }

  test("a client's ping closes a WebSocket; what means nothing is ignored", async () => {
    const socket = await RawSocket.join(target.url);
    socket.send("0", "3", "3probe", "5", "6");
    await socket.expectAlive();
    socket.send("2");
    assert.equal(await socket.closeCode(), 1005);
  });

  for (const [name, packet] of [["a probe outside of an upgrade", "2probe"], ["an unknown type", "7"], ["no packet at all", "abc"], ["an empty frame", ""]]) {
    test(`${name} closes a WebSocket`, async () => {
      const socket = await RawSocket.join(target.url);
      socket.send(packet);
      assert.equal(await socket.closeCode(), 1005);
    });
  }

  test("a close packet on a WebSocket", async () => {
    const socket = await RawSocket.join(target.url);
    socket.send("1");
    if (differs(target, "a close packet on a WebSocket")) assert.equal(await socket.closeCode(), 1005);
    else await socket.expectAlive();
    socket.end();
  });

  test("a frame of exactly the limit is accepted, one byte more is closed with 1009", async () => {
    const [head, tail] = ['421["fill","', '"]'];
    const fill = (length) => head + "x".repeat(length - head.length - tail.length) + tail;
    const socket = await RawSocket.join(target.url);
    socket.send(fill(LIMIT));
    await socket.until((packet) => packet.startsWith("431["), "the acknowledgement");
    socket.send(fill(LIMIT + 1));
    assert.equal(await socket.closeCode(), 1009);
  });
});

describe("compression of polling replies", () => {
  /** The reply that carries a message of `length` characters, to a poll with these request headers. */
  async function pollReply(length, headers) {
    const room = `gzip-${Math.random()}`;
    const [reader, writer] = await Promise.all([PollingSession.join(target.url), PollingSession.join(target.url)]);
    for (const session of [reader, writer]) {
      await session.post(`421["join","${room}"]`);
      await session.poll((packet) => packet.startsWith("431["), "the acknowledgement of join");
    }
    // The reader hears of the writer before the message, where the server tells of joins.
    await writer.post(`422["message","${room}","${"x".repeat(length)}"]`);
    await writer.poll((packet) => packet.startsWith("432["), "the acknowledgement of message");
    const get = () => reader.get({ headers });
    const decoded = { gzip: gunzipSync, deflate: inflateSync };
    for (;;) {
      const reply = await get();
      const encoding = reply.headers["content-encoding"];
      const text = encoding === undefined ? reply.body : decoded[encoding](reply.bytes).toString();
      if (text.includes("x".repeat(length))) return { encoding, text, reply };
    }
  }

  for (const [name, accept, encoding] of [
    ["gzip", "gzip", "gzip"],
    ["gzip among others", "gzip, deflate, br", "gzip"],
    ["deflate only", "deflate", "deflate"],
    ["nothing the server can do", "br", undefined],
    ["gzip refused by its weight", "gzip;q=0", undefined],
  ]) {
    test(`Accept-Encoding: ${accept} (${name})`, async () => {
      const { encoding: used, text, reply } = await pollReply(3000, { "accept-encoding": accept });
      assert.equal(used, encoding);
      assert.match(text, /42\["message","x{3000}",/);
      assert.match(reply.headers["content-type"], /^text\/plain/);
      if (encoding) assert.ok(reply.bytes.length < 1000, `${reply.bytes.length} bytes are not compressed`);
    });
  }

  test("without Accept-Encoding nothing is compressed", async () => {
    assert.equal((await pollReply(3000, {})).encoding, undefined);
  });

  test("a reply below 1024 bytes is not compressed", async () => {
    assert.equal((await pollReply(500, { "accept-encoding": "gzip" })).encoding, undefined);
  });
});
