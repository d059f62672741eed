// Clients on all nodes that talk, come and go all the time, and what must be true of them whatever happens to Redis meanwhile.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { ask, connected } from "../lib/clients.mjs";
import { until } from "../lib/wait.mjs";
import { peer } from "./members.mjs";
import { health } from "./setup.mjs";

/** Everybody says something so often, a part of them at a time. */
const TALK_MS = 100;
const TURNS = 10;
/** How long somebody who comes and goes stays. */
const STAY_MS = 150;
/** Traffic before a fault. */
const CALM_MS = 700;
/** What was said shortly before a fault may have been on its way; on a busy machine that takes a while. */
const ON_ITS_WAY_MS = 500;
/** So soon after Redis is back everything is as it was. */
const WHOLE_MS = 2_000;
/** Three times as long as a failover should take, with what nodes do after it. */
const PATIENCE_MS = 20_000;

const options = { transports: ["websocket"] };
const now = () => performance.now();

/** Everything that is said from one to another, of messages or letters. */
class Talk {
  said = [];
  /** Numbers heard, by whom they came from. */
  heard = new Map();

  hears(from, number, strange) {
    const numbers = this.heard.get(from) ?? [];
    this.heard.set(from, numbers);
    if (numbers.includes(number)) strange.push(`heard ${number} of ${from} twice`);
    if (this.isInOrder && number < numbers.at(-1)) strange.push(`heard ${number} of ${from} after ${numbers.at(-1)}`);
    numbers.push(number);
  }

  /** What was said since then and not heard by another. */
  missedBy(other, name, since) {
    const heard = new Set(other.heard.get(name));
    return this.said.filter(({ at, number, ok }) => at >= since && ok && !heard.has(number));
  }
}

/** A client in one room at most. What it knows of the others comes from what it was told there alone. */
class Client extends Talk {
  isInOrder = true;
  closed = false;
  strange = [];

  static async connect(traffic, node) {
    return new Client(traffic, node, await connected(node.url, options));
  }

  constructor(traffic, node, socket) {
    super();
    Object.assign(this, { traffic, node, socket });
    socket.on("disconnect", (reason) => (this.closed ||= reason));
    socket.on("joined", this.told((id, name) => {
      if (this.view.has(id)) this.strange.push(`joined again: ${name}`);
      this.view.set(id, name);
    }));
    socket.on("updated", this.told((id, name) => {
      if (!this.view.has(id)) this.strange.push(`updated without having been there: ${name}`);
      this.view.set(id, name);
    }));
    socket.on("left", this.told((id, name) => {
      if (!this.view.delete(id)) this.strange.push(`left without having been there: ${name}`);
      if (traffic.there.has(name)) this.strange.push(`left and is there: ${name}`);
    }));
    socket.on("message", (number, { room, from }) => room === this.room && this.hears(from, number, this.strange));
  }

  /** What is heard before the answer to a join is in it; what is heard behind a request to leave does not matter. */
  told(note) {
    return ({ id, room, name }) => room === this.room && this.view !== undefined && note(id, name);
  }

  /** Joins under a name that nobody had before. */
  async join(room, name) {
    Object.assign(this, { room, name });
    this.traffic.there.set(name, this);
    const reply = await new Promise((resolve) => this.socket.emit("join", room, { name }, (reply) => {
      this.view = new Map(reply.members?.map(({ id, name }) => [id, name]));
      resolve(reply);
    }));
    assert.equal(reply.ok, true, `${name} joins: ${JSON.stringify(reply)}`);
  }

  forget() {
    this.traffic.there.delete(this.name);
    this.view = this.room = undefined;
  }

  async leave() {
    const { room } = this;
    this.forget();
    assert.deepEqual(await ask(this.socket, "leave", room), { ok: true, room });
  }

  talk() {
    const entry = { number: this.said.length, at: now() };
    this.said.push(entry);
    this.socket.emit("message", this.room, entry.number, (reply) => {
      entry.ok = reply.ok === true;
      entry.answer = reply.error;
      // Without Redis only the members on the same node get it, and the sender is told.
      if (!entry.ok && reply.error !== "degraded") this.strange.push(`refused: ${JSON.stringify(reply)}`);
    });
    return entry;
  }
}

/** A PeerServer client that sends letters to another. One that could not be sent waits, and may be overtaken when Redis is back. */
class Peer extends Talk {
  isInOrder = false;
  strange = [];
  expired = 0;

  static async claim(node, id) {
    const { socket, answer } = await peer(node, id);
    assert.equal(answer, "OPEN");
    return new Peer(node, id, socket);
  }

  constructor(node, id, socket) {
    super();
    Object.assign(this, { node, id, socket });
    let seen = socket.messages.length;
    socket.changes.on("change", () => {
      for (const { text } of socket.events.slice(seen)) {
        seen += 1;
        const { type, src, payload } = JSON.parse(text);
        if (type === "OFFER") this.hears(src, payload.number, this.strange);
        else if (type === "EXPIRE") this.expired += 1;
        else this.strange.push(text);
      }
    });
  }

  talk() {
    const entry = { number: this.said.length, at: now(), ok: true };
    this.said.push(entry);
    this.socket.send({ type: "OFFER", dst: this.to.id, payload: { number: entry.number } });
    return entry;
  }
}

export class Traffic {
  /** Who is in a room, or about to be, by name. */
  there = new Map();
  names = 0;
  /** Who came and went, and is not there any more. */
  retired = [];
  /** What nodes that were not ready said, and when some were degraded. */
  unready = [];
  degraded = [];
  longestJoin = 0;
  /** Letters that did not arrive. */
  missing = 0;

  /** A member of each room on each node, on one node two, a peer on each node that writes to the next one's, and somebody on each who comes and goes. */
  static async start(nodes, rooms) {
    const traffic = new Traffic();
    Object.assign(traffic, { nodes, rooms });
    traffic.members = await Promise.all(rooms.flatMap((room, number) => [...nodes, nodes[number % nodes.length]].map(async (node, index) => {
      const one = await Client.connect(traffic, node);
      await one.join(room, `${room} ${index}`);
      return one;
    })));
    traffic.peers = await Promise.all(nodes.map((node, index) => Peer.claim(node, `peer${index}`)));
    traffic.peers.forEach((one, index) => (one.to = traffic.peers[(index + 1) % nodes.length]));
    traffic.passers = await Promise.all(nodes.map((node) => Client.connect(traffic, node)));
    await traffic.complete();
    return traffic;
  }

  /** Everybody, in the rooms that they are in. */
  get everybody() {
    return [...this.members, ...this.passers];
  }

  /** Until the view of everybody who is in a room is the truth. */
  async complete() {
    const wrong = () => this.everybody.filter((one) => one.room !== undefined).filter((one) => {
      const others = [...this.there.values()].filter((other) => other !== one && other.room === one.room);
      return others.length !== one.view.size || others.some((other) => one.view.get(other.socket.id) !== other.name);
    });
    await until(() => wrong().length === 0, "everybody knows who is there", PATIENCE_MS).catch((error) => {
      const views = wrong().map(({ name, view }) => `${name} sees ${[...view.values()]}`);
      throw new Error(`${error.message}: ${views.join("; ")}`);
    });
  }

  /**
   * `fault` happens under traffic, and returns when Redis should be in order again (and since when it was not, if that was later). Afterwards
   * everything is as it was; what was lost was said meanwhile. Gives back in figures what it cost, in milliseconds.
   */
  async through(fault) {
    const first = now();
    const traffic = this.flow();
    let at, back, over;
    try {
      await pause(CALM_MS);
      const began = now();
      at = (await fault()) ?? began;
      back = now();
      await until(async () => (await Promise.all(this.nodes.map(health))).every(({ degraded }) => !degraded), "all nodes have Redis", PATIENCE_MS);
      over = now();
      await pause(WHOLE_MS + 2 * ON_ITS_WAY_MS);
    } finally {
      await traffic.end();
    }
    const ended = now();
    await this.complete();
    await this.crosses();
    this.isCalm();

    const lost = this.missed(this.members, (one, other) => one.room === other.room, ({ socket }) => socket.id, first);
    const letters = this.missed(this.peers, (one, other) => one.to === other, ({ id }) => id, first);
    const outage = [at - ON_ITS_WAY_MS, over + WHOLE_MS];
    for (const { from, to, said } of [...lost, ...letters]) {
      const what = `${said.number} of ${from.name ?? from.id} to ${to.name ?? to.id}, ${Math.round(said.at - at)} ms after the fault, ${Math.round(said.at - over)} after its end`;
      assert.ok(said.at >= outage[0] && said.at <= outage[1], `lost without a cause: ${what}`);
      assert.notEqual(from.node, to.node, `lost within a node: ${what}`);
    }
    // Nobody is told without a cause that other nodes may not have been told.
    for (const from of this.members) {
      for (const { number, at: saidAt, answer } of from.said) {
        const isExplained = answer !== "degraded" || saidAt < first || (saidAt >= outage[0] && saidAt <= outage[1]);
        assert.ok(isExplained, `${number} of ${from.name}, ${Math.round(saidAt - at)} ms after the fault: degraded without a cause`);
      }
    }
    // Of some letters it is said in the end that they were lost, and that is true.
    this.missing += letters.length;
    const expired = this.peers.reduce((sum, one) => sum + one.expired, 0);
    assert.ok(expired <= this.missing, `${expired} letters expired, ${this.missing} did not arrive`);
    const degraded = this.degraded.filter((moment) => moment >= at && moment <= ended);
    const last = (missed) => Math.round(Math.max(0, ...missed.map(({ said }) => said.at - at)));
    return {
      redisBack: Math.round(back - at),
      nodesBack: Math.round(over - at),
      degraded: degraded.length > 0 ? Math.round(degraded.at(-1) - degraded[0]) : 0,
      lost: lost.length,
      lastLost: last(lost),
      letters: letters.length,
      lastLetter: last(letters),
      expired,
      longestJoin: Math.round(this.longestJoin),
    };
  }

  /** What each said to each and was not heard; everything that was said has been answered. */
  missed(all, hears, name, since) {
    return all.flatMap((from) => all.filter((to) => to !== from && hears(from, to)).flatMap((to) => (
      from.missedBy(to, name(from), since).map((said) => ({ from, to, said }))
    )));
  }

  /** Traffic, until it is ended. */
  flow() {
    let flows = true;
    this.longestJoin = 0;
    const speakers = [...this.members, ...this.peers];
    // Not all at once.
    let turn = 0;
    const timer = setInterval(() => {
      turn += 1;
      speakers.filter((_, index) => index % TURNS === turn % TURNS).forEach((one) => one.talk());
    }, TALK_MS / TURNS);
    const passing = this.passers.map(async (_, index) => {
      for (let round = index; flows; round += 1) await this.pass(index, round);
    });
    const watching = this.nodes.map(async (node) => {
      while (flows) {
        const { code, degraded } = await health(node);
        if (code !== 200) this.unready.push(code);
        if (degraded) this.degraded.push(now());
        await pause(50);
      }
    });
    const end = async () => {
      flows = false;
      clearInterval(timer);
      await Promise.all([...passing, ...watching]);
    };
    return { end };
  }

  /** Somebody who was in one room goes into the next, as somebody new now and then. */
  async pass(index, round) {
    let one = this.passers[index];
    if (one.room !== undefined && round % 4 === 0) {
      this.retired.push(one);
      one.forget();
      one.socket.off("disconnect");
      one.socket.disconnect();
      one = this.passers[index] = await Client.connect(this, one.node);
    } else if (one.room !== undefined) {
      await one.leave();
    }
    const began = now();
    await one.join(this.rooms[round % this.rooms.length], `passer ${index}/${(this.names += 1)}`);
    this.longestJoin = Math.max(this.longestJoin, now() - began);
    await pause(STAY_MS);
  }

  /** What everybody says now is heard by all, at the first try. */
  async crosses() {
    await until(() => this.members.every(({ said }) => said.every(({ ok }) => ok !== undefined)), "everything is answered");
    const last = new Map([...this.members, ...this.peers].map((one) => [one, one.talk().number]));
    for (const from of this.members) {
      for (const to of this.members.filter((to) => to !== from && to.room === from.room)) {
        await until(() => to.heard.get(from.socket.id)?.at(-1) === last.get(from), `${to.name} hears ${from.name}`);
      }
    }
    for (const from of this.peers) await until(() => from.to.heard.get(from.id)?.includes(last.get(from)), `${from.to.id} hears ${from.id}`);
    for (const [index, from] of this.members.entries()) {
      const to = this.members[(index + 1) % this.members.length];
      assert.deepEqual(await ask(from.socket, "signal", to.socket.id, "x"), { ok: true }, `${from.name} reaches ${to.name}`);
    }
    const ids = this.everybody.map(({ socket }) => socket.id);
    await until(async () => {
      const { users } = await ask(this.members[0].socket, "users");
      // A node that has just found its store again may say `busy`.
      return ids.every((id) => users?.some((user) => user.id === id));
    }, "all are listed");
  }

  /** Nobody has noticed anything that was not so. */
  isCalm() {
    assert.deepEqual(this.unready, [], "the nodes stay ready");
    for (const one of [...this.everybody, ...this.retired]) assert.deepEqual([one.name, one.closed, one.strange], [one.name, false, []]);
    for (const one of this.peers) assert.deepEqual([one.id, one.socket.isOpen, one.strange], [one.id, true, []]);
  }
}
