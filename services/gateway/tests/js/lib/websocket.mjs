// An Engine.IO session over a WebSocket, spoken by hand on top of `ws`.
import { WebSocket } from "ws";
import { onEnd } from "./cleanup.mjs";
import { Inbox, within } from "./wait.mjs";

export const HANDSHAKE = "/socket.io/?EIO=4&transport=websocket";

export class RawSocket {
  /** Connects and resolves once the server has answered 101. */
  static connect(base, path = HANDSHAKE, options = {}) {
    const socket = new RawSocket(new WebSocket(base.replace(/^http/, "ws") + path, { perMessageDeflate: false, ...options }));
    return within(socket.opened, `101 for ${path}`).then(() => socket);
  }

  /** Connects and takes the handshake packet. */
  static async open(base, options) {
    const socket = await RawSocket.connect(base, HANDSHAKE, options);
    const packet = await socket.next("the handshake");
    socket.handshake = JSON.parse(packet.slice(1));
    return socket;
  }

  /** Connects, takes the handshake and joins the namespace `/`. */
  static async join(base, options) {
    const socket = await RawSocket.open(base, options);
    socket.send("40");
    const packet = await socket.until((item) => item[0] === "4", "the CONNECT reply");
    if (!packet.startsWith("40{")) throw new Error(`not connected: ${packet}`);
    socket.socketId = JSON.parse(packet.slice(2)).sid;
    return socket;
  }

  constructor(ws) {
    this.ws = ws;
    const forget = onEnd(() => ws.terminate());
    this.inbox = new Inbox("the WebSocket");
    this.opened = new Promise((resolve, reject) => {
      ws.once("open", resolve);
      ws.on("error", reject);
    });
    this.opened.catch(() => {});
    this.isClosed = false;
    /** Resolves with the close code. */
    this.closed = new Promise((resolve) =>
      ws.once("close", (code) => {
        forget();
        this.isClosed = true;
        this.inbox.push(CLOSED);
        resolve(code);
      }),
    );
    ws.on("message", (data, isBinary) => this.inbox.push(isBinary ? data : data.toString()));
  }

  send(...frames) {
    for (const frame of frames) this.ws.send(frame);
  }

  /** Sends frames one by one: the server has handled each before it is sent the next. */
  async sendEach(frames) {
    for (const frame of frames) {
      if (this.isClosed) return;
      this.ws.send(frame);
      const pong = new Promise((resolve) => this.ws.once("pong", resolve));
      this.ws.ping();
      await within(Promise.race([pong, this.closed]), "a pong");
    }
  }

  /** The next frame: a string for text, a Buffer for binary. Fails when the server closes instead. */
  async next(what, ms) {
    const item = await this.inbox.next(what, ms);
    if (item !== CLOSED) return item;
    throw new Error(`closed by the server while waiting for ${what}`);
  }

  /** The next frame that `accept` likes; what comes before is skipped, heartbeats are answered. */
  async until(accept, what) {
    for (;;) {
      const item = await this.next(what);
      if (item === "2") this.send("3");
      else if (accept(item)) return item;
    }
  }

  /** The close code, within the deadline. */
  closeCode(what = "the server closes the WebSocket") {
    return within(this.closed, what);
  }

  /** Proves that the session still works, by an event that the server acknowledges. */
  async expectAlive() {
    this.send('42977["still-there"]');
    await this.until((packet) => typeof packet === "string" && packet.startsWith("43977["), "the acknowledgement of a living session");
  }

  end() {
    this.ws.terminate();
  }
}

const CLOSED = Symbol("closed");
