// Being in a room: one Socket.IO room ("room:NAME") that says who is there, and the mesh of direct links to them.

import { Board } from "./board.js";
import { Chat } from "./chat.js";
import { checkLink } from "./check.js";
import { Cursors } from "./cursors.js";
import { Files } from "./files.js";
import { Game } from "./game.js";
import { Mesh } from "./mesh.js";
import { Surface } from "./surface.js";
import { Tiles } from "./tiles.js";
import { byId, notify } from "./ui.js";
import { record, state } from "./state.js";

const PREFIX = "room:";

export class Room {
  #signaling;
  #mesh;
  #media;
  #chat;
  #parts;

  constructor(signaling, peering, media) {
    this.#signaling = signaling;
    this.#media = media;
    this.#mesh = new Mesh(peering, media);
    const surface = new Surface();
    const cursors = new Cursors(this.#mesh, surface);
    this.#chat = new Chat(this.#mesh);
    this.#parts = [
      new Tiles(this.#mesh, media, (link) => this.#check(peering, link)),
      this.#chat,
      new Board(this.#mesh, surface),
      new Files(this.#mesh, peering),
      new Game(this.#mesh, surface, cursors, (text) => this.#chat.notice(text)),
    ];
    signaling.addEventListener("members", ({ detail }) => this.#ours(detail) && this.#mesh.reconcile(usable(detail.members)));
    signaling.addEventListener("joined", ({ detail }) => this.#ours(detail) && this.#joined(detail.member));
    signaling.addEventListener("updated", ({ detail }) => this.#ours(detail) && this.#updated(detail));
    signaling.addEventListener("left", ({ detail }) => this.#ours(detail) && this.#left(detail.member));
    for (const type of ["change", "gone"]) this.#mesh.addEventListener(type, () => this.#publish());
    for (const type of ["open", "gone"]) this.#mesh.addEventListener(type, () => media.adaptTo(this.#mesh.links.length + 1));
    byId("tabs").addEventListener("click", ({ target }) => this.#showPanel(target.closest("button")));
  }

  enter(name, profile) {
    state.room = name;
    for (const part of this.#parts) part.enter(profile.name);
    this.#mesh.enter(name, profile.name);
    this.#chat.notice(`You entered “${name}”.`);
    this.introduce({ ...profile, inRoom: name });
  }

  /** Says who we are, which is somebody new after the peer id changed: then everybody is dialed anew. */
  introduce(profile) {
    for (const link of this.#mesh.links) this.#mesh.remove(link);
    this.#signaling.join(PREFIX + state.room, profile);
  }

  leave() {
    this.#mesh.leave();
    this.#signaling.leave(PREFIX + state.room);
    this.#media.stop();
    state.room = null;
  }

  #ours({ room }) {
    return state.room !== null && room === PREFIX + state.room;
  }

  #joined(member) {
    if (!usable([member]).length) return;
    const known = this.#mesh.link(member.peerId);
    record("member-joined", { peerId: member.peerId, id: member.id });
    this.#mesh.joined(member);
    if (!known) this.#chat.notice(`${member.name} joined.`);
  }

  /** They may go on under another peer id: to the mesh that is another person. */
  #updated({ member, previous }) {
    if (previous?.peerId === member.peerId || !usable([member]).length) return;
    this.#mesh.left(previous?.peerId);
    this.#joined(member);
  }

  #left(member) {
    if (!usable([member]).length) return;
    // They may have come back under another socket before the old one was given up.
    if (this.#signaling.members(PREFIX + state.room).some(({ peerId }) => peerId === member.peerId)) return;
    record("member-left", { peerId: member.peerId, id: member.id });
    this.#chat.notice(`${member.name} left.`);
    this.#mesh.left(member.peerId);
  }

  #publish() {
    state.members = this.#mesh.links.map(({ peerId, name, state: link, present, remote }) => ({ peerId, name, link, present, ...remote }));
  }

  async #check(peering, link) {
    const results = await checkLink(peering, link.peerId);
    const parts = Object.entries(results).map(([name, time]) => `${name} ${time === "failed" ? time : `${time} ms`}`);
    const failed = Object.values(results).includes("failed");
    notify(`Link to ${link.name}: ${parts.join(", ")}`, { level: failed ? "error" : "info" });
  }

  #showPanel(button) {
    if (!button) return;
    byId("room").dataset.panel = button.dataset.show;
    for (const other of byId("tabs").children) other.toggleAttribute("aria-current", other === button);
    button.setAttribute("aria-current", "true");
  }
}

/** Profiles are what other clients say of themselves: take only those we can use. */
function usable(members) {
  return members.filter(({ peerId, name }) => typeof peerId === "string" && typeof name === "string");
}
