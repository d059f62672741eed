// Redis fails, and is replaced or comes back, while clients talk, come and go: none of them is dropped, and only what was said meanwhile may be lost.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { until } from "../lib/wait.mjs";
import { isMaster, isReplica } from "./stores.mjs";
import { Traffic } from "./traffic.mjs";

const OUTAGE_MS = 5_000;

/** Each fault happens to the same traffic, one after the other. */
function each(nodes, rooms, faults) {
  let traffic;
  for (const [name, fault] of Object.entries(faults)) {
    test(`under traffic: ${name}`, async (t) => {
      traffic ??= await Traffic.start(nodes, await rooms());
      const figures = await traffic.through(() => fault(traffic));
      t.diagnostic(`${name}: ${JSON.stringify(figures)}`);
    });
  }
}

const names = (count) => Array.from({ length: count }, (_, number) => `room${number}`);

export function failoversOfRedisCluster(redis, nodes) {
  const { servers } = redis;
  each(nodes, () => names(9), {
    "a master of a Redis Cluster dies": async () => {
      await servers[1].stop();
      await isMaster(servers[4]);
    },
    "a master of a Redis Cluster comes back as a replica": async () => {
      await servers[1].start();
      await isReplica(servers[1]);
    },
    "a master of a Redis Cluster is relieved": async () => {
      assert.match(await servers[3].ask("CLUSTER FAILOVER"), /^\+OK/);
      await isMaster(servers[3]);
    },
    "slots of a Redis Cluster move": async () => {
      const channels = await redis.channels();
      assert.ok(channels.length >= 9 + 1 + nodes.length, `${channels}`);
      const slots = new Set(await Promise.all(channels.map(async (name) => Number((await servers[0].ask(["CLUSTER", "KEYSLOT", name])).slice(1)))));
      for (const slot of slots) await redis.moveSlot(slot);
    },
  });
}

export function failoversOfSentinel(redis, nodes) {
  each(nodes, () => names(4), {
    "a master that Sentinel watches dies": async () => {
      const master = await redis.master();
      await master.stop();
      await newMaster(redis, master);
    },
    "a master that Sentinel watches is relieved": async () => {
      const master = await redis.master();
      assert.match(await redis.ask("SENTINEL FAILOVER main"), /^\+OK/);
      await newMaster(redis, master);
      // Sentinel takes its time to tell the old one, with which the nodes go on until then.
      let ended;
      await until(async () => {
        const asked = performance.now();
        // All its clients are cut off when it is told.
        const isOver = !(await master.ask("ROLE").catch(() => "master")).includes("master");
        if (!isOver) ended = asked;
        return isOver;
      }, "the old master knows that it is none any more");
      await isReplica(master);
      return ended;
    },
  });
  test("every node has told of the failovers that it followed", () => {
    for (const node of nodes) {
      const told = node.output.filter((line) => line.includes("the failover is followed"));
      assert.ok(told.length >= 2, node.output.join("\n"));
    }
  });
}

async function newMaster(redis, old) {
  let master;
  for (master = old; master === old; master = await redis.master()) await pause(20);
  await isMaster(master);
}

export function outage(redis, nodes) {
  each(nodes, () => names(4), {
    "Redis is shut down for 5 s": async () => {
      await redis.ask("SHUTDOWN NOSAVE");
      await redis.exited;
      await pause(OUTAGE_MS);
      await redis.start();
    },
  });
}
