// The connections between nodes are cut again and again, while every second request of each client goes over them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, test } from "node:test";
import { Redis, balance, freePorts, ready, startNode } from "./cluster/setup.mjs";
import { closeAll } from "./lib/cleanup.mjs";
import { ask, connected } from "./lib/clients.mjs";
import { until } from "./lib/wait.mjs";

const CLIENTS = 20;
const TALK_MS = 15_000;
const CUT_EVERY_MS = 150;

after(closeAll);

/** Has the kernel reset what is connected to this port (`ss` of iproute2, as root). Whether something was. */
const cut = (port) => execFileSync("ss", ["-H", "-n", "-K", "dst", "127.0.0.1", "dport", "=", port], { stdio: ["ignore", "pipe", "ignore"] }).length > 0;

test("clients that poll through another node notice nothing of a link that breaks", { timeout: 60_000 }, async () => {
  const redis = await Redis.start();
  const links = await freePorts(2);
  const nodes = await Promise.all(links.map((link) => startNode(redis, ["--cluster-addr", `127.0.0.1:${link}`])));
  await Promise.all(nodes.map((node) => ready(node)));
  const url = await balance(nodes);
  const members = await Promise.all(Array.from({ length: CLIENTS }, async () => {
    const socket = await connected(url, { transports: ["polling"] });
    const member = { socket, heard: 0, closed: [] };
    socket.on("message", () => (member.heard += 1));
    socket.on("disconnect", (reason) => member.closed.push(reason));
    await ask(socket, "join", "room");
    return member;
  }));

  let cuts = 0;
  const cutting = setInterval(() => (cuts += links.filter((link) => cut(String(link))).length), CUT_EVERY_MS);
  const end = Date.now() + TALK_MS;
  const sent = await Promise.all(members.map(async ({ socket }) => {
    let said = 0;
    for (; Date.now() < end; said += 1) assert.deepEqual(await ask(socket, "message", "room", said), { ok: true });
    return said;
  }));
  clearInterval(cutting);
  const all = sent.reduce((sum, said) => sum + said, 0);
  const expected = (index) => all - sent[index];
  await until(() => members.every(({ heard }, index) => heard >= expected(index)), "everything is heard");
  console.log(`${cuts} cuts, ${all} messages`);
  assert.ok(cuts > 50, `${cuts} cuts`);
  for (const [index, { heard, closed }] of members.entries()) {
    assert.equal(heard, expected(index), "once");
    assert.deepEqual(closed, []);
  }
  for (const { socket } of members) socket.disconnect();
});
