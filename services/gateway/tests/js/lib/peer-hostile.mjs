// What no peerjs client would send.

import { frame } from "./peer-socket.mjs";

/** Texts that are no message; those that peer 1.0.2 dies or stalls of among them. */
export function malformedTexts() {
  const deep = 50_000;
  return [
    ...["", " ", "{", "}", "null", "true", "0", '"text"', "[]", "[[]]", "{}", "undefined", "NaN", "'", "\u0000", "\ufeff{}"],
    ...['{"type":', '{"type":"OFFER"', '{"type":"OFFER",}', '{"type":"OFFER"}}', "{type:'OFFER'}", '{"type":"OFFER","dst":"\\ud800"}'],
    ...['{"type":null,"dst":null}', '{"type":{},"dst":[]}', '{"type":["OFFER"],"dst":{"a":1}}', '{"type":"OFFER","dst":1e999}'],
    ...['{"type":"OFFER","dst":"x","payload":}', '{"type":"OFFER","dst":"x","payload":\u0001}', '{"__proto__":{"type":"OFFER"}}'],
    ...["[".repeat(deep), "{".repeat(deep), `{"a":${"[".repeat(deep)}`, `${'{"a":'.repeat(deep)}1${"}".repeat(deep)}`, "-", "1e", '"\\u12"'],
  ];
}

/** Frames against RFC 6455. */
export function malformedFrames() {
  const body = JSON.stringify({ type: "HEARTBEAT" });
  return [
    frame({ mask: false, payload: body }),
    ...[1, 2, 3, 4, 7].map((rsv) => frame({ rsv, payload: body })),
    ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => frame({ opcode, payload: body })),
    frame({ opcode: 0, payload: body }),
    Buffer.concat([frame({ fin: false, payload: "{" }), frame({ payload: body })]),
    Buffer.concat([frame({ fin: false, payload: "{" }), frame({ opcode: 2, payload: body })]),
    frame({ opcode: 9, fin: false }),
    frame({ opcode: 9, payload: "x".repeat(126) }),
    frame({ opcode: 8, payload: "x" }),
    ...[0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535].map((code) => frame({ opcode: 8, payload: Buffer.from([code >> 8, code & 255]) })),
    frame({ opcode: 8, payload: Buffer.from([0x03, 0xe8, 0xc3]) }),
    ...[[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xc3]].map((bytes) => frame({ payload: Buffer.from(bytes) })),
    ...[2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n].map((declared) => frame({ declared, payload: "{" })),
    Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    Buffer.alloc(10_000, 0x00),
    Buffer.alloc(10_000, 0xff),
  ];
}

/** A seeded generator of 32-bit numbers (xorshift), so that a failure can be repeated. */
export function generator(seed) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Up to 300 bytes; half of the time inside a proper frame, so that they get past the frame parser and are hostile one floor up. */
export function randomBytes(random) {
  const bytes = Buffer.from(Array.from({ length: random() % 300 }, () => random() & 255));
  return random() % 2 === 0 ? bytes : frame({ opcode: 1 + (random() % 2), payload: bytes });
}
