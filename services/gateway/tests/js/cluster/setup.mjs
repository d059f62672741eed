// A cluster of its own for a test file: a real redis-server, and gateways that share it. `stores.mjs` has other kinds of Redis.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { onEnd } from "../lib/cleanup.mjs";
import { request } from "../lib/http.mjs";
import { startGateway } from "../lib/peer-servers.mjs";
import { until } from "../lib/wait.mjs";

const running = new Set();
// A test file that dies on an exception must not leave servers behind.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** Starts a program of the test's own: the child, and a promise of its end. */
export function program(name, flags, options) {
  const child = spawn(name, flags, { stdio: "ignore", ...options });
  running.add(child);
  const exited = once(child, "exit").then(() => running.delete(child));
  return { child, exited };
}

export async function freePort() {
  return (await freePorts(1))[0];
}

/** The ports of this test: the upper half of a range that no other test has meanwhile. See `crates/test-support/src/ports.rs`. */
const PORTS = { first: 10_000 + 250 * (Number(process.env.NEXTEST_TEST_GLOBAL_SLOT ?? process.pid) % 40) + 125, count: 125 };
let taken = process.pid;

/** As many ports that nobody listens on, all different, none of which is given away again soon: whoever wants one may take its time. */
export async function freePorts(count) {
  const ports = new Set();
  for (let tries = 0; ports.size < count; tries++) {
    if (tries > PORTS.count) throw new Error(`of the ports from ${PORTS.first} on too few are free`);
    const port = PORTS.first + (taken++ % PORTS.count);
    const server = net.createServer().listen(port, "127.0.0.1");
    const isFree = await new Promise((resolve) => server.once("listening", () => resolve(true)).once("error", () => resolve(false)));
    if (!isFree) continue;
    await once(server.close(), "close");
    ports.add(port);
  }
  return [...ports];
}

/** A redis-server without persistence, on a port that it keeps when it comes back. */
export class Redis {
  static async start(flags = [], port) {
    const redis = new Redis();
    redis.port = port ?? (await freePort());
    redis.flags = flags;
    onEnd(() => redis.stop());
    await redis.start();
    return redis;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async start() {
    const flags = ["--port", `${this.port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    // What a replica writes when it synchronises would be read by the next server that starts in the same folder.
    const nothing = ["--repl-diskless-load", "swapdb", "--dbfilename", `${this.port}.rdb`];
    Object.assign(this, program("redis-server", [...flags, ...nothing, ...this.flags], { cwd: tmpdir() }));
    await until(() => this.ask("PING").then((answer) => answer.startsWith("+PONG"), () => false), "redis-server answers");
  }

  async stop() {
    this.child.kill("SIGKILL");
    await this.exited;
  }

  /** Sends one command, words separated by spaces (or as a list), and gives back what it answers: a character for each byte. */
  async ask(line) {
    return ask(this.port, line);
  }

  /** How often a command was called. */
  async calls(command) {
    const stats = await this.ask("INFO commandstats");
    return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
  }
}

/** What the server on a port answers to one command. */
export async function ask(port, line) {
  const words = Array.isArray(line) ? line : line.split(" ");
  // Keys and channels have bytes in their names which a plain line could not carry.
  const command = words.map((word) => `$${word.length}\r\n${word}\r\n`).join("");
  const socket = net.connect(port, "127.0.0.1");
  const chunks = [];
  socket.on("data", (chunk) => chunks.push(chunk));
  await new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", resolve);
    // It answers what it has read before it sees the end. (A sentinel knows no QUIT.)
    socket.end(`*${words.length}\r\n${command}`, "latin1");
  });
  return Buffer.concat(chunks).toString("latin1");
}

/** A node of the cluster; of the present build, unless another is named. */
export async function startNode(redis, flags = [], binary) {
  const node = await startGateway(["--redis-url", redis.url, "--workers", "2", ...flags], binary);
  onEnd(() => node.stop());
  return node;
}

/** As many nodes, all ready. */
export async function startNodes(redis, count, flags) {
  const nodes = await Promise.all(Array.from({ length: count }, () => startNode(redis, flags)));
  await Promise.all(nodes.map((node) => ready(node)));
  return nodes;
}

/** HAProxy in front of nodes, round-robin, without stickiness and with a connection of its own for each request. */
export async function balance(nodes, algorithm) {
  const servers = nodes.map(({ url }, index) => `  server node${index} ${new URL(url).host}`);
  return (await startBalancer(servers, algorithm)).url;
}

/**
 * The same in front of nodes that come and go, as they say themselves: each has `port` and `adminPort`. `rotation` tells the
 * indexes of those that requests go to, in order, once all have been checked.
 */
export async function balanceReady(places, algorithm) {
  const stats = await freePort();
  const { url } = await startBalancer([
    // A node that a busy machine is slow to answer for is not down; without this a check may take no longer than their interval.
    "  timeout check 5s", "  option httpchk GET /readyz",
    "  default-server check inter 200ms fall 2 rise 1",
    ...places.map(({ port, adminPort }, index) => `  server node${index} 127.0.0.1:${port} port ${adminPort}`),
    "frontend stats", `  bind 127.0.0.1:${stats}`, "  stats enable", "  stats uri /",
  ], algorithm);
  const rotation = async () => {
    const { body } = await request(`http://127.0.0.1:${stats}`, "GET", "/;csv");
    const rows = places.map((_, index) => body.split("\n").find((line) => line.startsWith(`nodes,node${index},`)));
    // Until its first check a server counts as up, even if nobody is there.
    if (rows.some((row) => /,INI,/.test(row))) return undefined;
    return rows.flatMap((row, index) => (/,UP/.test(row) ? [index] : [])).join();
  };
  return { url, rotation };
}

async function startBalancer(backend, algorithm = "roundrobin") {
  const port = await freePort();
  const folder = await mkdtemp(path.join(tmpdir(), "signalbox-balancer-"));
  const lines = [
    "global", "  maxconn 8000",
    "defaults", "  mode http", "  timeout connect 5s", "  timeout client 60s", "  timeout server 60s", "  timeout tunnel 60s",
    "  option http-server-close", "  http-reuse never", "  option redispatch 1",
    "frontend clients", `  bind 127.0.0.1:${port}`, "  default_backend nodes",
    "backend nodes", `  balance ${algorithm}`, ...backend, "",
  ];
  await writeFile(path.join(folder, "haproxy.cfg"), lines.join("\n"));
  const { child, exited } = program("haproxy", ["-db", "-f", path.join(folder, "haproxy.cfg")]);
  onEnd(async () => {
    child.kill("SIGKILL");
    await exited;
    await rm(folder, { recursive: true });
  });
  const url = `http://127.0.0.1:${port}`;
  await until(() => request(url, "GET", "/").then(({ status }) => status === 200, () => false), "the balancer answers");
  return { url };
}

/** The body of a node's /readyz, with its status. */
export async function health(node) {
  const { status, body } = await request(node.adminUrl, "GET", "/readyz");
  return { code: status, ...JSON.parse(body) };
}

/** Until a node is ready, and knows Redis. */
export async function ready(node) {
  await until(async () => {
    const { code, degraded } = await health(node);
    return code === 200 && !degraded;
  }, "the node is ready");
}

/** Until a node says that it serves without Redis. */
export async function degraded(node) {
  await until(async () => (await health(node)).degraded === true, "the node is degraded");
}

/** The sessions that have moved to a node; the previous format counts them under another name. */
export async function sessionTransfers(node) {
  const present = await metric(node, "signalbox_session_transfers_total");
  return Number.isNaN(present) ? metric(node, "signalbox_session_moves_total") : present;
}

/** The value of a metric without labels. */
export async function metric(node, name) {
  const { body } = await request(node.adminUrl, "GET", "/metrics");
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(body)?.[1]);
}
