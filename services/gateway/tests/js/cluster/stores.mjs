// A Redis that survives the loss of a server, out of real processes: a Redis Cluster, and servers that Sentinel watches.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { onEnd } from "../lib/cleanup.mjs";
import { until } from "../lib/wait.mjs";
import { Redis, ask, freePorts, program } from "./setup.mjs";

const SLOTS = 16_384;
/** After so long without an answer a server counts as failed. */
export const NODE_TIMEOUT_MS = 1_500;
export const DOWN_AFTER_MS = 1_500;

/** Three masters with a replica each: `servers[n + 3]` replicates `servers[n]`, to begin with. */
export class RedisCluster {
  static async start(masters = 3) {
    const cluster = new RedisCluster();
    const folder = await mkdtemp(path.join(tmpdir(), "signalbox-redis-cluster-"));
    onEnd(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
    const ports = await freePorts(4 * masters);
    const buses = ports.splice(2 * masters);
    cluster.servers = await Promise.all(ports.map((port, index) => Redis.start([
      "--cluster-enabled", "yes", "--cluster-port", `${buses[index]}`, "--cluster-node-timeout", `${NODE_TIMEOUT_MS}`,
      "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0", "--dir", folder, "--cluster-config-file", `nodes-${index}.conf`,
    ], port)));
    const { servers } = cluster;
    for (const [index, server] of servers.entries()) {
      await done(server, `CLUSTER SET-CONFIG-EPOCH ${index + 1}`);
      if (index < masters) {
        const first = (number) => Math.floor((number * SLOTS) / masters);
        await done(server, `CLUSTER ADDSLOTSRANGE ${first(index)} ${first(index + 1) - 1}`);
      }
      await done(server, `CLUSTER MEET 127.0.0.1 ${servers[0].port} ${buses[0]}`);
    }
    await cluster.every((server) => server.ask("CLUSTER INFO"), (info) => /cluster_state:ok/.test(info) && info.includes(`cluster_known_nodes:${servers.length}\r`));
    for (const [index, replica] of servers.slice(masters).entries()) await done(replica, `CLUSTER REPLICATE ${await id(servers[index])}`);
    await cluster.every((server) => server.ask("CLUSTER NODES"), (nodes) => nodes.match(/\bslave\b/g)?.length === masters);
    await Promise.all(servers.slice(masters).map(isReplica));
    return cluster;
  }

  /** Two of them; the others are found from there. */
  get url() {
    return `redis+cluster://${this.servers.slice(-2).map(({ port }) => `127.0.0.1:${port}`).join()}`;
  }

  async every(look, holds) {
    await Promise.all(this.servers.map((server) => until(async () => holds(await look(server)), "the Redis Cluster is one")));
  }

  /** The masters that are there. */
  async masters() {
    const roles = await Promise.all(this.servers.map((server) => server.ask("ROLE").catch(() => "")));
    return this.servers.filter((_, index) => roles[index].includes("master"));
  }

  /** The names of all channels that are heard somewhere. */
  async channels() {
    const all = await Promise.all((await this.masters()).map(async (master) => list(await master.ask("PUBSUB SHARDCHANNELS"))));
    return [...new Set(all.flat())];
  }

  /** Moves a slot from its master to another, as `redis-cli --cluster reshard` does. */
  async moveSlot(slot) {
    const masters = await this.masters();
    const owns = await Promise.all(masters.map(async (master) => has(await master.ask("CLUSTER NODES"), slot)));
    const from = masters[owns.indexOf(true)];
    const to = masters[(owns.indexOf(true) + 1) % masters.length];
    const [fromId, toId] = [await id(from), await id(to)];
    await done(to, `CLUSTER SETSLOT ${slot} IMPORTING ${fromId}`);
    await done(from, `CLUSTER SETSLOT ${slot} MIGRATING ${toId}`);
    for (let keys; (keys = list(await from.ask(`CLUSTER GETKEYSINSLOT ${slot} 1`))).length > 0;) {
      await done(from, ["MIGRATE", "127.0.0.1", `${to.port}`, "", "0", "5000", "KEYS", ...keys]);
    }
    await done(to, `CLUSTER SETSLOT ${slot} NODE ${toId}`);
    await done(from, `CLUSTER SETSLOT ${slot} NODE ${toId}`);
  }
}

/** A master and two replicas, and a sentinel that decides alone. */
export class Watched {
  static async start() {
    const watched = new Watched();
    const flags = ["--repl-diskless-sync-delay", "0"];
    const master = await Redis.start(flags);
    const replicas = await Promise.all([0, 1].map(() => Redis.start([...flags, "--replicaof", "127.0.0.1", `${master.port}`])));
    watched.servers = [master, ...replicas];
    await Promise.all(replicas.map(isReplica));
    const folder = await mkdtemp(path.join(tmpdir(), "signalbox-sentinel-"));
    const [port, nobody] = await freePorts(2);
    Object.assign(watched, { port, nobody });
    const lines = [
      `port ${port}`, "bind 127.0.0.1", `dir ${folder}`, `sentinel monitor main 127.0.0.1 ${master.port} 1`,
      `sentinel down-after-milliseconds main ${DOWN_AFTER_MS}`, "sentinel failover-timeout main 3000",
    ];
    const file = path.join(folder, "sentinel.conf");
    await writeFile(file, lines.join("\n"));
    const { child, exited } = program("redis-server", [file, "--sentinel"]);
    onEnd(async () => {
      child.kill("SIGKILL");
      await exited;
      await rm(folder, { recursive: true });
    });
    await until(async () => {
      const known = await watched.ask("SENTINEL REPLICAS main").catch(() => "");
      return replicas.every(({ port }) => known.includes(`127.0.0.1:${port}`)) && known.match(/master-link-status\r\n\$2\r\nok/g)?.length === 2;
    }, "the sentinel knows both replicas");
    return watched;
  }

  /** The first of the sentinels is not there. */
  get url() {
    return `redis+sentinel://127.0.0.1:${this.nobody},127.0.0.1:${this.port}/main`;
  }

  /** What the sentinel answers. */
  ask(line) {
    return ask(this.port, line);
  }

  /** The server that the sentinel calls the master. */
  async master() {
    const port = Number(list(await this.ask("SENTINEL GET-MASTER-ADDR-BY-NAME main"))[1]);
    return this.servers.find((server) => server.port === port);
  }
}

/** Until a server is a master. */
export async function isMaster(server) {
  await until(async () => (await server.ask("ROLE")).includes("master"), "it is a master");
}

/** Until a server has what its master has. */
export async function isReplica(server) {
  await until(async () => (await server.ask("INFO replication")).includes("master_link_status:up"), "it is a replica");
}

/** Sends a command that must succeed. */
async function done(server, line) {
  const answer = await server.ask(line);
  if (!answer.startsWith("+OK")) throw new Error(`${line}: ${answer}`);
}

async function id(server) {
  return list(`*1\r\n${await server.ask("CLUSTER MYID")}`)[0];
}

/** A list of strings, out of an answer. */
function list(answer) {
  const found = [];
  for (let at = answer.indexOf("\r\n") + 2; at < answer.length;) {
    const begin = answer.indexOf("\r\n", at) + 2;
    const end = begin + Number(answer.slice(at + 1, begin));
    found.push(answer.slice(begin, end));
    at = end + 2;
  }
  return found;
}

/** Whether a master's view of the cluster says that a slot is its own. */
function has(nodes, slot) {
  const own = nodes.split("\n").find((line) => line.includes("myself")) ?? "";
  return own.trim().split(" ").slice(8).some((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return first <= slot && slot <= last;
  });
}
