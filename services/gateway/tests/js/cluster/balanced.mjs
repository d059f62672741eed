// Clients behind a load balancer that knows nothing of sessions: every request goes to the next node.
import assert from "node:assert/strict";
import { test } from "node:test";
import { call, get } from "../admin/setup.mjs";
import { ask, client, record } from "../lib/clients.mjs";
import { request } from "../lib/http.mjs";
import { upgradeWhileTalking } from "../lib/upgrading.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { balance, metric, sessionTransfers, startNodes } from "./setup.mjs";

const CLIENTS = Number(process.env.BALANCED ?? 60);
const ROOMS = 6;
const MESSAGES = 12;

export function balanced(redis, nodes) {
  for (const [name, transports] of [["clients as they come, that upgrade meanwhile", undefined], ["clients that only poll", ["polling"]]]) {
    test(`without stickiness: ${name}`, async () => {
      const url = await balance(nodes);
      const crowd = await Promise.all(Array.from({ length: CLIENTS }, (_, number) => enter(url, number, transports)));
      const calm = () => assert.deepEqual(crowd.flatMap(({ number, trouble }) => trouble.map((what) => `${number}: ${what}`)), []);
      for (const room of Array.from({ length: ROOMS }, (_, number) => crowd.filter((one) => one.number % ROOMS === number))) {
        const others = (one) => room.filter((other) => other !== one).map(({ id }) => id).sort();
        await until(() => calm() ?? room.every((one) => [...one.known].sort().join() === others(one).join()), "everybody knows everybody").catch((error) => {
          const unknown = (one) => others(one).filter((id) => !one.known.has(id));
          const strangers = (one) => [...one.known].filter((id) => !others(one).includes(id));
          throw new Error(`${error.message}: ${JSON.stringify(room.map((one) => [one.number, one.id, unknown(one), strangers(one)]).filter((told) => told[2].length + told[3].length > 0))}`);
        });
      }

      await Promise.all(crowd.map(async (one) => {
        for (let n = 0; n < MESSAGES; n += 1) {
          assert.deepEqual(await ask(one.socket, "message", one.room, n), { ok: true });
        }
      }));
      // Rooms may differ by one.
      for (const one of crowd) one.expected = (crowd.filter(({ room }) => room === one.room).length - 1) * MESSAGES;
      if (transports === undefined) await settled(nodes, crowd);
      await until(() => calm() ?? crowd.every((one) => one.heard.length >= one.expected), "everybody has heard everything");
      for (const one of crowd) {
        assert.equal(one.heard.length, one.expected, "nothing is heard twice");
        assert.deepEqual(one.trouble, [], "no request was refused, no connection broke");
        const bySender = Map.groupBy ? Map.groupBy(one.heard, ([from]) => from) : grouped(one.heard);
        for (const messages of bySender.values()) {
          assert.deepEqual(messages.map(([, n]) => n), Array.from({ length: MESSAGES }, (_, n) => n), "in order");
        }
      }
      for (const { socket } of crowd) socket.disconnect();
    });
  }

  upgrading(nodes);

  test("without stickiness: what may be sent to one node may be sent to any", async () => {
    const [home, other] = await startNodes(redis, 2, ["--redis-prefix", "large", "--max-payload", "20000000"]);
    const polling = "/socket.io/?EIO=4&transport=polling";
    const { sid } = JSON.parse((await (await fetch(home.url + polling)).text()).slice(1));
    for (const body of ["40", `42["message","room","${"x".repeat(18_000_000)}"]`]) {
      const answer = await fetch(`${other.url}${polling}&sid=${sid}`, { method: "POST", body });
      assert.equal(await answer.text(), "ok");
    }
    await Promise.all([home.stop(), other.stop()]);
  });

  test("a session of a node that nobody knows is unknown, and costs little", async () => {
    const { status, body } = await request(nodes[0].url, "GET", "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA");
    assert.equal(status, 400);
    assert.equal(body, '{"code":1,"message":"Session ID unknown"}');
  });
}

/** Sessions that move from node to node while their clients talk. */
export function upgrading(nodes) {
  test("without stickiness: clients that upgrade while they join and send lose nothing, and end where their WebSocket is", async () => {
    const url = await balance(nodes);
    const moved = async () => (await Promise.all(nodes.map(sessionTransfers))).reduce((a, b) => a + b);
    const before = await moved();
    await upgradeWhileTalking(url, { anchorUrl: nodes[0].url });
    assert.ok((await moved()) > before, "sessions have moved");
  });

  test("without stickiness: who has moved is on a WebSocket there: it is counted, gets volatile events, and is closed at once", async (context) => {
    const answers = await Promise.all(nodes.map((node) => call(node, "GET", "/admin/v1/cluster")));
    if (answers.some(({ status }) => status !== 200)) return context.skip("nodes of the previous version cannot be asked");
    const url = await balance(nodes);
    const counts = async () => {
      const { websocketClients, pollingClients } = await get(nodes[0], "cluster");
      return [websocketClients, pollingClients];
    };
    const before = await counts();
    const crowd = Array.from({ length: 20 }, () => client(url));
    await until(() => crowd.every(({ connected, io }) => connected && io.engine.transport.name === "websocket"), "every upgrade");
    await until(async () => (await counts()).join() === [before[0] + crowd.length, before[1]].join(), "they are counted");
    const heard = crowd.map((socket) => record(socket, "volatile"));
    const to = { sockets: crowd.map(({ id }) => id) };
    await call(nodes[1], "POST", "/admin/v1/emit", { body: { to, event: "volatile", volatile: true } });
    await until(() => heard.every((list) => list.length === 1), "they have the event");
    const gone = Promise.all(crowd.map((socket) => nextEvent(socket, "disconnect")));
    const { body } = await call(nodes[2], "POST", "/admin/v1/disconnect", { body: { to, close: true } });
    assert.deepEqual([body.matched, body.done], [crowd.length, crowd.length]);
    await gone;
    await until(async () => (await counts()).join() === before.join(), "they are gone");
  });

  test("without stickiness: who has moved is a user until it goes, whatever it said just before", async () => {
    const url = await balance(nodes);
    const asker = client(nodes[0].url, { transports: ["websocket"] });
    await nextEvent(asker, "connect");
    const crowd = Array.from({ length: 20 }, () => client(url));
    const said = crowd.map(async (socket) => {
      await nextEvent(socket, "connect");
      for (let n = 0; socket.io.engine.transport.name !== "websocket"; n += 1) await ask(socket, "join", "moving users", { n });
    });
    await Promise.all(said);
    await until(() => crowd.every(({ connected, io }) => connected && io.engine.transport.name === "websocket"), "every upgrade");
    const ids = crowd.map(({ id }) => id);
    const listed = async () => (await ask(asker, "users")).users.filter(({ id }) => ids.includes(id)).length;
    await until(async () => (await listed()) === crowd.length, "all are on the list");
    for (const socket of crowd) socket.disconnect();
    await until(async () => (await listed()) === 0, "nobody is on the list");
    asker.disconnect();
  });
}

/** Every session is where its WebSocket is: what clients say from now on is no other node's affair. */
async function settled(nodes, crowd) {
  await until(() => crowd.every(({ socket }) => socket.io.engine.transport.name === "websocket"), "every upgrade");
  const relayed = () => Promise.all(nodes.map((node) => metric(node, "signalbox_relayed_requests_total")));
  const before = await relayed();
  await Promise.all(crowd.map(({ socket }) => ask(socket, "users")));
  assert.deepEqual(await relayed(), before, "nothing is relayed any more");
}

async function enter(url, number, transports) {
  const socket = client(url, transports ? { transports } : {});
  const one = { number, socket, room: `balanced ${number % ROOMS}`, known: new Set(), heard: [], trouble: [] };
  socket.on("connect_error", (error) => one.trouble.push(`connect_error: ${error.message}`));
  socket.on("disconnect", (reason) => reason !== "io client disconnect" && one.trouble.push(`disconnect: ${reason}`));
  socket.on("joined", ({ id }) => one.known.add(id));
  // The crowd of the test before may still be leaving.
  socket.on("left", ({ id }) => one.known.delete(id) || one.trouble.push(`left without having been there: ${id}`));
  socket.on("message", (n, { from }) => one.heard.push([from, n]));
  await nextEvent(socket, "connect");
  one.id = socket.id;
  const { members } = await ask(socket, "join", one.room);
  members.forEach(({ id }) => one.known.add(id));
  return one;
}

function grouped(heard) {
  const groups = new Map();
  for (const entry of heard) groups.set(entry[0], [...(groups.get(entry[0]) ?? []), entry]);
  return groups;
}
