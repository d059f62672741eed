// JSON Web Tokens of every kind that a server must tell apart, made by hand: a library would refuse to make most of them.
import { createHmac, generateKeyPairSync, randomUUID, sign as signBytes } from "node:crypto";

const encode = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

export const now = () => Math.floor(Date.now() / 1000);

/** A P-256 key pair: `pem` is the public key as a file has it, `jwk` as a key set has it. */
export function keyPair(kid) {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg: "ES256", use: "sig" };
  return { kid, privateKey, jwk, pem: publicKey.export({ type: "spki", format: "pem" }) };
}

/** The claims of a token of an hour, unless others are given; one that is `undefined` is left out. */
export function claims(changed = {}) {
  return { sub: "alice", iat: now(), exp: now() + 3600, jti: randomUUID(), ...changed };
}

/** Signs with the private key of a pair. `header` adds to the header, or takes away. */
export function es256(pair, payload, header = {}) {
  const text = `${encode({ alg: "ES256", typ: "JWT", kid: pair.kid, ...header })}.${encode(payload)}`;
  return `${text}.${signBytes("sha256", Buffer.from(text), { key: pair.privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

export function hs256(secret, payload, header = {}) {
  const text = `${encode({ alg: "HS256", typ: "JWT", ...header })}.${encode(payload)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

export function unsigned(payload) {
  return `${encode({ alg: "none", typ: "JWT" })}.${encode(payload)}.`;
}
