// The Socket.IO side: one socket, the rooms this client wants to be in, and who else is in them.
//
// Events: "status" {state}, "members" {room, members} after every join or rejoin,
// "joined" | "updated" | "left" {room, member, previous}, "signal" {from, data}, "refused" {event, error, hint},
// "ice-servers" {iceServers} after every connect, and again before their credentials end.

import { record, state, expose } from "./state.js";

const JOIN_TIMEOUT_MS = 8000;
const SENT_AWAY_MS = 2000;

export class Signaling extends EventTarget {
  #wanted = new Map(); // room -> {profile, members: Map(socket id -> member)}

  constructor({ socketioPath, transports, auth }) {
    super();
    this.socket = io({ path: socketioPath, transports, auth });
    expose("socket", () => this.socket);
    this.socket.on("connect", () => this.#connected());
    this.socket.on("disconnect", (reason) => this.#disconnected(reason));
    this.socket.on("connect_error", () => this.#emit("status", { state: "wait" }));
    this.socket.on("joined", (member) => this.#changed("joined", member));
    this.socket.on("updated", (member) => this.#changed("updated", member));
    this.socket.on("left", (member) => this.#changed("left", member));
    this.socket.on("signal", (data, { from }) => this.#emit("signal", { data, from }));
    this.socket.on("ice-servers", ({ iceServers }) => this.#emit("ice-servers", { iceServers }));
    this.socket.on("error", (refusal) => this.#emit("refused", refusal ?? {}));
  }

  get id() {
    return this.socket.id ?? null;
  }

  /** Joins `room`, or replaces the profile there, now and again after every reconnection. */
  join(room, profile) {
    const entry = this.#wanted.get(room) ?? { members: new Map() };
    entry.profile = profile;
    this.#wanted.set(room, entry);
    if (this.socket.connected) this.#join(room);
  }

  leave(room) {
    this.#wanted.delete(room);
    if (this.socket.connected) this.socket.emit("leave", room);
  }

  members(room) {
    return [...(this.#wanted.get(room)?.members.values() ?? [])];
  }

  /** Sends `data` to one socket; resolves to whether it was there. */
  async signal(to, data) {
    try {
      const answer = await this.socket.timeout(JOIN_TIMEOUT_MS).emitWithAck("signal", to, data);
      return answer.ok;
    } catch {
      return false;
    }
  }

  #join(room) {
    const entry = this.#wanted.get(room);
    const sid = this.socket.id;
    this.socket.timeout(JOIN_TIMEOUT_MS).emit("join", room, entry.profile, (timeout, answer) => {
      if (this.#wanted.get(room) !== entry || this.socket.id !== sid) return;
      if (timeout || !answer.ok) {
        this.#emit("refused", { event: "join", error: timeout ? "no answer" : answer.error });
        return;
      }
      entry.members = new Map(answer.members.map((member) => [member.id, member]));
      this.#emit("members", { room, members: this.members(room) });
    });
  }

  #connected() {
    state.socketId = this.socket.id;
    record("socket-connected", { id: this.socket.id });
    this.#emit("status", { state: "on", transport: this.socket.io.engine.transport.name });
    this.socket.io.engine.once("upgrade", ({ name }) => this.#emit("status", { state: "on", transport: name }));
    for (const room of this.#wanted.keys()) this.#join(room);
    this.#askForIceServers();
  }

  /** Without an answer the known ones stay: between two browsers on one network they are not needed. */
  async #askForIceServers() {
    try {
      const answer = await this.socket.timeout(JOIN_TIMEOUT_MS).emitWithAck("ice-servers");
      if (answer.ok) this.#emit("ice-servers", { iceServers: answer.iceServers });
      else record("ice-servers-refused", { error: answer.error });
    } catch {
      record("ice-servers-refused", { error: "no answer" });
    }
  }

  #disconnected(reason) {
    state.socketId = null;
    record("socket-disconnected", { reason });
    this.#emit("status", { state: "wait", reason });
    // The one reason after which the client does not try again by itself.
    if (reason === "io server disconnect") setTimeout(() => this.socket.connect(), SENT_AWAY_MS);
  }

  #changed(type, { room, ...member }) {
    const members = this.#wanted.get(room)?.members;
    if (!members || typeof member.id !== "string") return;
    const previous = members.get(member.id);
    if (type === "left") members.delete(member.id);
    else members.set(member.id, member);
    this.#emit(type, { room, member, previous });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
