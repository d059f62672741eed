// The network between one node and Redis fails, while the other nodes have it: what clients on either side notice.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { ask } from "../lib/clients.mjs";
import { TcpProxy } from "../lib/proxy.mjs";
import { until } from "../lib/wait.mjs";
import { member, peer, sees } from "./members.mjs";
import { degraded, health, ready, startNode } from "./setup.mjs";

// A lease lasts 6 s.
const SHORT_MS = 5_000;
const LONG_MS = 10_000;

const KINDS = {
  "every connection is refused": [(proxy) => proxy.close(), (proxy) => proxy.open()],
  // What was on its way arrives in the end, when nobody waits for the answer any more.
  "nothing arrives": [(proxy) => proxy.freeze(), (proxy) => proxy.thaw()],
};

const knows = (one, name) => [...one.view.values()].includes(name);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function away(redis, nodes, kind, cut, heal, ms) {
  const proxy = await TcpProxy.start(redis.url);
  const lonely = await startNode({ url: proxy.url.replace("http", "redis") });
  await ready(lonely);
  const room = `cut-${kind}-${ms}`;
  const [a, leaves] = await Promise.all(["a", "leaves"].map((name) => member(lonely, room, name)));
  const [b, quits] = await Promise.all(["b", "quits"].map((name) => member(nodes[0], room, name)));
  await until(() => sees(a, "b", "leaves", "quits") && sees(b, "a", "leaves", "quits"), "everybody is there");
  const id = `holder-${room}`.replace(/\W/g, "-");
  const holder = await peer(lonely, id);
  assert.equal(holder.answer, "OPEN");

  cut(proxy);
  // Nobody has noticed yet.
  const asked = ask(a.socket, "message", room, "at the cut");
  let isHealed = false;
  const healed = pause(ms).then(() => {
    isHealed = true;
    heal(proxy);
  });
  // Who joins before the node has noticed is not kept waiting for long.
  const newcomer = await member(lonely, room, "newcomer");
  // An answer that is late is no lost lease: only connections that fail are noticed at once.
  const isNoticed = kind !== "nothing arrives" || ms === LONG_MS;
  if (isNoticed) await degraded(lonely);
  assert.equal((await health(lonely)).code, 200, "it stays ready");
  leaves.socket.disconnect();
  quits.socket.disconnect();
  const late = await member(nodes[1], room, "late");
  await until(() => knows(b, "late") && !knows(b, "quits"), "the others see each other come and go");
  const told = await ask(newcomer.socket, "message", room, "local");
  const unnoticed = isNoticed ? [] : [{ ok: true }];
  assert.ok([{ ok: false, error: "degraded" }, ...unnoticed].some((answer) => isDeepStrictEqual(told, answer)), JSON.stringify(told));
  await until(() => a.messages.length === 1, "the node's own members hear each other");
  await until(() => knows(a, "newcomer") && !knows(a, "leaves"), "they see each other come and go");
  if (!isHealed) assert.ok(knows(a, "b") && knows(a, "quits"), "whoever else was there stays");
  if (ms === LONG_MS) await until(() => b.farewells.includes("a"), "the lease has run out, and the others say farewell");

  await healed;
  await ready(lonely);
  // What was acknowledged has arrived. Of what was on its way, nothing is known where it does not come in time.
  const answer = await asked;
  if (isNoticed || !answer.ok) assert.deepEqual(answer, { ok: false, error: "degraded" });
  else await until(() => b.messages.some(([data]) => data === "at the cut"), "it has arrived");
  const here = [a, newcomer, b, late];
  const names = here.map(({ name }) => name);
  const complete = () => here.every((one) => sees(one, ...names.filter((name) => name !== one.name)));
  await until(complete, "everybody sees everybody");
  for (const from of here) {
    const before = here.map(({ messages }) => messages.length);
    await until(async () => {
      await ask(from.socket, "message", room, from.name);
      return here.every((one, index) => one === from || one.messages.length > before[index]);
    }, `all hear ${from.name}`);
  }
  for (const one of here) assert.deepEqual([one.closed, one.strange], [false, []], one.name);
  assert.ok(!a.farewells.includes("b"), "the node did not take others for gone");
  assert.ok(holder.socket.isOpen, "an id is kept");
  assert.equal((await peer(nodes[0], id, "other")).answer, "ID-TAKEN");
  await lonely.stop();
  await proxy.stop();
}

export function cuts(redis, nodes) {
  // Each has a node of its own, and waits most of the time.
  describe("the network between one node and Redis", { concurrency: true }, () => {
    for (const [kind, [cut, heal]] of Object.entries(KINDS)) {
      for (const ms of [SHORT_MS, LONG_MS]) {
        test(`${kind} for ${ms / 1000} s: its clients stay, and then all is one again`, () => away(redis, nodes, kind, cut, heal, ms));
      }
    }
  });
}
