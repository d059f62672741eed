// Clients that live next to a misbehaving one. They exchange numbered messages without a pause, and
// remember every sign that something was amiss: an error, a lost or late number, a reconnection.
import { strict as assert } from "node:assert";
import { ask, connected } from "./clients.mjs";
import { deferred, within } from "./wait.mjs";

export class Neighbours {
  /** Several pairs, so that some share the worker of the misbehaving client, whichever that is. */
  static async start(url, count = 3) {
    const pairs = await Promise.all(
      Array.from({ length: count }, (_, i) => Pair.start(url, `neighbours-${i}`, i === 0 ? ["polling"] : ["websocket"])),
    );
    return new Neighbours(pairs);
  }

  constructor(pairs) {
    this.pairs = pairs;
  }

  /** Resolves when every pair has exchanged one more message, begun after this call. */
  async noticeNothing() {
    await Promise.all(this.pairs.map((pair) => pair.roundTrip()));
  }

  /** Stops the exchange and asserts that it was never disturbed. */
  async stop() {
    await Promise.all(this.pairs.map((pair) => pair.stop()));
    for (const pair of this.pairs) {
      assert.deepEqual(pair.troubles, []);
      assert.ok(pair.received > 0);
    }
  }
}

class Pair {
  static async start(url, room, transports) {
    const pair = new Pair(room);
    const sockets = await Promise.all([connected(url, { transports }), connected(url, { transports })]);
    for (const socket of sockets) {
      const joined = await ask(socket, "join", room);
      assert.equal(joined.ok, true);
    }
    pair.watch(sockets);
    pair.running = pair.exchange();
    return pair;
  }

  constructor(room) {
    this.room = room;
    this.sent = 0;
    this.received = 0;
    this.troubles = [];
    this.rounds = [];
    this.stopping = false;
  }

  watch([speaker, listener]) {
    [this.speaker, this.listener] = [speaker, listener];
    for (const socket of [speaker, listener]) {
      for (const event of ["disconnect", "connect_error", "error"]) {
        socket.on(event, (detail) => this.stopping || this.troubles.push(`${event}: ${JSON.stringify(detail?.message ?? detail)}`));
      }
      socket.io.on("reconnect", () => this.troubles.push("reconnected"));
    }
    listener.on("message", (number) => {
      if (number !== this.received + 1) this.troubles.push(`message ${number} after ${this.received}`);
      this.received = number;
      this.onReceived?.();
    });
  }

  /** One message after the other: the next is sent when the last was acknowledged and delivered. */
  async exchange() {
    while (!this.stopping) {
      const delivered = deferred();
      this.onReceived = delivered.resolve;
      const number = ++this.sent;
      const reply = await ask(this.speaker, "message", this.room, number);
      if (reply.ok !== true) this.troubles.push(`acknowledgement of ${number}: ${JSON.stringify(reply)}`);
      await within(delivered.promise, `message ${number} in ${this.room}`);
      for (const round of this.rounds) if (round.after < number) round.resolve();
      this.rounds = this.rounds.filter((round) => round.after >= number);
    }
  }

  roundTrip() {
    const round = { ...deferred(), after: this.sent };
    this.rounds.push(round);
    return within(Promise.race([round.promise, this.running]), `another message in ${this.room}`);
  }

  async stop() {
    this.stopping = true;
    await this.running;
    this.speaker.disconnect();
    this.listener.disconnect();
  }
}
