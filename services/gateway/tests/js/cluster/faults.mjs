// Redis goes away and comes back, nodes die and drain: what clients notice of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { ask } from "../lib/clients.mjs";
import { until } from "../lib/wait.mjs";
import { member, peer, sees } from "./members.mjs";
import { degraded, health, metric, ready, startNode } from "./setup.mjs";

// A node is gone within 10 s of its death.
const DEATH_MS = 30_000;
// How long Redis is away, and how long a node sleeps, at least.
const OUTAGE_MS = Number(process.env.OUTAGE_MS ?? 0);
const SLEEP_MS = Number(process.env.SLEEP_MS ?? 0);

export function faults(redis, nodes) {
  test("without Redis nobody is dropped, rooms go on on each node, and all is one again when it is back", async () => {
    const room = "outage";
    const [a, b] = await Promise.all([member(nodes[0], room, "a"), member(nodes[1], room, "b")]);
    await until(() => sees(a, "b") && sees(b, "a"), "they know each other");
    const holder = await peer(nodes[0], "held");
    assert.equal(holder.answer, "OPEN");

    await redis.stop();
    const outage = pause(OUTAGE_MS);
    await Promise.all(nodes.slice(0, 2).map(degraded));
    assert.equal((await health(nodes[0])).code, 200, "it is ready all the same");
    assert.equal(await metric(nodes[0], "signalbox_degraded"), 1);
    const c = await member(nodes[0], room, "c");
    assert.deepEqual(await ask(c.socket, "message", room, "local"), { ok: false, error: "degraded" });
    await until(() => a.messages.length === 1, "the same node's members hear it");
    assert.equal(b.messages.length, 0);
    const early = await peer(nodes[0], "twice", "one");
    const late = await peer(nodes[1], "twice", "two");
    assert.deepEqual([early.answer, late.answer], ["OPEN", "OPEN"]);
    c.socket.disconnect();
    const d = await member(nodes[1], room, "d");

    await outage;
    await redis.start();
    await Promise.all(nodes.map(ready));
    await until(() => sees(a, "b", "d") && sees(b, "a", "d") && sees(d, "a", "b"), "everybody knows everybody");
    for (const one of [a, b, d]) {
      assert.equal(one.closed, false, `${one.name} was not dropped`);
      assert.deepEqual(one.strange, []);
    }
    assert.ok(!b.farewells.includes("a") && !a.farewells.includes("b"), "nobody seemed to leave");
    assert.ok(holder.socket.isOpen, "an id is kept");
    assert.equal((await peer(nodes[1], "held", "other")).answer, "ID-TAKEN");
    await until(() => late.socket.closed, "of two who claimed one id meanwhile the later one is closed");
    assert.ok(early.socket.isOpen);
    assert.deepEqual(await ask(d.socket, "message", room, "again"), { ok: true });
    await until(() => a.messages.length === 2 && b.messages.length === 1, "messages cross nodes again");
  });

  test("FLUSHALL and killed subscriptions change nothing for clients", async () => {
    const room = "flushed";
    const members = await Promise.all(nodes.map((node, index) => member(node, room, `m${index}`)));
    const everybody = members.map(({ name }) => name);
    const complete = () => members.every((one) => sees(one, ...everybody.filter((name) => name !== one.name)));
    await until(complete, "everybody knows everybody");
    await redis.ask("FLUSHALL");
    await redis.ask("CLIENT KILL TYPE pubsub");
    const late = await member(nodes[0], room, "late");
    members.push(late);
    everybody.push("late");
    await until(complete, "the newcomer is known everywhere, and knows everybody");
    await until(async () => {
      await ask(late.socket, "message", room, 1);
      return members.every((one) => one === late || one.messages.length > 0);
    }, "messages cross nodes");
    for (const one of members) assert.deepEqual([one.strange, one.farewells, one.closed], [[], [], false]);
  });

  test("a node that is killed takes its members and ids along, once", async () => {
    const doomed = await startNode(redis);
    await ready(doomed);
    const room = "mourning";
    const [a, b] = await Promise.all([member(nodes[0], room, "a"), member(nodes[1], room, "b")]);
    const lost = await Promise.all([1, 2, 3].map((n) => member(doomed, room, `lost${n}`)));
    await until(() => sees(a, "b", ...lost.map(({ name }) => name)), "everybody is there");
    assert.equal((await peer(doomed, "widow")).answer, "OPEN");
    await doomed.stop();
    await until(() => sees(a, "b") && sees(b, "a"), "the dead are gone", DEATH_MS);
    for (const one of [a, b]) {
      assert.deepEqual(one.farewells.toSorted(), ["lost1", "lost2", "lost3"]);
      assert.deepEqual(one.strange, []);
    }
    await until(async () => (await peer(nodes[1], "widow", "new")).answer === "OPEN", "its id is free", DEATH_MS);
  });

  test("a node that was paused for longer than its lease has lost what others took", async () => {
    const sleepy = await startNode(redis);
    await ready(sleepy);
    const room = "sleep";
    const a = await member(nodes[0], room, "a");
    const b = await member(sleepy, room, "b");
    await until(() => sees(a, "b"), "both are there");
    const old = await peer(sleepy, "sleeper");
    assert.equal(old.answer, "OPEN");
    await sleepy.freeze();
    const sleep = pause(SLEEP_MS);
    let next;
    await until(async () => (next = await peer(nodes[0], "sleeper", "new")).answer === "OPEN", "the id is free", DEATH_MS);
    await until(() => sees(a), "who slept is gone", DEATH_MS);
    await sleep;
    sleepy.signal("SIGCONT");
    await until(() => old.socket.closed, "the old holder is closed");
    assert.ok(next.socket.isOpen, "the new one stays");
    await until(() => sees(a, "b"), "who slept is back");
    assert.deepEqual([a.strange, b.strange, b.closed], [[], [], false]);
  });

  test("a node that drains closes its clients by transport and leaves; it is not ready meanwhile", async () => {
    const leaving = await startNode(redis, ["--drain-delay", "500", "--drain-timeout", "3000"]);
    await ready(leaving);
    // Whoever joins learns at once who is there; others are told with their next heartbeat.
    const members = () => metric(leaving, "signalbox_cluster_nodes");
    await until(async () => (await members()) > nodes.length, "it knows the others");
    const others = (await members()) - 1;
    const room = "drained";
    const a = await member(nodes[0], room, "a");
    const there = await Promise.all(Array.from({ length: 20 }, (_, n) => member(leaving, room, `d${n}`)));
    assert.equal((await peer(leaving, "moving")).answer, "OPEN");
    await until(() => a.view.size === 20, "everybody is there");
    leaving.signal("SIGTERM");
    await until(async () => (await health(leaving)).code === 503, "it is not ready");
    assert.equal((await health(leaving)).status, "draining");
    // New clients are still served.
    const late = await member(leaving, room, "late");
    await until(() => [...there, late].every(({ closed }) => closed), "all are closed");
    for (const { closed } of there) assert.equal(closed, "transport close", "such a client reconnects by itself");
    assert.deepEqual(await leaving.exited, { code: 0, signal: null });
    await until(() => sees(a), "they have left");
    assert.deepEqual(a.strange, []);
    assert.equal((await peer(nodes[0], "moving", "new")).answer, "OPEN", "its ids are free at once");
    await until(async () => (await metric(nodes[0], "signalbox_cluster_nodes")) <= others, "it is forgotten");
  });

  test("a node starts without Redis, and is not ready until it has found it", async () => {
    await redis.stop();
    const node = await startNode(redis);
    const { code, status } = await health(node);
    assert.deepEqual({ code, status }, { code: 503, status: "joining" });
    await redis.start();
    await ready(node);
  });
}
