// An Engine.IO session over HTTP long-polling, spoken by hand.
import { request } from "./http.mjs";
import { within } from "./wait.mjs";

export const HANDSHAKE = "/socket.io/?EIO=4&transport=polling";
const SEPARATOR = "\x1e";

export const packets = (...list) => list.join(SEPARATOR);
export const split = (payload) => payload.split(SEPARATOR);

export class PollingSession {
  static async open(base, options) {
    const reply = await request(base, "GET", HANDSHAKE, options);
    if (reply.status !== 200) throw new Error(`handshake refused: ${reply.status} ${reply.body}`);
    return new PollingSession(base, JSON.parse(reply.body.slice(1)));
  }

  /** Opens a session and joins the namespace `/`. */
  static async join(base, options) {
    const session = await PollingSession.open(base, options);
    await session.post("40");
    const connected = await session.poll((packet) => packet.startsWith("4"), "the CONNECT reply");
    if (!connected.startsWith("40{")) throw new Error(`not connected: ${connected}`);
    session.socketId = JSON.parse(connected.slice(2)).sid;
    return session;
  }

  constructor(base, handshake) {
    this.base = base;
    this.handshake = handshake;
    this.sid = handshake.sid;
    this.path = `${HANDSHAKE}&sid=${this.sid}`;
  }

  request(method, options) {
    return request(this.base, method, this.path, options);
  }

  get(options) {
    return this.request("GET", options);
  }

  post(body, options = {}) {
    return this.request("POST", { ...options, body });
  }

  /** Polls until a packet that `accept` likes arrives; answers heartbeats, skips the rest. */
  async poll(accept, what) {
    for (;;) {
      const reply = await within(this.get(), what);
      if (reply.status !== 200) throw new Error(`while waiting for ${what}: ${reply.status} ${reply.body}`);
      for (const packet of split(reply.body)) {
        if (packet === "2") await this.post("3");
        if (accept(packet)) return packet;
      }
    }
  }

  /**
   * Proves that the session still works, by an event that the server acknowledges. `pending` is a GET
   * that is already waiting, which then has to receive this acknowledgement and nothing else.
   */
  async expectAlive(pending) {
    const posted = await this.post('42977["still-there"]');
    if (posted.status !== 200) throw new Error(`session is gone: ${posted.status} ${posted.body}`);
    const isAck = (packet) => packet.startsWith("43977[");
    if (!pending) {
      await this.poll(isAck, "the acknowledgement of a living session");
      return;
    }
    const reply = await pending;
    if (!isAck(reply.body)) throw new Error(`the waiting GET received ${reply.status} ${JSON.stringify(reply.body)}`);
  }
}
