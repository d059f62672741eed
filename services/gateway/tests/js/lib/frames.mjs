// A WebSocket client on a bare TCP socket, which can send what no library would.
import { randomBytes } from "node:crypto";
import net from "node:net";
import { onEnd } from "./cleanup.mjs";
import { Inbox, within } from "./wait.mjs";

export const CONTINUATION = 0;
export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/**
 * The bytes of one frame. `declare` puts another length into the header than the payload has;
 * `lengthBytes` (1, 2 or 8) forces the width of the length field.
 */
export function frame(opcode, payload = "", { fin = true, rsv = 0, mask = true, declare, lengthBytes } = {}) {
  const data = Buffer.from(payload);
  const length = declare ?? data.length;
  const width = lengthBytes ?? (length < 126 ? 1 : length < 65_536 ? 2 : 8);
  const header = Buffer.alloc(1 + (width === 1 ? 1 : 1 + width));
  header[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  header[1] = (mask ? 0x80 : 0) | (width === 1 ? length : width === 2 ? 126 : 127);
  if (width === 2) header.writeUInt16BE(length, 2);
  if (width === 8) header.writeBigUInt64BE(BigInt(length), 2);
  if (!mask) return Buffer.concat([header, data]);
  const key = randomBytes(4);
  return Buffer.concat([header, key, data.map((byte, i) => byte ^ key[i & 3])]);
}

/** The payload of a close frame. */
export function closePayload(code, reason = "") {
  const number = Buffer.alloc(2);
  number.writeUInt16BE(code);
  return Buffer.concat([number, Buffer.from(reason)]);
}

/** The bytes of an upgrade request; every part can be replaced. */
export function upgradeRequest(base, path, { method = "GET", headers = {}, drop = [] } = {}) {
  const all = {
    Host: new URL(base).host,
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
    ...headers,
  };
  for (const name of drop) delete all[name];
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return Buffer.from([`${method} ${path} HTTP/1.1`, ...lines, "", ""].join("\r\n"), "latin1");
}

/** Sends raw bytes and returns all that comes back until the server closes, as latin1 text. */
export function exchange(base, bytes) {
  const { hostname, port } = new URL(base);
  const reply = new Promise((resolve) => {
    const socket = net.connect(Number(port), hostname);
    const chunks = [];
    const finish = () => resolve(Buffer.concat(chunks).toString("latin1"));
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", finish);
    socket.on("close", finish);
    socket.write(bytes);
  });
  return within(reply, `the server closes after ${bytes.subarray(0, 80).toString("latin1").split("\r\n")[0]}`);
}

export class RawConnection {
  /** Upgrades a TCP connection and resolves after the 101. */
  static async open(base, path = "/socket.io/?EIO=4&transport=websocket", options) {
    const { hostname, port } = new URL(base);
    const connection = new RawConnection(net.connect(Number(port), hostname));
    connection.write(upgradeRequest(base, path, options));
    const status = await within(connection.status, `an upgrade reply for ${path}`);
    if (!status.startsWith("HTTP/1.1 101")) throw new Error(`no upgrade: ${status}`);
    return connection;
  }

  /** Upgrades, takes the Engine.IO handshake and joins the namespace `/`. */
  static async join(base) {
    const connection = await RawConnection.open(base);
    await connection.text("the handshake");
    connection.write(frame(TEXT, "40"));
    const reply = await connection.text("the CONNECT reply");
    if (!reply.startsWith("40{")) throw new Error(`not connected: ${reply}`);
    return connection;
  }

  constructor(socket) {
    this.socket = socket;
    const forget = onEnd(() => socket.destroy());
    this.inbox = new Inbox("the raw connection");
    this.buffer = Buffer.alloc(0);
    this.status = new Promise((resolve) => (this.onStatus = resolve));
    this.isClosed = false;
    this.closed = new Promise((resolve) =>
      socket.once("close", () => {
        forget();
        this.isClosed = true;
        this.onStatus?.("closed without a reply");
        this.inbox.push({ kind: "tcp closed" });
        resolve();
      }),
    );
    // A peer that closes at once makes our last writes fail; the close itself is what is asserted.
    socket.on("error", () => {});
    socket.on("data", (chunk) => this.receive(chunk));
  }

  write(...chunks) {
    for (const chunk of chunks) if (!this.socket.destroyed) this.socket.write(chunk);
  }

  receive(chunk) {
    this.buffer = Buffer.concat([this.buffer, chunk]);
    if (this.onStatus) {
      const end = this.buffer.indexOf("\r\n\r\n");
      if (end < 0) return;
      this.onStatus(this.buffer.subarray(0, end).toString("latin1"));
      this.onStatus = undefined;
      this.buffer = this.buffer.subarray(end + 4);
    }
    for (let item = this.takeFrame(); item; item = this.takeFrame()) this.inbox.push(item);
  }

  /** One frame of the server, which are never masked; undefined until it is complete. */
  takeFrame() {
    const { buffer } = this;
    if (buffer.length < 2) return undefined;
    let length = buffer[1] & 0x7f;
    let start = 2;
    if (length === 126) [length, start] = [buffer.length >= 4 ? buffer.readUInt16BE(2) : Infinity, 4];
    else if (length === 127) [length, start] = [buffer.length >= 10 ? Number(buffer.readBigUInt64BE(2)) : Infinity, 10];
    if (buffer.length < start + length) return undefined;
    this.buffer = buffer.subarray(start + length);
    const opcode = buffer[0] & 0x0f;
    const payload = Buffer.from(buffer.subarray(start, start + length));
    return opcode === CLOSE
      ? { kind: "close", code: payload.length >= 2 ? payload.readUInt16BE(0) : 1005, reason: payload.subarray(2).toString() }
      : { kind: "frame", opcode, payload, masked: (buffer[1] & 0x80) !== 0 };
  }

  next(what) {
    return this.inbox.next(what);
  }

  async text(what) {
    const item = await this.next(what);
    if (item.kind !== "frame" || item.opcode !== TEXT) throw new Error(`expected ${what}, got ${JSON.stringify(item)}`);
    return item.payload.toString();
  }

  /** Skips frames until the server closes; resolves with {code, reason} of its close frame. */
  async closeFrame(what = "a close frame") {
    for (;;) {
      const item = await this.next(what);
      if (item.kind === "close") return item;
      if (item.kind === "tcp closed") return { code: "closed without a close frame" };
    }
  }

  /** Proves that the session still works, by an event that the server acknowledges. */
  async expectAlive() {
    this.write(frame(TEXT, '42977["still-there"]'));
    for (;;) {
      const text = await this.text("the acknowledgement of a living session");
      if (text.startsWith("43977[")) return;
    }
  }

  end() {
    this.socket.destroy();
  }
}
