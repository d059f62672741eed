// Each kind of bad token, by real clients of both protocols: the exact outcome, and that nothing of a token is ever repeated.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { claims, es256, hs256, keyPair, now, unsigned } from "../lib/jwt.mjs";
import { request } from "../lib/http.mjs";
import { AUDIENCE, io, ioRefusal, pair, peerAnswer, required, token } from "./setup.mjs";

const other = keyPair("one");
const stranger = keyPair("nobody-knows-me");
const good = claims({ aud: AUDIENCE });
const signed = (changed, header) => es256(pair, { ...good, ...changed }, header);

// Whether a PeerServer client hears an ERROR, which ends its Peer object, or sees a plain close, after which it tries again.
const FINAL = true;
const PASSES = false;

const BAD = [
  ["expired", "token-expired", "the token has expired", FINAL, () => signed({ exp: now() - 20 })],
  ["not valid yet", "not-yet-valid", "the token is not valid yet", PASSES, () => signed({ nbf: now() + 60 })],
  ["for another audience", "audience-mismatch", "the token is not for this audience", FINAL, () => signed({ aud: "somebody else" })],
  ["of another key", "signature-invalid", "the token's signature is wrong", FINAL, () => es256(other, good)],
  ["with alg none", "algorithm-none", "the token is not signed: its alg is none", FINAL, () => unsigned(good)],
  ["an HMAC made with the public key", "algorithm-mismatch", "the token's alg does not fit the keys that are configured", FINAL, () => hs256(pair.pem, good, { kid: "one" })],
  ["with an unknown crit", "critical-header", "the token's header has a crit parameter, and no extension is supported", FINAL, () => signed({}, { crit: ["x"], x: 1 })],
  ["too large", "token-too-large", "the token is longer than 8192 bytes (put less into it)", FINAL, () => signed({ filler: "x".repeat(8192) })],
  ["of an unknown kid", "key-unknown", "the token's kid names a key that is not known", PASSES, () => es256(stranger, good)],
  ["without exp", "expiry-missing", "the token has no exp claim: it would never expire", FINAL, () => signed({ exp: undefined })],
  ["without sub", "subject-missing", "the token has no sub claim: it does not say whose it is", FINAL, () => signed({ sub: undefined })],
  ["with grants that are none", "grants-malformed", "the token's grants are not readable: rooms.join: this is not a list of texts", FINAL, () => signed({ signalbox: { rooms: { join: "lobby" } } })],
  ["no token at all", "token-malformed", "the token is not a signed JSON Web Token in compact form", FINAL, () => "0.1234567890"],
];

describe("tokens where one is required", async () => {
  const server = await required();

  test("a good one is let in, by each protocol", async () => {
    const socket = await io(server, token());
    assert.ok(socket.connected);
    assert.equal(await peerAnswer(server, "good", token()), "OPEN");
  });

  for (const [name, code, message, isFinal, make] of BAD) {
    test(`one that is ${name}`, async () => {
      const bad = make();
      for (const transports of [["websocket"], ["polling"]]) {
        assert.deepEqual(await ioRefusal(server.url, { transports, auth: { token: bad } }), { message, code });
      }
      // A parameter that is too long is refused as such, before anybody looks into it.
      const said = code === "token-too-large" ? "token is longer than 8192 bytes (use a shorter one)" : message;
      assert.equal(await peerAnswer(server, `bad ${code}`, bad), isFinal ? `ERROR: ${said}` : "closed");
    });
  }

  test("none", async () => {
    const refusal = {
      message: "a token is required (send it as auth.token, in an Authorization header, or as the parameter token)",
      code: "token-missing",
    };
    assert.deepEqual(await ioRefusal(server.url, {}), refusal);
    assert.deepEqual(await ioRefusal(server.url, { auth: { token: "" } }), refusal);
    assert.deepEqual(await ioRefusal(server.url, { auth: { token: null } }), refusal);
    assert.equal((await ioRefusal(server.url, { auth: { token: { a: 1 } } })).code, "token-malformed");
  });

  test("in the header of the handshake, which the one of a namespace replaces", async () => {
    const bearer = (value) => ({ extraHeaders: { authorization: `Bearer ${value}` } });
    for (const transports of [["websocket"], ["polling"]]) {
      const socket = await io(server, undefined, { transports, ...bearer(token()) });
      assert.ok(socket.connected);
      const expired = token({ exp: now() - 20 });
      assert.equal((await ioRefusal(server.url, { transports, ...bearer(expired) })).code, "token-expired");
      assert.ok((await io(server, token(), { transports, ...bearer(expired) })).connected);
    }
  });

  test("nothing of them is in the log or in the metrics", async () => {
    const server = await required("--log", "debug", "--allow_discovery");
    const marked = token({ sub: "marked-subject", secret: "marked-claim" });
    await io(server, marked);
    await peerAnswer(server, "marked", marked);
    await ioRefusal(server.url, { auth: { token: `${unsigned(good)}x` } });
    await request(server.url, "GET", `/peerjs/peers?token=${marked}`);
    const { body } = await request(server.adminUrl, "GET", "/metrics");
    assert.match(body, /signalbox_refusals_total\{code="algorithm-none"\} 1/);
    const log = server.output.join("\n");
    assert.ok(server.output.some((line) => line.includes("marked-subject")), "the subject is logged");
    for (const part of marked.split(".")) {
      assert.ok(!log.includes(part) && !body.includes(part), part);
    }
    assert.ok(!body.includes("marked-subject"));
  });
});
