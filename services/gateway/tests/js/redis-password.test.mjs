// The password of Redis is changed under a running cluster, which does not notice; and what cannot change without a restart is said in the
// log. Starts everything itself; GATEWAY_BIN names the gateway.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { ready, Redis } from "./cluster/setup.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, connected } from "./lib/clients.mjs";
import { startGateway } from "./lib/peer-servers.mjs";
import { nextEvent, until } from "./lib/wait.mjs";
import { request } from "./lib/http.mjs";

after(closeAll);

const WEBSOCKET = { transports: ["websocket"] };
const folder = await mkdtemp(path.join(tmpdir(), "signalbox-redis-"));
onEnd(() => rm(folder, { recursive: true, force: true }));
const [urlFile, secretFile] = ["url", "secret"].map((name) => path.join(folder, name));
const redis = await Redis.start();
const url = (password, port = redis.port) => `redis://node:${password}@127.0.0.1:${port}\n`;

async function user(...rules) {
  assert.match(await redis.ask(["ACL", "SETUSER", "node", ...rules]), /^\+OK/);
}

/** What the application was told by webhooks, as one text. They wait in Redis too, on connections of their own. */
let told = "";
const application = createServer((request, response) => {
  request.on("data", (chunk) => (told += chunk));
  request.on("end", () => response.writeHead(204).end());
}).listen(0, "127.0.0.1");
await once(application, "listening");
onEnd(() => application.close());
const WEBHOOKS = [
  "--webhook-url", `http://127.0.0.1:${application.address().port}/`, "--webhook-secret", `whsec_${Buffer.alloc(32, 7).toString("base64")}`,
];

async function node() {
  const server = await startGateway(["--workers", "1", "--redis-url-file", urlFile, "--cluster-secret-file", secretFile, ...WEBHOOKS]);
  onEnd(() => server.stop());
  await ready(server);
  return server;
}

/** Has nodes read their files again, until each has said this. */
async function hangUp(nodes, said) {
  const before = nodes.map(({ output }) => output.length);
  nodes.forEach((server) => server.signal("SIGHUP"));
  await Promise.all(nodes.map(({ output }, index) => until(() => output.slice(before[index]).some((line) => line.includes(said)), said)));
}

async function sample(server, name) {
  const { body } = await request(server.adminUrl, "GET", "/metrics");
  return Number(body.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ").at(-1));
}

test("the password of Redis changes on SIGHUP, without a gap", async () => {
  await user("on", ">old", "~*", "&*", "+@all");
  await writeFile(urlFile, url("old"));
  await writeFile(secretFile, "a secret that nodes share\n");
  const nodes = [await node(), await node()];
  const [ann, bob] = await Promise.all(nodes.map((server) => connected(server.url, WEBSOCKET)));
  for (const socket of [ann, bob]) assert.equal((await ask(socket, "join", "room")).ok, true);
  let number = 0;
  const talk = async (patience) => {
    const heard = nextEvent(bob, "message", patience);
    // If the ack says already that it was not published.
    heard.catch(() => {});
    assert.deepEqual(await ask(ann, "message", "room", ++number), { ok: true });
    assert.equal((await heard)[0], number);
  };
  // What was published while nobody was subscribed is lost.
  const arrives = () => until(() => talk(500).then(() => true, () => false), "messages arrive");
  await talk();

  // Both passwords count while the nodes change.
  await user(">new");
  await writeFile(urlFile, url("new"));
  await hangUp(nodes, "user and password of --redis-url-file were read again");
  await user("<old");
  await talk();
  assert.deepEqual(await Promise.all(nodes.map((server) => sample(server, 'signalbox_cluster_events_total{event="degraded_no_answer"}'))), [0, 0]);

  // Every connection has to be opened again, and is.
  assert.match(await redis.ask("CLIENT KILL USER node"), /^:\d+/);
  await until(async () => /user=node/.test(await redis.ask("CLIENT LIST")), "they are back");
  await until(async () => {
    const degraded = await Promise.all(nodes.map((server) => sample(server, "signalbox_degraded")));
    return degraded.every((state) => state === 0);
  }, "the nodes are one cluster");
  await arrives();
  for (const [index, socket] of [ann, bob].entries()) {
    assert.equal((await ask(socket, "join", `afterwards-${index}`)).ok, true);
    await until(() => told.includes(`afterwards-${index}`), "webhooks are sent");
  }
  // Those that are seldom needed come back when they are.
  const ofNodes = async () => (await redis.ask("CLIENT LIST")).split("\n").filter((line) => line.includes("user=node"));
  await until(async () => (await ofNodes()).length >= 4, "all of them are");

  // A node that is started has the new one too.
  await node();

  // Another Redis is for a restart, and nonsense is for nobody; neither is shown.
  await writeFile(urlFile, url("hunter2", 1));
  await hangUp(nodes, "restart the node for another Redis");
  await writeFile(urlFile, "hunter2\n");
  await hangUp(nodes, "--redis-url-file cannot be used");
  await rm(urlFile);
  await hangUp(nodes, "--redis-url-file cannot be used");
  await writeFile(secretFile, "hunter2 is another secret\n");
  await hangUp(nodes, "--cluster-secret-file has changed, and the secret in use stays");
  await arrives();
  assert.ok(nodes.every(({ output }) => output.every((line) => !line.includes("hunter2"))));
});
