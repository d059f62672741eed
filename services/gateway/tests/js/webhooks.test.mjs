// Webhooks of three gateways on one Redis, and of one without: a receiver that fails, hangs and restarts, and a gateway that is killed.
// Signatures are checked by the library of Standard Webhooks. Starts everything itself; GATEWAY_BIN names the gateway.
import { createServer } from "node:http";
import { once } from "node:events";
import { after, test } from "node:test";
import assert from "node:assert/strict";
import { Webhook } from "standardwebhooks";
import { call } from "./admin/setup.mjs";
import { Redis, freePort, ready, startNode } from "./cluster/setup.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, connected } from "./lib/clients.mjs";
import { startGateway } from "./lib/peer-servers.mjs";
import { until } from "./lib/wait.mjs";

const websocket = { transports: ["websocket"] };
const SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", `whsec_${Buffer.alloc(32, 7).toString("base64")}`];
after(closeAll);

/** An application's server: what it does with a request is `answer`, a function of the response, which tells whether it has taken it. */
class Receiver {
  constructor(port) {
    this.port = port;
  }

  static async start() {
    const receiver = new Receiver(await freePort());
    await receiver.start();
    onEnd(() => receiver.stop());
    return receiver;
  }

  /** Requests, as they came; and what was taken of them, each event once and in the order of its first arrival. */
  requests = [];
  events = [];
  repeated = 0;
  answer = (response) => (response.writeHead(204).end(), true);

  get url() {
    return `http://127.0.0.1:${this.port}/hooks?from=test`;
  }

  async start() {
    this.server = createServer((request, response) => {
      let body = "";
      request.setEncoding("utf8").on("data", (chunk) => (body += chunk));
      request.on("end", () => this.#take(request, body, response));
    }).listen(this.port, "127.0.0.1");
    await once(this.server, "listening");
  }

  async stop() {
    if (!this.server?.listening) return;
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #take(request, body, response) {
    this.requests.push({ id: request.headers["webhook-id"], url: request.url, method: request.method });
    // It throws for what is wrong, or old; and it takes either secret.
    for (const secret of SECRETS) new Webhook(secret).verify(body, request.headers);
    const message = JSON.parse(body);
    assert.equal(message.type, "events");
    assert.ok(!/\./.test(request.headers["webhook-id"]) && message.events.length <= 50);
    if (!this.answer(response)) return;
    for (const event of message.events) {
      if (this.events.some(({ id }) => id === event.id)) this.repeated += 1;
      else this.events.push(event);
    }
  }

  of(values) {
    return this.events.filter((event) => Object.entries(values).every(([name, value]) => event[name] === value));
  }

  heard(values, count = 1) {
    return until(() => this.of(values).length >= count, `${count} of ${JSON.stringify(values)}`).catch((error) => {
      throw new Error(`${error.message}; received: ${JSON.stringify(this.events.slice(-20))}`);
    });
  }
}

const flags = (receiver) => [
  "--webhook-url", receiver.url, "--webhook-secret", SECRETS.join(","), "--webhook-timeout", "1000", "--webhook-batch", "50",
];

/** What a client does, in order, as its events should be. */
async function live(node, rooms) {
  const socket = await connected(node.url, websocket);
  const expected = ["connect"];
  for (let number = 0; number < rooms; number++) {
    await ask(socket, "join", `room ${number}`, {});
    await ask(socket, "leave", `room ${number}`);
    expected.push(`join room ${number}`, `leave room ${number}`);
  }
  return { socket, id: socket.id, expected };
}

const told = (receiver, { id }) => receiver.of({ socket: id }).map(({ kind, room }) => (room ? `${kind} ${room}` : kind));

test("every event comes at least once and in order, whatever the receiver does and whichever gateway is killed", async () => {
  const receiver = await Receiver.start();
  const redis = await Redis.start();
  const nodes = await Promise.all(["one", "two", "three"].map((name) => startNode(redis, ["--node-id", name, ...flags(receiver)])));
  await Promise.all(nodes.map(ready));

  const first = await live(nodes[0], 5);
  await until(() => told(receiver, first).length === first.expected.length, "all that one client does is told");
  assert.deepEqual(told(receiver, first), first.expected);
  // Each node sees the others come; that is told once.
  await receiver.heard({ kind: "node-up" }, 3);

  // It fails, in all the ways that there are, and sends somewhere else.
  const ways = [
    (response) => (response.writeHead(500).end(), false),
    (response) => (response.writeHead(302, { location: "http://127.0.0.1:9/elsewhere" }).end(), false),
    // It takes it, and nobody knows.
    (response) => (response.socket.destroy(), true),
  ];
  let turn = 0;
  receiver.answer = (response) => (turn < ways.length ? ways[turn++](response) : (response.writeHead(200).end("thanks"), true));
  const second = await live(nodes[1], 10);
  await until(() => told(receiver, second).length === second.expected.length, "all of it comes after the failures");
  assert.deepEqual(told(receiver, second), second.expected);
  assert.ok(turn === ways.length && receiver.requests.every(({ url, method }) => url === "/hooks?from=test" && method === "POST"));

  // It hangs, and is gone; meanwhile each of the gateways that wrote something, and the one that sends, is killed.
  receiver.answer = () => false;
  const crowd = await Promise.all(nodes.map((node) => live(node, 20)));
  for (const { socket, expected } of crowd) {
    socket.disconnect();
    expected.push("disconnect");
  }
  // What is in Redis by now is not lost.
  const length = async () => {
    const metrics = (await call(nodes[2], "GET", "/metrics")).body;
    return Number(/^signalbox_webhook_events_waiting (\d+)/m.exec(metrics)[1]);
  };
  await until(async () => (await length()) >= 3 * 42, "all of it waits in Redis");
  await receiver.stop();
  nodes[0].signal("SIGKILL");
  nodes[1].signal("SIGKILL");
  await Promise.all([nodes[0].exited, nodes[1].exited]);
  receiver.answer = (response) => (response.writeHead(204).end(), true);
  await receiver.start();
  for (const one of crowd) {
    await until(() => told(receiver, one).length >= one.expected.length, "all of it comes from the one that is left");
    assert.deepEqual(told(receiver, one), one.expected);
  }
  await receiver.heard({ kind: "node-down" }, 2);
  assert.deepEqual(receiver.of({ kind: "node-down" }).map(({ nodeName }) => nodeName).sort(), ["one", "two"]);
  await until(async () => (await length()) === 0, "nothing waits");

  // Redis goes and comes back; what happened meanwhile is told.
  await redis.stop();
  const meanwhile = await connected(nodes[2].url, websocket);
  const { id } = meanwhile;
  meanwhile.disconnect();
  await redis.start();
  await receiver.heard({ kind: "disconnect", socket: id });
  assert.deepEqual(told(receiver, { id }), ["connect", "disconnect"]);

  // One that is told to end writes what its clients' ends are.
  const last = await startNode(redis, ["--drain-delay", "0", "--drain-timeout", "1500", ...flags(receiver)]);
  await ready(last);
  const { id: sent } = await connected(last.url, websocket);
  last.signal("SIGTERM");
  assert.equal((await last.exited).code, 0);
  await receiver.heard({ kind: "disconnect", socket: sent, reason: "server shutting down" });
  assert.ok(receiver.repeated > 0, "what nobody knew to be taken came again");
});

test("a gateway alone keeps them in memory, within its bound, and says what it dropped", async () => {
  const receiver = await Receiver.start();
  receiver.answer = () => false;
  const node = await startGateway(["--workers", "1", "--joins-per-second", "off", "--events-per-second", "off", "--webhook-buffer", "4000", ...flags(receiver)]);
  onEnd(() => node.stop());
  const one = await live(node, 40);
  assert.ok(node.output.some((line) => /webhooks wait in memory/.test(line)));
  // One client has one lane, an eighth of the buffer; 10,000 events more wait to be written.
  const busy = await connected(node.url, websocket);
  for (let round = 0; round < 60; round++) {
    const joins = Array.from({ length: 100 }, (_, number) => ask(busy, "join", `busy ${number}`, {}));
    const leaves = Array.from({ length: 100 }, (_, number) => ask(busy, "leave", `busy ${number}`));
    await Promise.all([...joins, ...leaves]);
  }
  receiver.answer = (response) => (response.writeHead(204).end(), true);
  await receiver.heard({ kind: "dropped" });
  await until(() => told(receiver, one).length === one.expected.length, "what was within the bound comes");
  assert.deepEqual(told(receiver, one), one.expected);
  const [{ count, reason }] = receiver.of({ kind: "dropped" });
  assert.equal(reason, "queue");
  const counted = async () => Number(/^signalbox_webhook_events_dropped_total (\d+)/m.exec((await call(node, "GET", "/metrics")).body)[1]);
  const said = () => receiver.of({ kind: "dropped" }).reduce((sum, event) => sum + event.count, 0);
  await until(async () => (await counted()) === said(), "all that was dropped is told");
  assert.ok(count > 0);
});
