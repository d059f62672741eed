// Starts the two servers that are compared: npm `peer` and the gateway, each with the same PeerServer flags, on a free port of 127.0.0.1.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { until } from "./wait.mjs";

const PEER = fileURLToPath(new URL("../node_modules/peer/dist/bin/peerjs.js", import.meta.url));

// A debug build on two busy cores is slow to start, never this slow.
const START_MS = 20_000;

const running = new Set();
// A test file that dies on an exception must not leave servers behind.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** Starts npm `peer` with these flags; resolves once it listens. */
export function startPeer(flags = []) {
  // `--port 0` is not understood by peer's command line, the environment's PORT is.
  const environment = { ...process.env, PORT: "0" };
  const args = [PEER, "--host", "127.0.0.1", ...flags];
  return start("peer", process.execPath, args, environment, (line) => {
    const port = /^Started PeerServer on .*, port: (\d+)/.exec(line)?.[1];
    return port && { url: `http://127.0.0.1:${port}` };
  });
}

/** Starts the gateway (`GATEWAY_BIN`, unless another is named) with these flags; resolves once it listens. */
export function startGateway(flags = [], binary = process.env.GATEWAY_BIN) {
  if (!binary) {
    throw new Error("GATEWAY_BIN is not set: it names the signalbox-gateway binary that is started with other flags");
  }
  const defaults = { "--host": "127.0.0.1", "--port": "0", "--admin-host": "127.0.0.1", "--admin-port": "0" };
  const args = [...Object.entries(defaults).filter(([flag]) => !flags.includes(flag)).flat(), ...flags];
  return start("signalbox-gateway", binary, args, process.env, (line) => {
    const [, url, adminUrl] = /^signalbox-gateway listening public=(\S+) management=(\S+)/.exec(line) ?? [];
    return url && { url, adminUrl };
  });
}

async function start(name, command, args, env, parseListening) {
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const exited = once(child, "exit").then(([code, signal]) => {
    running.delete(child);
    return { code, signal };
  });
  const output = [];
  const keep = (line) => output.length < 200 && output.push(line);
  createInterface({ input: child.stderr }).on("line", keep);

  const listening = new Promise((resolve, reject) => {
    const fail = (what) => reject(new Error(`${name} ${args.join(" ")}: ${what}\n${output.join("\n")}`));
    const timer = setTimeout(() => fail("did not say that it listens"), START_MS);
    child.once("error", (error) => fail(error.message));
    exited.then(({ code, signal }) => fail(`exited early (${signal ?? code})`));
    createInterface({ input: child.stdout }).on("line", (line) => {
      keep(line);
      const addresses = parseListening(line);
      if (addresses) {
        clearTimeout(timer);
        resolve(addresses);
      }
    });
  });

  try {
    return new Server(child, exited, output, await listening);
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
}

class Server {
  constructor(child, exited, output, addresses) {
    this.child = child;
    this.exited = exited;
    this.output = output;
    Object.assign(this, addresses);
  }

  signal(signal) {
    this.child.kill(signal);
  }

  /** Stops it until SIGCONT. Resolves once all its threads stand still: on a busy machine they run on for some milliseconds. */
  async freeze() {
    const tasks = `/proc/${this.child.pid}/task`;
    // In a line of `stat`, the state follows the name in parentheses; T is stopped.
    const stands = async (task) => / T /.test((await readFile(`${tasks}/${task}/stat`, "utf8")).replace(/^.*\)/s, ""));
    this.signal("SIGSTOP");
    await until(async () => (await Promise.all((await readdir(tasks)).map(stands))).every(Boolean), "it stands still");
  }

  async stop() {
    this.child.kill("SIGKILL");
    await this.exited;
  }
}
