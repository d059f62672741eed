// How many connections a subject has is limited in the whole cluster: clients of both protocols over three nodes, sessions that move, a
// node that is killed, an outage of Redis. Starts everything itself; GATEWAY_BIN names the gateway.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";
import { ask } from "./lib/clients.mjs";
import { until } from "./lib/wait.mjs";
import { aboutToMove, peer } from "./auth/setup.mjs";
import { connect, nodes, redis, refused, room, sample, shown, steady } from "./subjects/setup.mjs";

const MOST = 4;

describe("connections of a subject", async () => {
  test("of both protocols count together on all nodes, and a place is free at once", async () => {
    const alice = shown("alice");
    const sockets = [await connect(nodes[0], alice), await connect(nodes[1], alice, { transports: ["polling"] }), await connect(nodes[2], alice)];
    const phone = await peer(nodes[2], "alice-phone", alice);
    assert.deepEqual(phone.messages.map(({ type }) => type), ["OPEN"]);
    const before = await sample(nodes[1], 'signalbox_refusals_total{code="too-many-connections"}');
    for (const node of nodes) await refused(node, alice);
    assert.equal((await sample(nodes[1], 'signalbox_refusals_total{code="too-many-connections"}')) - before, 2);
    // Another subject, and another issuer's, have their own.
    const bob = await connect(nodes[0], shown("bob"));
    assert.equal((await ask(bob, "join", "room")).ok, true);
    for (const socket of sockets) assert.equal((await ask(socket, "join", "room")).ok, true);
    // Who comes back with its id takes its own place, on another node too; the former connection is closed.
    const again = await peer(nodes[0], "alice-phone", alice);
    assert.deepEqual(again.messages.map(({ type }) => type), ["OPEN"]);
    await phone.until(() => phone.closed);
    for (const node of nodes) await refused(node, alice);
    // A place of either protocol is one.
    sockets[1].disconnect();
    await room(nodes[2], alice, 1);
    again.terminate();
    await room(nodes[1], alice, 1);
  });

  test("as many as a token grants, more or fewer than the server's own", async () => {
    const [few, many] = [shown("few", { limits: { connections: 1 } }), shown("many", { limits: { connections: 6 } })];
    await connect(nodes[0], few);
    await refused(nodes[1], few);
    for (let number = 0; number < 6; number += 1) await connect(nodes[number % 3], many);
    await refused(nodes[1], many);
  });

  test("are never more than that, however many come at once", async () => {
    const carol = shown("carol");
    const come = await Promise.allSettled(Array.from({ length: 30 }, (_, index) => connect(nodes[index % 3], carol)));
    const [within, beyond] = ["fulfilled", "rejected"].map((status) => come.filter((outcome) => outcome.status === status));
    assert.equal(within.length, MOST, beyond[0]?.reason?.message);
    assert.deepEqual(new Set(beyond.map(({ reason }) => reason.data?.code)), new Set(["too-many-connections"]));
  });

  test("a session that moves is not refused, and counts once", async () => {
    await steady();
    const dora = shown("dora");
    const before = await sample(nodes[1], "signalbox_session_transfers_total");
    for (let number = 1; number < MOST; number += 1) await connect(nodes[number % 3], dora);
    const socket = await aboutToMove(nodes[0], nodes[1], dora);
    await refused(nodes[2], dora);
    socket.send("5");
    socket.send('420["join","room"]');
    await socket.until((frame) => typeof frame === "string" && frame.startsWith("430["), "the answer");
    await until(async () => (await sample(nodes[1], "signalbox_session_transfers_total")) > before, "it has moved");
    for (const node of nodes) await refused(node, dora);
    socket.ws.terminate();
    await room(nodes[0], dora, 1);
  });

  test("of a node that was killed count no more", async () => {
    const eve = shown("eve");
    for (const node of [nodes[0], nodes[2], nodes[2]]) await connect(node, eve);
    assert.equal((await peer(nodes[2], "eve-phone", eve)).messages[0].type, "OPEN");
    await refused(nodes[1], eve);
    nodes[2].child.kill("SIGKILL");
    await room(nodes[1], eve, 3, 36_000);
    await refused(nodes[0], eve);
  });

  test("are counted by each node while Redis is away, which is told; afterwards together, and nobody has to go", async () => {
    const fred = shown("fred");
    const alone = (node) => sample(node, "signalbox_connections_counted_alone_total");
    const held = [await connect(nodes[0], fred)];
    await redis.stop();
    await until(async () => (await sample(nodes[0], "signalbox_degraded")) === 1 && (await sample(nodes[1], "signalbox_degraded")) === 1, "both know", 20_000);
    for (let number = 1; number < MOST; number += 1) held.push(await connect(nodes[0], fred));
    for (let number = 0; number < MOST; number += 1) held.push(await connect(nodes[1], fred));
    await refused(nodes[0], fred);
    await refused(nodes[1], fred);
    assert.deepEqual([await alone(nodes[0]), await alone(nodes[1])], [MOST - 1, MOST]);
    await redis.start();
    await until(async () => (await sample(nodes[0], "signalbox_degraded")) === 0 && (await sample(nodes[1], "signalbox_degraded")) === 0, "both are back", 20_000);
    await sleep(1_000);
    for (const socket of held) assert.equal((await ask(socket, "join", "room")).ok, true);
    // Seven leave, and the next is the first that is let in.
    for (const socket of held.splice(MOST)) socket.disconnect();
    await sleep(500);
    await refused(nodes[1], fred);
    held[0].disconnect();
    await room(nodes[1], fred, 1);
  });
});
