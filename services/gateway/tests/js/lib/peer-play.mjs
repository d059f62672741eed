// Plays one exchange against one server and writes down what it answered: a map from a field ("a", "status", "header vary") to text in
// which everything generated is replaced by a placeholder, so that the records of two servers can be compared.
//
// An exchange is data: `{ name, server, steps }`, or `{ name, server, http }` for a single request. A step is one of
//   { http: {method, path, headers, body}, as }       a request; its fields are prefixed with `as`
//   { open: "a", id, token, key | query, path, headers, protocols, autoPong, wait }   a socket named `a`, with the id `<a>` unless said
//   { send: "a", text | json | binary | frames }       one message, or frames written past the WebSocket implementation
//   { ping: "a", data }
//   { sync: "a", from: "b" }        b (default: a itself) sends a marker to a; waits for it, so that everything before it has arrived
//   { frames: "a", count, within }  waits until a has received `count` text frames since it was opened
//   { expired: "id", told: "a", within }   waits until a has received the EXPIRE of that id
//   { closed: "a", within }         waits until the server has closed a
//   { close: "a", code, reason }    a closes with the closing handshake; waits for its end
//   { terminate: "a" }              a's connection is cut
//   { listed: "id", present }       waits until the id is (or is no longer) in the server's list of peers
//   { wait: ms }                    lets time pass (liveness only)
//   { repeat: [steps], every, times }
//   { signal: "SIGTERM", exitWithin }                    asks the server to stop and waits for its exit
// In every string, `<name>` stands for an id that is unique to this play.

import { setTimeout as sleep } from "node:timers/promises";
import { PeerSocket, frame, socketUrl } from "./peer-socket.mjs";
import { request } from "./peer-http.mjs";

/** How long an answer may take before it counts as silence. */
const SILENCE_MS = 5_000;

let plays = 0;

export async function play(exchange, server) {
  plays += 1;
  const player = new Player(exchange, server, `q${Date.now()}${plays}q`);
  try {
    for (const step of exchange.steps ?? [{ http: exchange.http }]) {
      await player.perform(step);
    }
    return player.finish();
  } finally {
    player.cleanUp();
  }
}

class Player {
  constructor(exchange, server, unique) {
    this.exchange = exchange;
    this.server = server;
    this.unique = unique;
    this.sockets = new Map();
    this.record = new Map();
    this.notes = new Map();
    this.markers = 0;
  }

  /** `<a>` to the id of this play, in any value. */
  fill(value) {
    if (typeof value === "string") {
      return value.replace(/<([a-z]+)>/g, `${this.unique}$1`);
    }
    if (Array.isArray(value)) {
      return value.map((item) => this.fill(item));
    }
    if (value !== null && typeof value === "object" && !Buffer.isBuffer(value)) {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, this.fill(item)]));
    }
    return value;
  }

  /** The way back, for the record. */
  blank(text) {
    return text.replace(new RegExp(`${this.unique}([a-z]+)`, "g"), "<$1>").replace(UUID, "<uuid>");
  }

  async perform(step) {
    const verb = VERBS.find((name) => step[name] !== undefined);
    if (verb === undefined) {
      throw new Error(`${this.exchange.name}: no such step: ${JSON.stringify(step)}`);
    }
    await this[verb](step);
  }

  socketOf(name) {
    const socket = this.sockets.get(name);
    if (!socket) {
      throw new Error(`${this.exchange.name}: socket ${name} was not opened`);
    }
    return socket;
  }

  note(name, text) {
    this.notes.get(name).push({ after: this.socketOf(name).events.length, text });
  }

  async http(step) {
    const prefix = step.as ? `${step.as} ` : "";
    const wanted = this.fill(step.http);
    const answer = await request(this.server.url, wanted);
    for (const [field, value] of describeAnswer(wanted, answer)) {
      this.record.set(prefix + field, this.blank(value));
    }
  }

  async open(step) {
    const name = step.open;
    const id = this.fill(step.id ?? `<${name}>`);
    const parameters =
      step.query !== undefined
        ? this.fill(step.query)
        : { key: step.key ?? "peerjs", id, token: this.fill(step.token ?? `token of ${id}`), version: "1.5.5" };
    const url = socketUrl(this.server.url, parameters, step.path);
    const socket = new PeerSocket(url, { headers: step.headers, protocols: step.protocols, autoPong: step.autoPong });
    socket.id = id;
    socket.wantsPings = step.pings;
    this.sockets.set(name, socket);
    this.notes.set(name, []);
    const settled = () => socket.closed !== undefined || (step.wait === false ? socket.isOpen : socket.events.length > 0);
    await socket.until(settled, SILENCE_MS);
    if (socket.upgrade && step.showUpgrade) {
      const headers = Object.entries(socket.upgrade.headers).map(([header, value]) => `${header}: ${value}`);
      this.record.set(`${name} upgrade`, headers.filter((header) => !header.startsWith("sec-websocket-accept:")).sort().join(", "));
    }
  }

  async send(step) {
    const socket = this.socketOf(step.send);
    if (step.frames) {
      socket.sendRaw(Buffer.concat(this.fill(step.frames).map(frame)));
    } else if (step.binary !== undefined) {
      socket.sendBinary(this.fill(step.binary));
    } else {
      socket.send(this.fill(step.text ?? step.json));
    }
  }

  async ping(step) {
    const socket = this.socketOf(step.ping);
    const answered = socket.pongs.length;
    socket.ping(step.data);
    const got = await socket.until(() => socket.pongs.length > answered || socket.closed, SILENCE_MS);
    this.note(step.ping, got && !socket.closed ? `pong ${socket.pongs.at(-1)}` : "no pong");
  }

  async sync(step) {
    const socket = this.socketOf(step.sync);
    const sender = this.socketOf(step.from ?? step.sync);
    this.markers += 1;
    const marker = `marker ${this.unique} ${this.markers}`;
    sender.send({ type: "CANDIDATE", dst: socket.id, payload: marker });
    const isMarker = (event) => event.text?.includes(marker);
    const arrived = await socket.until(() => socket.events.some(isMarker) || socket.closed, SILENCE_MS);
    if (!arrived) {
      this.note(step.sync, "silence");
    }
    // A marker is scaffolding: the record shows only what the exchange is about.
    const index = socket.events.findIndex(isMarker);
    if (index >= 0) {
      socket.events.splice(index, 1);
    }
  }

  async frames(step) {
    const socket = this.socketOf(step.frames);
    const enough = await socket.until(() => socket.texts.length >= step.count || socket.closed, step.within ?? SILENCE_MS);
    if (!enough) {
      this.note(step.frames, "silence");
    }
  }

  async expired(step) {
    const socket = this.socketOf(step.told);
    const src = this.fill(step.expired);
    const isExpiry = (message) => message.type === "EXPIRE" && message.src === src;
    if (!(await socket.until(() => socket.messages.some(isExpiry) || socket.closed, step.within))) {
      this.note(step.told, `no EXPIRE of ${src}`);
    }
  }

  async closed(step) {
    const socket = this.socketOf(step.closed);
    if (!(await socket.until(() => socket.closed, step.within ?? SILENCE_MS))) {
      this.note(step.closed, "still open");
    }
  }

  async close(step) {
    const socket = this.socketOf(step.close);
    socket.close(step.code, step.reason);
    await this.closed({ closed: step.close });
  }

  async terminate(step) {
    const socket = this.socketOf(step.terminate);
    socket.terminate();
    await socket.until(() => socket.closed);
    socket.closed = { mine: true };
  }

  async listed(step) {
    const id = this.fill(step.listed);
    const present = step.present ?? true;
    const deadline = Date.now() + SILENCE_MS;
    for (;;) {
      const { body } = await request(this.server.url, { path: "/peerjs/peers" });
      if (JSON.parse(body).includes(id) === present) {
        return;
      }
      if (Date.now() > deadline) {
        this.record.set(`${step.listed} in the list of peers`, present ? "never" : "for ever");
        return;
      }
      await sleep(20);
    }
  }

  async wait(step) {
    await sleep(step.wait);
  }

  async repeat(step) {
    for (let round = 0; round < step.times; round += 1) {
      for (const inner of step.repeat) {
        await this.perform(inner);
      }
      await sleep(step.every);
    }
  }

  async signal(step) {
    this.server.signal(step.signal);
    const exit = await Promise.race([this.server.exited, sleep(step.exitWithin, undefined, { ref: false })]);
    this.record.set("exit", exit ? `exits ${exit.signal ?? exit.code}` : `still running`);
  }

  finish() {
    for (const [name, socket] of this.sockets) {
      this.record.set(name, this.blank(this.describeSocket(name, socket)));
      if (socket.wantsPings) {
        this.record.set(`${name} pings`, socket.pings > 0 ? "some" : "none");
      }
    }
    return this.record;
  }

  describeSocket(name, socket) {
    const told = [];
    const notes = this.notes.get(name);
    for (let index = 0; index <= socket.events.length; index += 1) {
      told.push(...notes.filter((note) => note.after === index).map((note) => note.text));
      const event = socket.events[index];
      if (event !== undefined) {
        told.push(event.text ?? `binary ${event.binary}`);
      }
    }
    if (socket.refused) {
      told.push(`refused ${socket.refused.status} ${socket.refused.body}`);
    } else if (socket.closed && !socket.closed.mine) {
      told.push(`close ${socket.closed.code} ${socket.closed.reason}`.trim());
    }
    return told.map(shorten).join(" then ") || "nothing";
  }

  cleanUp() {
    this.sockets.forEach((socket) => socket.terminate());
  }
}

// `open` and `send` have attributes that are verbs elsewhere, so they come first.
const VERBS = ["open", "send", "http", "ping", "sync", "expired", "frames", "closed", "close", "terminate", "listed", "repeat", "wait", "signal"];

const UUID = /\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b/g;

/** Every header counts, except that generated values become placeholders. */
function* describeAnswer({ method = "GET", path }, { status, headers, body }) {
  const notFound = `Cannot ${method} ${path.split("?")[0]}`;
  yield ["status", String(status)];
  yield ["body", body === expressPage(notFound) ? `express page: ${notFound}` : shorten(body) || "empty"];
  for (const [name, value] of Object.entries(headers)) {
    yield [`header ${name}`, describeHeader(name, value, method, body)];
  }
}

function describeHeader(name, value, method, body) {
  if (name === "date") {
    return Number.isNaN(Date.parse(value)) ? value : "<date>";
  }
  if (name === "etag") {
    return value.replace(/"[^"]*"/, '"<etag>"');
  }
  if (name === "content-length" && method !== "HEAD" && Number(value) === Buffer.byteLength(body)) {
    return "<length of the body>";
  }
  return value;
}

function expressPage(message) {
  const head = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n<body>\n';
  return `${head}<pre>${message}</pre>\n</body>\n</html>\n`;
}

function shorten(text) {
  const oneLine = text.replaceAll("\n", "\\n");
  return oneLine.length <= 600 ? oneLine : `${oneLine.slice(0, 80)}... (${oneLine.length} characters)`;
}
