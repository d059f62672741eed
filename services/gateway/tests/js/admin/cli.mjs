// The command line, as an operator uses it.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { freePort, program } from "../cluster/setup.mjs";
import { onEnd } from "../lib/cleanup.mjs";
import { ask, connected, record } from "../lib/clients.mjs";
import { startGateway } from "../lib/peer-servers.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { call } from "./setup.mjs";

const websocket = { transports: ["websocket"] };

/** Runs `signalbox-gateway admin ...` against a node; the exit code, what it says, and what it complains about. */
async function admin(node, ...flags) {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.env.GATEWAY_BIN, ["admin", ...flags, "--url", node.adminUrl]);
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
      const port = await freePort();
      const flags = ["--workers", "1", "--admin-port", `${port}`];
      const first = await startGateway(flags);
      onEnd(() => first.stop());
      const events = [];
      let complaints = "";
      const { child } = program(process.env.GATEWAY_BIN, ["admin", "tail", "--kinds", "connect", "--json", "--url", first.adminUrl], {
        stdio: ["ignore", "pipe", "pipe"],
      });
      onEnd(() => child.kill("SIGKILL"));
      createInterface({ input: child.stdout }).on("line", (line) => events.push(JSON.parse(line)));
      child.stderr.on("data", (text) => (complaints += text));
      const metric = async () => (await call({ adminUrl: `http://127.0.0.1:${port}` }, "GET", "/metrics")).body;
      await until(async () => /^signalbox_event_listeners 1$/m.test(await metric()), "it listens");
      const socket = await connected(first.url, websocket);
      await until(() => events.some((event) => event.socket === socket.id), "the event is written");
      await first.stop();
      const second = await startGateway(flags);
      onEnd(() => second.stop());
      await until(() => events.some(({ kind }) => kind === "resync"), "it listens again");
      const other = await connected(second.url, websocket);
      await until(() => events.some((event) => event.socket === other.id), "the event of the other node is written");
      assert.match(complaints, /the connection is lost\nsignalbox-gateway: listening again/);
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
