// A PeerServer client without the behaviour of one: it records what arrives, and sends whatever it is told, malformed frames included.

import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import WebSocket from "ws";

/** The WebSocket address of a server for these query parameters (an object, or the raw text after `?`). */
export function socketUrl(baseUrl, parameters, path = "/peerjs") {
  const query = typeof parameters === "string" ? parameters : new URLSearchParams(parameters).toString();
  return `${baseUrl.replace(/^http/, "ws")}${path}${query === "" ? "" : `?${query}`}`;
}

export class PeerSocket {
  /** Connects to `url`. `options`: `headers`, `protocols`, `autoPong` (default true). */
  constructor(url, { headers, protocols = [], autoPong = true } = {}) {
    this.events = [];
    this.pings = 0;
    this.pongs = [];
    this.closed = undefined;
    this.refused = undefined;
    this.changes = new EventEmitter().setMaxListeners(0);
    this.socket = new WebSocket(url, protocols, { headers, autoPong, perMessageDeflate: false });

    this.socket.on("upgrade", (response) => this.#change(() => (this.upgrade = response)));
    this.socket.on("open", () => this.#change());
    this.socket.on("message", (data, isBinary) => this.#change(() => this.events.push(frameEvent(data, isBinary))));
    this.socket.on("ping", () => this.#change(() => (this.pings += 1)));
    this.socket.on("pong", (data) => this.#change(() => this.pongs.push(data.toString())));
    this.socket.on("close", (code, reason) => this.#change(() => (this.closed = { code, reason: reason.toString() })));
    // Whatever goes wrong shows as `closed` or `refused`.
    this.socket.on("error", () => {});
    this.socket.on("unexpected-response", (_request, response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => {
        this.refused = { status: response.statusCode, headers: response.headers, body };
        this.socket.terminate();
      });
    });
  }

  #change(apply = () => {}) {
    apply();
    this.changes.emit("change");
  }

  get texts() {
    return this.events.filter((event) => event.text !== undefined).map((event) => event.text);
  }

  get messages() {
    return this.texts.map((text) => JSON.parse(text));
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** Resolves to whether `predicate` became true within `ms`. */
  until(predicate, ms = 10_000) {
    if (predicate()) {
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const finish = (met) => {
        clearTimeout(timer);
        this.changes.off("change", check);
        resolve(met);
      };
      const check = () => predicate() && finish(true);
      const timer = setTimeout(() => finish(false), ms);
      this.changes.on("change", check);
    });
  }

  /** Sends a text frame (a string, or an object as JSON); nothing happens on a socket that is not open. */
  send(message) {
    if (this.isOpen) {
      this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
    }
  }

  sendBinary(bytes) {
    if (this.isOpen) {
      this.socket.send(Buffer.from(bytes), { binary: true });
    }
  }

  /** Writes bytes past the WebSocket implementation, for frames that it would refuse to send, also after a close frame. */
  sendRaw(bytes) {
    if (this.socket._socket?.writable) {
      this.socket._socket.write(bytes);
    }
  }

  ping(data) {
    if (this.isOpen) {
      this.socket.ping(data);
    }
  }

  close(code, reason) {
    this.socket.close(code, reason);
  }

  terminate() {
    this.socket.terminate();
  }
}

function frameEvent(data, isBinary) {
  return isBinary ? { binary: data.toString("base64") } : { text: data.toString() };
}

/**
 * The bytes of one WebSocket frame. Every part can be wrong on purpose: `mask: false`, reserved bits in `rsv` (0-7), any `opcode`,
 * a `declared` length that is not the payload's, a `lengthBytes` (0, 2, 8) wider than needed.
 */
export function frame({ fin = true, rsv = 0, opcode = 1, mask = true, payload = "", declared, lengthBytes }) {
  const body = Buffer.from(payload);
  const length = BigInt(declared ?? body.length);
  const width = lengthBytes ?? (length < 126n ? 0 : length < 65536n ? 2 : 8);
  const head = Buffer.alloc(2 + width);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | (width === 0 ? Number(length) : width === 2 ? 126 : 127);
  if (width === 2) {
    head.writeUInt16BE(Number(length), 2);
  } else if (width === 8) {
    head.writeBigUInt64BE(length, 2);
  }
  if (!mask) {
    return Buffer.concat([head, body]);
  }
  const key = randomBytes(4);
  return Buffer.concat([head, key, body.map((byte, index) => byte ^ key[index % 4])]);
}
