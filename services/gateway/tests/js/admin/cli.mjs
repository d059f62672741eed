// The command line, as an operator uses it.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { freePort, program } from "../cluster/setup.mjs";
import { onEnd } from "../lib/cleanup.mjs";
import { ask, connected, record } from "../lib/clients.mjs";
import { startGateway } from "../lib/peer-servers.mjs";
import { TcpProxy } from "../lib/proxy.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { call } from "./setup.mjs";

const websocket = { transports: ["websocket"] };

/** Runs `signalbox-gateway admin ...` against a node; the exit code, what it says, and what it complains about. */
async function admin(node, ...flags) {
  const env = { ...process.env, ...(node.token && { SIGNALBOX_ADMIN_TOKEN: node.token }) };
  try {
    const { stdout, stderr } = await promisify(execFile)(process.env.GATEWAY_BIN, ["admin", ...flags, "--url", node.adminUrl], { env });
    return { code: 0, stdout, stderr };
  } catch ({ code, stdout, stderr }) {
    return { code, stdout, stderr };
  }
}

/** What the command says as JSON. Fails with its complaint, when it has one. */
async function answer(node, ...flags) {
  const { code, stdout, stderr } = await admin(node, ...flags);
  assert.equal(code, 0, `admin ${flags.join(" ")} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout);
}

/** Runs `admin tail` until the end of the test: the events that it writes, and what it complains about. */
function tail({ adminUrl, token }, ...flags) {
  const listening = { events: [], complaints: "" };
  const { child } = program(process.env.GATEWAY_BIN, ["admin", "tail", "--json", "--url", adminUrl, ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...(token && { SIGNALBOX_ADMIN_TOKEN: token }) },
  });
  onEnd(() => child.kill("SIGKILL"));
  createInterface({ input: child.stdout }).on("line", (line) => listening.events.push(JSON.parse(line)));
  child.stderr.on("data", (text) => (listening.complaints += text));
  return listening;
}

/** How many listen to a node. */
async function listeners(node) {
  const { body } = await call(node, "GET", "/metrics");
  return Number(/^signalbox_event_listeners (\d+)$/m.exec(body)?.[1]);
}

/** A token that may read, and the setting for it. */
function reader() {
  const text = execFileSync(process.env.GATEWAY_BIN, ["admin-token", "--name", "reader", "--scopes", "read"]).toString();
  return { token: /(sba_\S+)/.exec(text)[1], setting: /--admin-token-hash (\S+)/.exec(text)[1] };
}

export function cli(nodes) {
  describe("signalbox-gateway admin", () => {
    it("looks, speaks and acts, in JSON and in tables", async () => {
      const sockets = await Promise.all(nodes.map((node) => connected(node.url, websocket)));
      for (const socket of sockets) await ask(socket, "join", "cli/room", { name: "ada" });
      const rooms = await answer(nodes[0], "rooms", "cli");
      assert.deepEqual(rooms, { items: [{ namespace: "/", name: "cli/room", members: 3 }], partial: [] });
      assert.equal((await admin(nodes[1], "rooms", "cli", "--table")).stdout, "NAMESPACE  ROOM      MEMBERS\n/          cli/room  3\n");
      const members = (await admin(nodes[2], "members", "cli/room", "--table")).stdout.trim().split("\n");
      assert.equal(members.length, 4);
      assert.match(members[1], /\{"name":"ada"\}$/);
      assert.equal((await answer(nodes[0], "nodes")).items.length, 3);
      assert.equal((await answer(nodes[0], "sockets", "--room", "cli/room")).items.length, 3);
      assert.equal((await answer(nodes[0], "peers", "cli-nobody")).items.length, 0);

      const news = record(sockets[1], "news");
      await answer(nodes[0], "emit", "news", "text", "7", '{"a":1}', "--socket", sockets[1].id);
      await until(() => news.length === 1, "the event has come");
      assert.deepEqual(news[0], ["text", 7, { a: 1 }]);
      const gone = nextEvent(sockets[2], "disconnect");
      const kicked = await answer(nodes[0], "kick", "--socket", sockets[2].id);
      assert.deepEqual([kicked.matched, kicked.done], [1, 1]);
      await gone;
      for (const flags of [["--client", sockets[0].id, "--level", "debug", "--for", "60"], ["--off"]]) {
        const { matched, done, partial } = await answer(nodes[0], "log", ...flags);
        assert.deepEqual([matched, done, partial], [3, 3, []], flags.join(" "));
      }
    });

    it("writes what happens, also when its node has ended and another has its place", async () => {
      const [port, { token, setting }] = [await freePort(), reader()];
      const flags = ["--workers", "1", "--admin-port", `${port}`, "--admin-token-hash", setting];
      const first = await startGateway(flags);
      onEnd(() => first.stop());
      for (const command of ["tail", "nodes"]) {
        const { code, stderr } = await admin({ ...first, adminUrl: first.adminUrl, token: `${token}x` }, command);
        assert.deepEqual([code, stderr], [1, "signalbox-gateway: the token is not known (--token, --token-file or SIGNALBOX_ADMIN_TOKEN)\n"]);
      }
      const listening = tail({ adminUrl: first.adminUrl, token }, "--kinds", "connect");
      const { events } = listening;
      await until(async () => (await listeners(first)) === 1, "it listens");
      const socket = await connected(first.url, websocket);
      await until(() => events.some((event) => event.socket === socket.id), "the event is written");
      await first.stop();
      const second = await startGateway(flags);
      onEnd(() => second.stop());
      await until(() => events.some(({ kind }) => kind === "resync"), "it listens again");
      const other = await connected(second.url, websocket);
      await until(() => events.some((event) => event.socket === other.id), "the event of the other node is written");
      assert.match(listening.complaints, /the connection is lost\nsignalbox-gateway: listening again/);
    });

    it("listens over a WebSocket, and goes on where it was when that is cut", async () => {
      const proxy = await TcpProxy.start(nodes[0].adminUrl);
      const asked = [];
      let answered = 0;
      proxy.server.on("connection", (client) =>
        client.once("data", (head) => {
          asked.push(head.toString());
          // It listens when it has answered the first ping.
          client.once("data", () => (answered += 1));
        }),
      );
      const { events } = tail({ adminUrl: proxy.url }, "--kinds", "connect");
      await until(() => answered === 1, "it listens");
      // It is cut off before it was told of anything.
      proxy.close();
      const missed = await Promise.all(nodes.map((node) => connected(node.url, websocket)));
      proxy.open();
      await until(() => answered === 2, "it listens again");
      const last = await connected(nodes[0].url, websocket);
      await until(() => events.some((event) => event.socket === last.id), "it is told of everything");
      const told = (socket) => events.filter((event) => event.socket === socket.id).length;
      await until(() => missed.every((socket) => told(socket) > 0), "it is told of what it missed");
      assert.deepEqual([...missed, last].map(told), [1, 1, 1, 1]);
      assert.ok(events.every(({ kind }) => kind === "connect"), JSON.stringify(events));
      for (const head of asked) assert.match(head, /^GET \/admin\/v1\/events\?kinds=connect HTTP\/1\.1\r\n[^]*upgrade: websocket\r\n/i);
      assert.match(asked.at(-1), /last-event-id: \S+\.\d+\.\d+\r\n/i);
    });

    it("says in one line what is wrong", async () => {
      for (const [flags, expected] of [
        [["kick"], /^signalbox-gateway: it names nobody/],
        [["log"], /^signalbox-gateway: say what is to be logged/],
        [["log", "--level", "loud"], /^signalbox-gateway: level is none of/],
        [["tail", "--kinds", "nonsense"], /^signalbox-gateway: "nonsense" is none of connect/],
        [["drain", "nobody"], /^signalbox-gateway: no node has this id or name/],
        [["emit", "disconnect", "--everyone"], /^signalbox-gateway: events cannot have this name/],
      ]) {
        const { code, stderr } = await admin(nodes[0], ...flags);
        assert.equal(code, 1, flags.join(" "));
        assert.match(stderr, expected);
        assert.equal(stderr.trim().split("\n").length, 1);
      }
      const { code, stderr } = await admin({ adminUrl: nodes[0].url }, "nodes");
      assert.deepEqual([code, /is this the management listener/.test(stderr)], [1, true], stderr);
    });
  });
}
