// An HTTP/1 connection on a bare TCP socket: requests as they stand on the wire, answers one after the other.
import net from "node:net";
import { onEnd } from "./cleanup.mjs";
import { Inbox } from "./wait.mjs";

/** The text of a request. `lines` are header lines; `Host` is added unless it is among them, or `host` is false. */
export function text(base, method, path, { lines = [], body = "", version = "1.1", host = true } = {}) {
  const all = [...(host ? [`Host: ${new URL(base).host}`] : []), ...lines];
  return `${method} ${path} HTTP/${version}\r\n${all.map((line) => `${line}\r\n`).join("")}\r\n${body}`;
}

/** A POST with its length. */
export const post = (base, path, body, lines = []) => text(base, "POST", path, { lines: [`Content-Length: ${Buffer.byteLength(body)}`, ...lines], body });

export class Wire {
  static connect(base) {
    const { hostname, port } = new URL(base);
    return new Wire(net.connect({ port: Number(port), host: hostname, noDelay: true }));
  }

  constructor(socket) {
    this.socket = socket;
    this.buffer = Buffer.alloc(0);
    this.inbox = new Inbox("the connection");
    this.isOpen = true;
    const forget = onEnd(() => socket.destroy());
    socket.on("error", () => {});
    socket.once("close", () => {
      forget();
      this.isOpen = false;
      this.inbox.push({ closed: true, rest: this.buffer.toString("latin1") });
    });
    socket.on("data", (chunk) => {
      this.buffer = Buffer.concat([this.buffer, chunk]);
      for (let answer = this.takeAnswer(); answer; answer = this.takeAnswer()) this.inbox.push(answer);
    });
  }

  send(data) {
    this.socket.write(Buffer.from(data, "latin1"));
    return this;
  }

  /** The next answer: {status, version, headers, body}, or {closed} where the connection ends before one is complete. */
  answer(what = "an answer") {
    return this.inbox.next(what);
  }

  takeAnswer() {
    const end = this.buffer.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    const [first, ...lines] = this.buffer.subarray(0, end).toString("latin1").split("\r\n");
    const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]));
    const status = Number(first.split(" ")[1]);
    const length = status === 101 || status === 204 ? 0 : Number(headers["content-length"] ?? 0);
    let body = this.buffer.subarray(end + 4, end + 4 + length);
    let rest = end + 4 + length;
    if (headers["transfer-encoding"] === "chunked") {
      const last = this.buffer.indexOf("0\r\n\r\n", end + 4);
      if (last < 0) return undefined;
      [body, rest] = [this.buffer.subarray(end + 4, last), last + 5];
    }
    if (body.length < length) return undefined;
    this.buffer = this.buffer.subarray(rest);
    return { status, version: first.split(" ")[0], headers, body: body.toString() };
  }

  end() {
    this.socket.destroy();
  }
}
