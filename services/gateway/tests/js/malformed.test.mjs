// One client sends everything that is wrong, as Socket.IO packets over WebSocket and polling and as
// WebSocket frames on a bare TCP socket. For each input the exact outcome is known; and all the time
// neighbours in the same process exchange acknowledged messages and must notice nothing.
//
// REFERENCE=1 runs the same file against the npm server.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { closeAll } from "./lib/cleanup.mjs";
import { differs } from "./lib/differences.mjs";
import { BINARY, CLOSE, closePayload, CONTINUATION, frame, PING, PONG, RawConnection, TEXT } from "./lib/frames.mjs";
import { addressSpace } from "./lib/memory.mjs";
import { Neighbours } from "./lib/neighbour.mjs";
import { packets, PollingSession, split } from "./lib/polling.mjs";
import { startTarget } from "./lib/target.mjs";
import { RawSocket } from "./lib/websocket.mjs";

const target = await startTarget();
let neighbours;
/** The server's address space before anybody sent anything wrong. */
let unspoiled;
before(async () => {
  neighbours = await Neighbours.start(target.url);
  unspoiled = await addressSpace(target.pid);
});
after(async () => {
  await closeAll();
  await target.stop();
});

const LIMIT = 1_000_000;
const BYTES = Buffer.from([1, 2, 3]);
const PLACEHOLDER = '{"_placeholder":true,"num":0}';
const placeholder = (num) => `451-["a",{"_placeholder":true,"num":${num}}]`;

// Everything that a client may not send once it has joined `/`; each row is a list of frames.
const CLOSED = [
  // out of state
  ["40"], ["40{}"], ['44{"message":"no"}'], ['44"no"'],
  ['42/nowhere,["a"]'], ["41/nowhere,"], ["43/nowhere,1[]"], ["41/nowhere"],
  ["41", '42["a"]'],
  // no Socket.IO packet
  ["4"], ["4 "], ["4a"], ["4-1"], ["47"], ["48"], ["4\u0000"],
  // EVENT payloads
  ["42[]"], ["42{}"], ["42null"], ['42"a"'], ["42[null]"], ["42[true]"], ["42[{}]"], ["42[[]]"],
  ['42["connect"]'], ['42["connect_error"]'], ['42["disconnect"]'], ['42["disconnecting"]'], ['42["newListener"]'], ['42["removeListener"]'],
  ['42abc["a"]'], ['421e3["a"]'], ['42-1["a"]'], ['42["a"]x'], ['42["a",]'], ['42["a",01]'], ['42["a",NaN]'], ['42["a'], ['42/["a"]'], [`42${"[".repeat(5000)}`],
  // ACK and DISCONNECT payloads
  ["43{}"], ["43999{}"], ['43999"x"'], ["41{}"], ["41[]"],
  // attachments
  ['45["a"]'], ['45-["a"]'], ['451.5-["a"]'], ['450-["a"]'], ['45-1-["a"]'], ['4511-["a"]'], ['4599999999999999999999-["a"]'], ["45"],
  ["451-[]"], ["451-{}"], ['451-["connect"]'], ["460-[]"], ["461-{}"],
  [placeholder(1), BYTES], [placeholder(-1), BYTES], [placeholder('"0"'), BYTES], [placeholder("1e9"), BYTES], ['451-["a",{"_placeholder":true}]', BYTES],
  [placeholder(0), '42["b"]'], [placeholder(0), "41"], [placeholder(0), placeholder(0)],
  [BYTES], [Buffer.alloc(0)], ["bAQID"], ["b!!!"], ["b"],
  // Engine.IO
  ["2"], ["2probe"], ["7"], ["8"], ["abc"], [""], [" "], ["\u00e9"],
];

// Odd, but allowed: the connection stays.
const KEPT = [
  ["42"], ["42[1]"], ["42[1.5]"], ['42[""]'], ['42["error"]'], ['42["connection"]'], ['42["__proto__"]'], ['42["a",{"__proto__":{"x":1}}]'],
  ['42["a"] '], ['42["a"]\n'], ['42["a",1e400]'], ['42["a","\\ud800"]'], ['42["a","\u2028"]'], [`42["a",${PLACEHOLDER}]`], ['42/,["a"]'],
  ["43"], ["431"], ["43[]"], ["43999"], ["43999[]"], ["461-[]", BYTES], [`461-5[${PLACEHOLDER}]`, BYTES],
  [placeholder(0), BYTES], [placeholder(0), "3", BYTES], [placeholder(0), "6", BYTES], [placeholder(0), "bAQID"],
  ['451-["a"]', BYTES], ['451-["a",{"_placeholder":1,"num":5}]', BYTES],
  ["0"], ["3"], ["5"], ["6"],
];

// Accepted by one server and refused by the other, see docs/socketio.md.
const DIFFERENT = [
  ["a space in an acknowledgement id", ['42 1["a"]']],
  ["an attachment count that is no plain number", ['451e0-["a"]', BYTES]],
  ["an attachment count that is no plain number", ['450x1-["a"]', BYTES]],
  ["an attachment count that is no plain number", ['45 1-["a"]', BYTES]],
  ["an attachment count that is no plain number", ['45+1-["a"]', BYTES]],
  ["a placeholder number that is no plain integer", [placeholder(0.5), BYTES]],
  ["a placeholder number that is no plain integer", [placeholder("0e0"), BYTES]],
];

const UNJOINED = [
  ["40[]"], ['40"x"'], ["40null"], ["40{"], ["40/nowhere,[]"], ["41"], ['42["a"]'], ["43[]"], ["431[]"], ["44{}"], ['451-["a"]', BYTES], [BYTES], ["2"], ["abc"],
];

const label = (frames) =>
  frames.map((item) => (typeof item === "string" ? JSON.stringify(item.length > 50 ? `${item.slice(0, 40)}… (${item.length})` : item) : `${item.length} bytes`)).join(" then ");

describe("Socket.IO packets over WebSocket", () => {
  async function assertClosed(socket, frames) {
    await socket.sendEach(frames);
    assert.equal(await socket.closeCode(), 1005);
    await neighbours.noticeNothing();
  }

  async function assertKept(socket, frames) {
    await socket.sendEach(frames);
    await socket.expectAlive();
    socket.end();
    await neighbours.noticeNothing();
  }

  for (const frames of UNJOINED) {
    test(`${label(frames)} before CONNECT closes`, async () => assertClosed(await RawSocket.open(target.url), frames));
  }
  for (const frames of CLOSED) {
    test(`${label(frames)} closes`, async () => assertClosed(await RawSocket.join(target.url), frames));
  }
  for (const frames of KEPT) {
    test(`${label(frames)} is allowed`, async () => assertKept(await RawSocket.join(target.url), frames));
  }
  for (const [name, frames] of DIFFERENT) {
    test(`${label(frames)}: ${name}`, async () => {
      const socket = await RawSocket.join(target.url);
      await (differs(target, name) ? assertClosed(socket, frames) : assertKept(socket, frames));
    });
  }

  test("ten attachments are the most", async () => {
    const list = Array.from({ length: 10 }, (_, num) => `{"_placeholder":true,"num":${num}}`);
    await assertKept(await RawSocket.join(target.url), [`4510-["a",${list}]`, ...list.map(() => BYTES)]);
  });

  test("attachments that are together more than may wait for a client", async () => {
    const list = Array.from({ length: 6 }, (_, num) => `{"_placeholder":true,"num":${num}}`);
    const frames = [`456-["a",${list}]`, ...list.map(() => Buffer.alloc(900_000))];
    const isClosed = differs(target, "attachments that are together more than may wait for a client");
    await (isClosed ? assertClosed : assertKept)(await RawSocket.join(target.url), frames);
  });

  test("an array nested 5,000 deep harms nobody", async () => {
    const socket = await RawSocket.join(target.url);
    socket.send(`42["a",${"[".repeat(5000)}${"]".repeat(5000)}]`);
    await socket.expectAlive();
    socket.end();
    await neighbours.noticeNothing();
  });

  test("an acknowledgement id beyond 2^53", async () => {
    const socket = await RawSocket.join(target.url);
    socket.send('429007199254740993["a"]');
    const digits = differs(target, "an acknowledgement id beyond 2^53") ? "9007199254740993" : "9007199254740992";
    assert.ok((await socket.next("the acknowledgement")).startsWith(`43${digits}[`));
    socket.end();
  });

  for (const name of ["40/", "40/,", "4012{}"]) {
    test(`${JSON.stringify(name)} joins the namespace "/"`, async () => {
      const socket = await RawSocket.open(target.url);
      socket.send(name);
      assert.ok((await socket.next("the CONNECT reply")).startsWith("40{"));
      await socket.expectAlive();
      socket.end();
    });
  }

  for (const name of ["/nowhere", "/nowhere?token=1", `/${"x".repeat(10_000)}`, "/%00", "/\u00e9"]) {
    test(`the namespace ${label([name])} is refused, which closes nothing`, async () => {
      const socket = await RawSocket.join(target.url);
      socket.send(`40${name},`);
      assert.equal(await socket.next("the CONNECT_ERROR"), `44${name},{"message":"Invalid namespace"}`);
      await socket.expectAlive();
      socket.end();
    });
  }

  test("a namespace can be left and joined again, with another socket id", async () => {
    const socket = await RawSocket.join(target.url);
    await socket.sendEach(["41", "40"]);
    const again = await socket.until((packet) => packet.startsWith("40"), "the second CONNECT reply");
    assert.notEqual(JSON.parse(again.slice(2)).sid, socket.socketId);
    await socket.expectAlive();
    socket.end();
  });
});

describe("the same over polling", { concurrency: 4 }, () => {
  const encode = (item) => (typeof item === "string" ? item : `b${item.toString("base64")}`);
  // Frame by frame: packets of one payload are covered by engineio.test.mjs.
  const engine = (frames) => frames.length === 1 && /^(|2|2probe|7|8|abc| |\u00e9)$/.test(encode(frames[0]));

  for (const frames of CLOSED) {
    test(`${label(frames)} ends the session`, async () => {
      const session = await PollingSession.join(target.url);
      for (const item of frames) assert.deepEqual([(await session.post(encode(item))).status], [200]);
      // A bad Engine.IO packet ends the session on the spot; a bad Socket.IO packet leaves a last word.
      const next = await session.get();
      if (engine(frames)) assert.equal(next.status, 400);
      else assert.deepEqual([next.status, split(next.body).at(-1)], [200, "1"]);
      assert.equal((await session.get()).status, 400);
      await neighbours.noticeNothing();
    });
  }
  for (const frames of KEPT) {
    test(`${label(frames)} is allowed`, async () => {
      const session = await PollingSession.join(target.url);
      for (const item of frames) assert.equal((await session.post(encode(item))).status, 200);
      await session.expectAlive();
      await neighbours.noticeNothing();
    });
  }

  test("an event behind a disconnect in one payload", async () => {
    const session = await PollingSession.join(target.url);
    await session.post(packets("41", '42["a"]'));
    if (!differs(target, "an event behind a disconnect in one payload")) return;
    assert.equal((await session.get()).body, packets("6", "1"));
    assert.equal((await session.get()).status, 400);
  });

  test("a hundred thousand empty packets in one payload end the session", async () => {
    const session = await PollingSession.join(target.url);
    assert.equal((await session.post("\x1e".repeat(100_000))).status, 200);
    assert.equal((await session.get()).status, 400);
    await neighbours.noticeNothing();
  });
});

describe("WebSocket frames", () => {
  const PROTOCOL_ERROR = 1002;
  const NOT_UTF8 = 1007;
  const TOO_BIG = 1009;
  const MESSAGE = '421["a"]';

  const REFUSED = [
    ["the first reserved bit", PROTOCOL_ERROR, [frame(TEXT, "3", { rsv: 4 })]],
    ["the second reserved bit", PROTOCOL_ERROR, [frame(TEXT, "3", { rsv: 2 })]],
    ["the third reserved bit", PROTOCOL_ERROR, [frame(TEXT, "3", { rsv: 1 })]],
    ["a frame without a mask", PROTOCOL_ERROR, [frame(TEXT, "3", { mask: false })]],
    ["a control frame without a mask", PROTOCOL_ERROR, [frame(PING, "x", { mask: false })]],
    ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`the opcode ${opcode}`, PROTOCOL_ERROR, [frame(opcode, "3")]]),
    ["a ping in fragments", PROTOCOL_ERROR, [frame(PING, "x", { fin: false })]],
    ["a close in fragments", PROTOCOL_ERROR, [frame(CLOSE, closePayload(1000), { fin: false })]],
    ["a ping of 126 bytes", PROTOCOL_ERROR, [frame(PING, Buffer.alloc(126))]],
    ["a close of 126 bytes", PROTOCOL_ERROR, [frame(CLOSE, Buffer.concat([closePayload(1000), Buffer.alloc(124, 97)]))]],
    ["a ping that declares 400 MB", PROTOCOL_ERROR, [frame(PING, "x", { declare: 400_000_000 })]],
    ["a continuation of nothing", PROTOCOL_ERROR, [frame(CONTINUATION, MESSAGE)]],
    ["a continuation of nothing, itself unfinished", PROTOCOL_ERROR, [frame(CONTINUATION, "4", { fin: false })]],
    ["a continuation after a finished message", PROTOCOL_ERROR, [frame(TEXT, "4", { fin: false }), frame(CONTINUATION, "3[]"), frame(CONTINUATION, "3[]")]],
    ["a message inside of a message", PROTOCOL_ERROR, [frame(TEXT, "42", { fin: false }), frame(TEXT, "3")]],
    ["a binary message inside of a text", PROTOCOL_ERROR, [frame(TEXT, "42", { fin: false }), frame(BINARY, "3")]],
    ["a close of one byte", PROTOCOL_ERROR, [frame(CLOSE, Buffer.from([3]))]],
    ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].map((code) => [`the close code ${code}`, PROTOCOL_ERROR, [frame(CLOSE, closePayload(code))]]),
    ["text that is not UTF-8", NOT_UTF8, [frame(TEXT, Buffer.from([0x34, 0x32, 0xff, 0xfe]))]],
    ["text with an encoded surrogate", NOT_UTF8, [frame(TEXT, Buffer.from([0x34, 0xed, 0xa0, 0x80]))]],
    ["text with an overlong encoding", NOT_UTF8, [frame(TEXT, Buffer.from([0x34, 0xc0, 0xaf]))]],
    ["text that ends inside of a character", NOT_UTF8, [frame(TEXT, Buffer.from([0x34, 0xc3]))]],
    ["fragments that are not UTF-8 together", NOT_UTF8, [frame(TEXT, Buffer.from([0x34, 0xc3]), { fin: false }), frame(CONTINUATION, "a")]],
    ["a close reason that is not UTF-8", NOT_UTF8, [frame(CLOSE, closePayload(1000, Buffer.from([0xff])))]],
    ["a frame that declares one byte too many", TOO_BIG, [frame(TEXT, "x", { declare: LIMIT + 1 })]],
    ["a frame that declares 400 MB", TOO_BIG, [frame(TEXT, "x", { declare: 400_000_000 })]],
    ["a binary frame that declares 400 MB", TOO_BIG, [frame(BINARY, "x", { declare: 400_000_000 })]],
    ["a frame that declares 2^62 bytes", TOO_BIG, [frame(TEXT, "x", { declare: 2n ** 62n })]],
    ["fragments that exceed the limit together", TOO_BIG, [frame(TEXT, "4".repeat(600_000), { fin: false }), frame(CONTINUATION, "4".repeat(600_000), { fin: false })]],
    ["a fragment that would exceed it, by its header alone", TOO_BIG, [frame(TEXT, "4".repeat(600_000), { fin: false }), frame(CONTINUATION, "x", { declare: 500_000 })]],
  ];

  for (const [name, code, chunks] of REFUSED) {
    test(`${name}: ${code}`, async () => {
      const connection = await RawConnection.join(target.url);
      connection.write(...chunks);
      assert.equal((await connection.closeFrame()).code, code);
      await connection.closed;
      await neighbours.noticeNothing();
    });
  }

  test("a length with its top bit set is refused", async () => {
    const connection = await RawConnection.join(target.url);
    connection.write(frame(TEXT, "x", { declare: 2n ** 63n + 1n, lengthBytes: 8 }));
    assert.ok([PROTOCOL_ERROR, TOO_BIG].includes((await connection.closeFrame()).code));
    await connection.closed;
  });

  for (const [name, chunks] of [
    ["a message in fragments", [frame(TEXT, '421["', { fin: false }), frame(CONTINUATION, "a", { fin: false }), frame(CONTINUATION, '"]')]],
    ["a character split across fragments", [frame(TEXT, Buffer.concat([Buffer.from('421["'), Buffer.from([0xc3])]), { fin: false }), frame(CONTINUATION, Buffer.concat([Buffer.from([0xa9]), Buffer.from('"]')]))]],
    ["empty fragments", [frame(TEXT, "", { fin: false }), frame(CONTINUATION, "", { fin: false }), frame(CONTINUATION, MESSAGE, { fin: false }), frame(CONTINUATION, "")]],
    ["a pong in the middle of a message", [frame(TEXT, '421["', { fin: false }), frame(PONG, "x"), frame(CONTINUATION, 'a"]')]],
    ["a length in two bytes that fits in one", [frame(TEXT, MESSAGE, { lengthBytes: 2 })]],
    ["a length in eight bytes that fits in one", [frame(TEXT, MESSAGE, { lengthBytes: 8 })]],
    ["unsolicited pongs", [frame(PONG, "x"), frame(PONG), frame(TEXT, MESSAGE)]],
    ["a frame that arrives byte by byte", Array.from(frame(TEXT, MESSAGE), (byte) => Buffer.from([byte]))],
    ["an attachment in fragments", [frame(TEXT, `451-1["a",${PLACEHOLDER}]`), frame(BINARY, BYTES, { fin: false }), frame(CONTINUATION, BYTES)]],
  ]) {
    test(`${name} is allowed`, async () => {
      const connection = await RawConnection.join(target.url);
      connection.socket.setNoDelay(true);
      connection.write(...chunks);
      assert.match(await connection.text("the acknowledgement"), /^431\[/);
      await connection.expectAlive();
      connection.end();
    });
  }

  test("a ping is answered with its payload, also between fragments", async () => {
    const connection = await RawConnection.join(target.url);
    const payload = Buffer.alloc(125, 7);
    connection.write(frame(TEXT, '421["', { fin: false }), frame(PING, payload), frame(CONTINUATION, 'a"]'));
    const pong = await connection.next("the pong");
    assert.deepEqual([pong.opcode, pong.payload], [PONG, payload]);
    assert.match(await connection.text("the acknowledgement"), /^431\[/);
    connection.end();
  });

  test("the server's frames are not masked", async () => {
    const connection = await RawConnection.join(target.url);
    connection.write(frame(PING, "x"));
    assert.equal((await connection.next("the pong")).masked, false);
    connection.end();
  });

  for (const [code, reason] of [[1000, "bye"], [1001, ""], [1011, ""], [3000, ""], [4999, "é"]]) {
    test(`a close with ${code} is answered with the same code, and the connection ends`, async () => {
      const connection = await RawConnection.join(target.url);
      connection.write(frame(CLOSE, closePayload(code, reason)));
      assert.equal((await connection.closeFrame()).code, code);
      await connection.closed;
    });
  }

  test("a close without a code is answered likewise", async () => {
    const connection = await RawConnection.join(target.url);
    connection.write(frame(CLOSE));
    assert.equal((await connection.closeFrame()).code, 1005);
    await connection.closed;
  });

  test("what follows a close is not read", async () => {
    const connection = await RawConnection.join(target.url);
    connection.write(frame(CLOSE, closePayload(1000)), frame(TEXT, MESSAGE), frame(TEXT, "abc"));
    assert.equal((await connection.closeFrame()).code, 1000);
    await connection.closed;
  });

  test("a connection that breaks inside of a frame harms nobody", async () => {
    for (const bytes of [frame(TEXT, "x".repeat(100_000)).subarray(0, 60_000), frame(TEXT, "x").subarray(0, 1), frame(TEXT, "x", { lengthBytes: 8 }).subarray(0, 5)]) {
      const connection = await RawConnection.join(target.url);
      connection.write(bytes);
      connection.socket.resetAndDestroy();
      await neighbours.noticeNothing();
    }
  });
});

describe("memory", () => {
  const MEGABYTE = 1024 * 1024;

  /** Proportional memory of the server process, in bytes. */
  async function memory() {
    const text = await readFile(`/proc/${target.pid}/smaps_rollup`, "utf8");
    return Number(/^Rss:\s+(\d+) kB/m.exec(text)[1]) * 1024;
  }

  /** What the server's memory has grown by while `attack` was going on, at its end. */
  async function growth(attack) {
    // Once for what any connection costs, and only then measured.
    await attack();
    const begin = await memory();
    await attack();
    return (await memory()) - begin;
  }

  test("frames that declare 400 MB are refused by their header, and reserve nothing", async () => {
    const grown = await growth(async () => {
      const connections = await Promise.all(Array.from({ length: 20 }, () => RawConnection.join(target.url)));
      for (const connection of connections) {
        connection.write(frame(BINARY, Buffer.alloc(64 * 1024), { declare: 400_000_000 }));
        assert.equal((await connection.closeFrame()).code, 1009);
      }
      await Promise.all(connections.map((connection) => connection.closed));
    });
    assert.ok(grown < 16 * MEGABYTE, `grew by ${grown} bytes`);
    // Nor did any of those before them, or what they reserved might be what these find free.
    const reserved = (await addressSpace(target.pid)) - unspoiled;
    assert.ok(reserved < 200e6, `${reserved} bytes were reserved`);
    await neighbours.noticeNothing();
  });

  test("a flood of fragments of one byte costs no more than the message", async () => {
    const FRAGMENTS = 100_000;
    const grown = await growth(async () => {
      const connection = await RawConnection.join(target.url);
      const one = frame(CONTINUATION, "x", { fin: false });
      connection.write(frame(TEXT, '42["', { fin: false }));
      for (let i = 0; i < 100; i++) connection.write(Buffer.concat(Array.from({ length: FRAGMENTS / 100 }, () => one)));
      connection.write(frame(PING, "done"));
      // A server may refuse so many fragments, or read them all.
      const item = await connection.next("an answer behind the flood");
      assert.ok(item.kind !== "frame" || item.payload.toString() === "done");
      connection.end();
    });
    assert.ok(grown < 16 * MEGABYTE, `grew by ${grown} bytes`);
    await neighbours.noticeNothing();
  });

  test("a flood of pings that nobody reads the answers of costs little", async () => {
    const grown = await growth(async () => {
      const connection = await RawConnection.join(target.url);
      connection.socket.pause();
      const pings = Buffer.concat(Array.from({ length: 1000 }, () => frame(PING, Buffer.alloc(125))));
      for (let i = 0; i < 100; i++) connection.write(pings);
      await neighbours.noticeNothing();
      connection.end();
    });
    assert.ok(grown < 32 * MEGABYTE, `grew by ${grown} bytes`);
  });
});

test("the neighbours noticed nothing", async () => neighbours.stop());
