// Everybody in the room, each over a direct link. Who arrives dials those who are there; those who are there wait.
//
// Events: "change" {link}, "open" {link}, "gone" {link}. Messages between members are plain objects with a
// `type`; a part of the page registers for the types it understands with `on`.

import { Link } from "./link.js";

export class Mesh extends EventTarget {
  #links = new Map(); // peer id -> Link
  #handlers = new Map(); // message type -> function(message, link)

  constructor(peering, media) {
    super();
    this.peering = peering;
    this.media = media;
    this.room = null;
    this.name = null;
    peering.addEventListener("connection", ({ detail }) => this.#incoming(detail.connection));
    peering.addEventListener("call", ({ detail }) => this.#called(detail.call));
    peering.addEventListener("open", () => this.#dialPending());
    peering.addEventListener("unreachable", ({ detail }) => this.#links.get(detail.peerId)?.failed());
    media.addEventListener("change", () => this.#mediaChanged());
    media.addEventListener("tracks", () => this.links.forEach((link) => link.replaceTracks(media.tracks)));
    this.on("media", (message, link) => this.#remoteMedia(message, link));
    this.on("bye", (_, link) => this.remove(link));
  }

  get links() {
    return [...this.#links.values()];
  }

  get openLinks() {
    return this.links.filter(({ state }) => state === "open");
  }

  link(peerId) {
    return this.#links.get(peerId);
  }

  on(type, handler) {
    this.#handlers.set(type, handler);
  }

  broadcast(message, options) {
    for (const link of this.#links.values()) link.send(message, options);
  }

  /** Accepts connections for `room` from now on; whom to dial is told by `reconcile`. */
  enter(room, name) {
    this.room = room;
    this.name = name;
  }

  leave() {
    this.broadcast({ type: "bye" });
    this.room = null;
    for (const link of this.links) this.remove(link);
  }

  /** After a (re)join: what the gateway says now, against the links there are. */
  reconcile(members) {
    const present = new Set(members.map(({ peerId }) => peerId));
    for (const link of this.links) if (link.present && !present.has(link.peerId)) link.departed();
    for (const { peerId, name } of members) {
      const link = this.#links.get(peerId) ?? this.#add(peerId, name, true);
      link.arrived();
      if (link.state !== "open" && link.dialer) link.dial();
    }
  }

  /** Somebody joined the room: they will dial. */
  joined({ peerId, name }) {
    const link = this.#links.get(peerId) ?? this.#add(peerId, name, false);
    link.arrived();
    if (link.dialer && link.state !== "open") link.dial();
  }

  left(peerId) {
    this.#links.get(peerId)?.departed();
  }

  remove(link) {
    if (this.#links.get(link.peerId) !== link) return;
    this.#links.delete(link.peerId);
    link.close();
    this.#emit("gone", link);
  }

  changed(link) {
    if (this.#links.get(link.peerId) === link) this.#emit("change", link);
  }

  opened(link) {
    link.send({ type: "media", ...this.media.status });
    link.ensureCall();
    this.#emit("open", link);
  }

  received(link, message) {
    const handler = this.#handlers.get(message?.type);
    if (!handler) return;
    try {
      handler(message, link);
    } catch (error) {
      // What a stranger sends must not stop the page.
      console.warn("a message from", link.peerId, "was not understood:", error);
    }
  }

  #incoming(connection) {
    if (connection.label !== "room") return;
    const { room, name } = connection.metadata ?? {};
    if (this.room === null || room !== this.room) return connection.close();
    const link = this.#links.get(connection.peer) ?? this.#add(connection.peer, String(name).slice(0, 32), false);
    // Both dialed at once: both keep the one that the greater id opened.
    if (link.dialing && this.peering.id > link.peerId) return connection.close();
    link.accept(connection);
  }

  #called(call) {
    const link = this.#links.get(call.peer);
    if (!link || call.metadata?.room !== this.room) return call.close();
    link.answer(call);
  }

  #dialPending() {
    for (const link of this.links) {
      if (link.dialer && link.state !== "open") link.dial();
      link.ensureCall();
    }
  }

  #mediaChanged() {
    this.broadcast({ type: "media", ...this.media.status });
    for (const link of this.#links.values()) link.ensureCall();
  }

  #remoteMedia({ mic, camera, screen }, link) {
    link.remote = { mic: Boolean(mic), camera: Boolean(camera), screen: Boolean(screen) };
    link.ensureCall();
    this.changed(link);
  }

  #add(peerId, name, dialer) {
    const link = new Link(this, peerId, name, dialer);
    this.#links.set(peerId, link);
    this.#emit("change", link);
    return link;
  }

  #emit(type, link) {
    this.dispatchEvent(new CustomEvent(type, { detail: { link } }));
  }
}
