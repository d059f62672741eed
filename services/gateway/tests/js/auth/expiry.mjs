// Tokens end on live connections: a warning, a new token in place without one event lost, and the end at the second.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";
import { ask, record } from "../lib/clients.mjs";
import { now } from "../lib/jwt.mjs";
import { nextEvent, until, within } from "../lib/wait.mjs";
import { everything, granted, io, peer, required, token } from "./setup.mjs";

describe("the end of a token", { concurrency: true }, async () => {
  const server = await required("--jwt-leeway", "1000");
  const ending = (seconds, changed) => granted(everything, { exp: now() + seconds, ...changed });

  test("is announced, and comes at exp and the leeway; on polling too", async () => {
    await Promise.all(
      [["websocket"], ["polling"]].map(async (transports) => {
        const exp = now() + 5;
        const socket = await io(server, granted(everything, { exp }), { transports });
        const [{ in: left }] = await nextEvent(socket, "auth:expiring");
        assert.equal(left, 1);
        const [reason] = await nextEvent(socket, "disconnect");
        assert.equal(reason, "io server disconnect");
        const late = Date.now() - (exp + 1) * 1000;
        assert.ok(late >= 0 && late < 1000, `${late} ms`);
      }),
    );
  });

  test("is put off by a new token of the same subject, and not one event is lost or doubled", async () => {
    const [speaker, listener] = await Promise.all([io(server, ending(4)), io(server, token({ signalbox: everything }))]);
    const phone = await peer(server, "refreshed", ending(4));
    for (const socket of [speaker, listener]) await ask(socket, "join", "refreshing");
    const heard = record(listener, "message");
    let said = 0;
    let talking = true;
    const talk = (async () => {
      for (; talking; await sleep(5)) assert.deepEqual(await ask(speaker, "message", "refreshing", ++said), { ok: true });
    })();
    await nextEvent(speaker, "auth:expiring");
    assert.deepEqual(await ask(speaker, "auth:refresh", ending(60)), { ok: true });
    // Beyond the end of the first token.
    await sleep(6000);
    talking = false;
    await talk;
    assert.ok(speaker.connected);
    assert.equal(phone.closed, undefined, "its PeerServer client has gone on as well");
    await until(() => heard.length >= said, "all that was said");
    assert.deepEqual(heard.map(([number]) => number), Array.from({ length: said }, (_, index) => index + 1));
  });

  test("ends a PeerServer client with a plain close", async () => {
    const exp = now() + 2;
    const phone = await peer(server, "ending", granted(everything, { exp, sub: "bob" }));
    assert.ok(await within(phone.until(() => phone.closed), "the close"));
    const late = Date.now() - (exp + 1) * 1000;
    assert.ok(late >= 0 && late < 1000, `${late} ms`);
    assert.deepEqual(phone.messages.map(({ type }) => type), ["OPEN"]);
  });

  test("is not put off by a bad token, nor by somebody else's; the new grants count", async () => {
    const socket = await io(server, ending(60));
    const refused = async (shown, error) => assert.deepEqual(await ask(socket, "auth:refresh", shown), { ok: false, error });
    await refused(ending(60, { sub: "mallory" }), "subject-changed");
    await refused(ending(-10), "token-expired");
    await refused("nonsense", "token-malformed");
    await refused(undefined, "token-missing");
    await refused(granted({ namespaces: ["/other"] }), "namespace-forbidden");
    assert.equal((await ask(socket, "join", "anywhere")).ok, true);
    assert.deepEqual(await ask(socket, "auth:refresh", granted({ rooms: { join: ["one"] } })), { ok: true });
    assert.deepEqual(await ask(socket, "join", "two"), { ok: false, error: "join-forbidden" });
    assert.equal((await ask(socket, "join", "one")).ok, true);
  });
});
