// Tokens are revoked on all nodes within a second: by id, by subject, and all before some time; also for sessions that are moving, on
// nodes that start later, and after an outage of Redis.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { ready, startNode } from "../cluster/setup.mjs";
import { ask } from "../lib/clients.mjs";
import { now } from "../lib/jwt.mjs";
import { nextEvent, until, within } from "../lib/wait.mjs";
import { FLAGS, nodes, redis, sample, steady, token } from "./cluster.mjs";
import { aboutToMove, everything, io, ioRefusal, peer, peerAnswer } from "./setup.mjs";

// A revocation counts everywhere within a second; on busy cores three times that.
const LATEST_MS = 3_000;

const run = promisify(execFile);

/** Revokes as an operator does. */
async function revoke(...what) {
  const flags = ["--redis-url", redis.url, "--jwt-max-lifetime", "7200000"];
  const { stdout } = await run(process.env.GATEWAY_BIN, ["token", "revoke", ...what, ...flags]);
  assert.match(stdout, /^revoked; kept until \d+ /);
}

/** Clients of every kind on every node with this token, and what becomes of them. */
async function clients(id, shown) {
  const sockets = await Promise.all(nodes.flatMap((node) => [["websocket"], ["polling"]].map((transports) => io(node, shown, { transports }))));
  const peers = await Promise.all(nodes.map((node, index) => peer(node, `${id} ${index}`, shown)));
  for (const phone of peers) assert.equal(phone.messages[0]?.type, "OPEN");
  const gone = async () => {
    const reasons = await Promise.all(sockets.map((socket) => (socket.connected ? nextEvent(socket, "disconnect", LATEST_MS) : ["io server disconnect"])));
    assert.deepEqual(new Set(reasons.map(([reason]) => reason)), new Set(["io server disconnect"]));
    await Promise.all(peers.map((phone) => within(phone.until(() => phone.closed), "the close", LATEST_MS)));
    // Not told that it is over: whoever has a new token may claim the id again.
    for (const phone of peers) assert.deepEqual(phone.messages.map(({ type }) => type), ["OPEN"]);
  };
  const there = async () => {
    for (const socket of sockets) assert.equal((await ask(socket, "join", id)).ok, true);
    for (const phone of peers) assert.equal(phone.closed, undefined);
  };
  return { gone, there };
}

/** On all of these nodes nobody is let in with a token. */
async function refused(shown, among = nodes) {
  for (const node of among) {
    assert.deepEqual(await ioRefusal(node.url, { auth: { token: shown } }), { code: "token-revoked", message: "the token has been revoked" });
    assert.equal(await peerAnswer(node, `refused ${Math.random()}`, shown), "ERROR: the token has been revoked");
  }
}

/** The code with which a node refuses a token, if it does. */
const answer = (node, shown) => ioRefusal(node.url, { auth: { token: shown } }).then(({ code }) => code, () => "let in");

describe("a revocation", async () => {
  test("of one token, of a subject, and of all before some time", async () => {
    const [one, other, bob] = [token({ jti: "one" }), token({ jti: "other" }), token({ sub: "bob" })];
    const [ones, others, bobs] = [await clients("one", one), await clients("other", other), await clients("bob", bob)];
    await revoke("--jti", "one");
    await ones.gone();
    await refused(one);
    await Promise.all([others.there(), bobs.there()]);

    await revoke("--subject", "alice");
    await others.gone();
    await refused(other);
    await bobs.there();
    // Times are whole seconds.
    await sleep(1_100);
    const fresh = token();
    const freshs = await clients("fresh", fresh);

    await revoke("--issued-before", `${now() - 3600}`);
    await Promise.all([bobs.there(), freshs.there()]);
    await revoke("--issued-before", `${now() + 1}`);
    await Promise.all([bobs.gone(), freshs.gone()]);
    await refused(bob);
    assert.equal(await sample(nodes[0], 'signalbox_tokens_ended_total{protocol="socketio",reason="token revoked"}'), 8);
    assert.equal(await sample(nodes[0], 'signalbox_tokens_ended_total{protocol="peerserver",reason="token revoked"}'), 4);
    await sleep(1_100);
  });

  test("finds a connection that was opened with the token, whatever its holder has shown since", async () => {
    const ending = (seconds, changed) => token({ sub: "nora", exp: now() + seconds, ...changed });
    const socket = await io(nodes[0], ending(4));
    const stolen = await peer(nodes[1], "nora stolen", ending(60, { jti: "stolen" }));
    const [narrow, tab] = await Promise.all([peer(nodes[1], "not granted", ending(4)), peer(nodes[2], "nora tab", ending(4, { session: "tab" }))]);
    const stays = await peer(nodes[2], "nora phone", ending(4));
    const shown = ending(3600, { signalbox: { ...everything, peer: { ids: ["nora *"] } } });
    assert.deepEqual(await ask(socket, "auth:refresh", shown), { ok: true });
    assert.ok(await narrow.until(() => narrow.closed), "its id is not granted any more");
    assert.ok(await tab.until(() => tab.closed), "it is another session's");
    await sleep(1_000);
    assert.deepEqual([stolen.closed, stays.closed], [undefined, undefined]);
    await revoke("--jti", "stolen");
    await within(stolen.until(() => stolen.closed), "the close", LATEST_MS);
    assert.equal(stays.closed, undefined);
    assert.ok(socket.connected);
  });

  test("is known to a node that starts later", async () => {
    const shown = token({ jti: "before" });
    await revoke("--jti", "before", "--expires", `${now() + 3600}`);
    const later = await startNode(redis, FLAGS);
    await ready(later);
    await until(async () => (await sample(later, "signalbox_revocations")) > 0, "it has read them");
    await refused(shown, [later]);
    await later.stop();
  });

  test("finds a session that is moving to another node", async () => {
    await steady();
    const [home, other] = nodes;
    const moving = Array.from({ length: 24 }, async (_, index) => {
      const shown = token({ sub: index % 4 === 3 ? "stays" : "moves" });
      const socket = await aboutToMove(home, other, shown);
      return { index, socket };
    });
    const ready = await Promise.all(moving);
    const before = await sample(other, "signalbox_session_transfers_total");
    const revoked = revoke("--subject", "moves");
    // Some before the nodes know, some meanwhile, some behind.
    await Promise.all(ready.map(async ({ index, socket }) => {
      await sleep(index * 12);
      socket.send("5");
    }));
    await revoked;
    const heard = ready.map(async ({ index, socket }) => {
      const first = within(socket.next("a word"), "a word", LATEST_MS).then((word) => (typeof word === "string" ? word.slice(0, 15) : "closed"), () => "nothing");
      if (index % 4 === 3) socket.send('420["join","stays"]');
      return first;
    });
    // Whoever stays is who it was, with all that it was granted. Whoever was refused before it moved has no namespace left, and is told so where it has moved to.
    for (const [index, word] of (await Promise.all(heard)).entries()) {
      assert.ok((index % 4 === 3 ? ['430[{"ok":true,'] : ["41", "closed"]).includes(word), `${index}: ${word}`);
    }
    assert.ok((await sample(other, "signalbox_session_transfers_total")) > before, "sessions have moved");
  });

  test("without Redis is a matter of the settings, and is caught up with", async () => {
    const shown = token({ sub: "carol" });
    const [allows, , refuses] = nodes;
    const stays = await io(refuses, shown);
    await redis.stop();
    await until(async () => (await answer(refuses, shown)) === "revocations-unknown", "it cannot know");
    assert.equal(await peerAnswer(refuses, "carol", shown), "closed");
    assert.equal((await ask(stays, "join", "room")).ok, true);
    assert.ok((await io(allows, shown)).connected);
    assert.ok((await sample(allows, "signalbox_tokens_unchecked_total")) > 0);
    await refused(token({ jti: "one" }), [allows]);
    // It comes back empty, and the nodes tell it what they know.
    await redis.start();
    await Promise.all(nodes.map((node) => ready(node)));
    await until(async () => (await answer(refuses, token({ jti: "one" }))) === "token-revoked", "it knows again");
    const later = await startNode(redis, FLAGS);
    await ready(later);
    await until(async () => (await sample(later, "signalbox_revocations")) > 2, "it has read them");
    await refused(token({ jti: "one" }), [later]);
    // It may come before the command has ended.
    const gone = nextEvent(stays, "disconnect", LATEST_MS + 1_000);
    await revoke("--subject", "carol");
    await gone;
  });

  test("of what nobody can revoke is refused in one line", async () => {
    const fails = async (...args) => {
      const { code, stderr } = await run(process.env.GATEWAY_BIN, ["token", "revoke", ...args]).then(() => ({}), (error) => error);
      return [code, stderr.trim()];
    };
    assert.deepEqual(await fails("--jti", "one"), [2, "signalbox-gateway: --redis-url: is missing: a node that is alone is told by its admin API (set --redis-url redis://HOST:6379)"]);
    assert.deepEqual(await fails("--redis-url", redis.url), [2, "signalbox-gateway: token revoke: says not what (give --jti, --subject or --issued-before)"]);
    assert.deepEqual(await fails("--jti", "one", "--redis-url", "redis://127.0.0.1:1"), [2, "signalbox-gateway: Redis does not answer: the other nodes will know when it is back"]);
  });
});
