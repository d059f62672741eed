// Nodes of two builds in one cluster: what crosses from one to the other, each way, while everybody talks.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import net from "node:net";
import { once } from "node:events";
import { test } from "node:test";
import { onEnd } from "../lib/cleanup.mjs";
import { connected, ask } from "../lib/clients.mjs";
import { PollingSession, split } from "../lib/polling.mjs";
import { upgradeWhileTalking } from "../lib/upgrading.mjs";
import { until } from "../lib/wait.mjs";
import { metric, sessionTransfers } from "./setup.mjs";
import { Traffic } from "./traffic.mjs";

/** The gateway of the previous format. */
export const PREVIOUS = process.env.PREVIOUS_BIN;
if (!PREVIOUS || !existsSync(PREVIOUS)) throw new Error(`PREVIOUS_BIN: ${PREVIOUS} is missing (cargo xtask prepare)`);

const CLIENTS = 12;
const MESSAGES = 40;
const SESSIONS = 6;
/** Less than a message may have. */
const LARGE = 900_000;

/** `nodes` are of the previous and of the present build in turns. */
export function mixed([previous, present, ...others]) {
  const nodes = [previous, present, ...others];
  const ways = [["from the previous format to the present one", previous, present], ["from the present format to the previous one", present, previous]];
  let traffic;

  /** Whatever `crosses` does, nothing of what everybody else says meanwhile is lost, doubled or reordered, and nobody is dropped. */
  async function underTraffic(crosses) {
    traffic ??= await Traffic.start(nodes, ["mixed one", "mixed two"]);
    const { lost, letters, expired, degraded } = await traffic.through(crosses);
    assert.deepEqual({ lost, letters, expired, degraded }, { lost: 0, letters: 0, expired: 0, degraded: 0 });
  }

  for (const [way, from, to] of ways) {
    test(`sessions move ${way}`, () => underTraffic(async () => {
      const crossing = await Crossing.start(from, to);
      const before = await sessionTransfers(to);
      for (const anchor of [from, to]) await upgradeWhileTalking(crossing.url, { clients: CLIENTS, messages: MESSAGES, anchorUrl: anchor.url });
      assert.equal((await sessionTransfers(to)) - before, 2 * CLIENTS, "every session has moved");
      await crossing.stop();
    }));

    test(`requests are relayed ${way}`, () => underTraffic(async () => {
      const room = `relayed ${way}`;
      const anchors = await Promise.all([from, to].map((node) => Talker.connect(node, room)));
      const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => Relayed.open(from, to, room)));
      const before = await metric(to, "signalbox_relayed_requests_total");
      await Promise.all([...anchors, ...sessions].map((one) => one.talk()));
      assert.ok((await metric(to, "signalbox_relayed_requests_total")) - before >= SESSIONS * MESSAGES, "they were relayed");
      const all = [...anchors, ...sessions];
      for (const one of all) {
        await until(() => all.every((other) => other === one || one.from(other).length >= MESSAGES + 1), "everything is heard");
        for (const other of all.filter((other) => other !== one)) {
          assert.deepEqual(one.from(other), [...Array(MESSAGES).keys(), LARGE], "all, once and in order");
        }
      }
      await Promise.all(all.map((one) => one.end()));
    }));
  }
}

/** What was heard in a room, by whom it came from; of large messages, their length. */
class Hearing {
  heard = new Map();

  hears(data, { from }) {
    this.heard.set(from, [...(this.heard.get(from) ?? []), data.length ?? data]);
  }

  from({ id }) {
    return this.heard.get(id) ?? [];
  }

  /** Says everything, the last of it large; resolves once all is acknowledged. */
  async talk() {
    for (const data of [...Array(MESSAGES).keys(), "x".repeat(LARGE)]) assert.deepEqual(await this.say(data), { ok: true });
  }
}

/** Somebody with a WebSocket. */
class Talker extends Hearing {
  static async connect(node, room) {
    const one = new Talker();
    one.room = room;
    one.socket = await connected(node.url, { transports: ["websocket"] });
    one.id = one.socket.id;
    one.socket.on("message", (...args) => one.hears(...args));
    assert.equal((await ask(one.socket, "join", room)).ok, true);
    return one;
  }

  say(data) {
    return ask(this.socket, "message", this.room, data);
  }

  end() {
    assert.ok(this.socket.connected, "it was not dropped");
    this.socket.disconnect();
  }
}

/** A session that one node has and that only polls, through another. */
class Relayed extends Hearing {
  acks = new Map();
  requests = 0;

  static async open(home, other, room) {
    const one = new Relayed();
    one.room = room;
    one.session = await PollingSession.open(home.url);
    one.session.base = other.url;
    await one.session.post("40");
    const connected = await one.session.poll((packet) => packet.startsWith("40{"), "the CONNECT reply");
    one.id = JSON.parse(connected.slice(2)).sid;
    one.polling = one.poll();
    assert.equal((await one.emit("join", room)).ok, true);
    return one;
  }

  async poll() {
    while (!this.isOver) {
      const { status, body } = await this.session.get();
      if (this.isOver) return;
      assert.equal(status, 200, body);
      for (const packet of split(body)) await this.takes(packet);
    }
  }

  async takes(packet) {
    if (packet === "2") return this.session.post("3");
    const [, number, reply] = /^43(\d+)(.*)$/s.exec(packet) ?? [];
    if (number) return this.acks.get(Number(number))(JSON.parse(reply)[0]);
    const [event, ...args] = packet.startsWith("42") ? JSON.parse(packet.slice(2)) : [packet];
    if (event === "message") this.hears(...args);
    else assert.ok(["joined", "left", "6"].includes(event), packet.slice(0, 100));
  }

  async emit(...event) {
    const number = (this.requests += 1);
    const answer = new Promise((resolve) => this.acks.set(number, resolve));
    const { body } = await this.session.post(`42${number}${JSON.stringify(event)}`);
    assert.equal(body, "ok");
    return Promise.race([answer, this.polling]);
  }

  say(data) {
    return this.emit("message", this.room, data);
  }

  async end() {
    this.isOver = true;
    await this.session.post("1");
    await this.polling;
  }
}

/** Requests go to one node, WebSockets to another: a session that is opened here moves from the first to the second. */
class Crossing {
  static async start(from, to) {
    const crossing = new Crossing();
    const sockets = new Set();
    crossing.server = net.createServer((client) => {
      client.once("data", (first) => {
        const { hostname, port } = new URL(first.includes("transport=websocket") ? to.url : from.url);
        const node = net.connect(Number(port), hostname);
        for (const [one, other] of [[client, node], [node, client]]) {
          sockets.add(one);
          one.on("error", () => {});
          one.on("close", () => sockets.delete(one) && other.destroy());
        }
        node.write(first);
        client.pipe(node).pipe(client);
      });
    });
    await once(crossing.server.listen(0, "127.0.0.1"), "listening");
    crossing.url = `http://127.0.0.1:${crossing.server.address().port}`;
    crossing.stop = async () => {
      forget();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => crossing.server.close(resolve));
    };
    const forget = onEnd(crossing.stop);
    return crossing;
  }
}
