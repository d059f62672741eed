// Sharing files in a room. A file is announced to everybody and sent only to those who take it:
// "file" {id, name, size, type} announces, "file-wanted" {id} asks, and the owner opens a connection for it.

import { byId, element, formatBytes, icon, notify, perFrame } from "./ui.js";
import { receiveFile, sendFile } from "./transfer.js";
import { state } from "./state.js";

const ICON = { verified: "check", failed: "close" };
const DETAIL = {
  offered: ({ from, size }) => `${from} · ${formatBytes(size)}`,
  shared: ({ size }) => `You share this · ${formatBytes(size)}`,
  moving: ({ done, size }) => `${formatBytes(done)} of ${formatBytes(size)}`,
  verified: ({ from, size }) => `${from} · ${formatBytes(size)}`,
  failed: ({ trouble }) => trouble,
};

export class Files {
  #mesh;
  #peering;
  #mine = new Map(); // file id -> File
  #rows = new Map(); // file id -> {entry, link, root}

  constructor(mesh, peering) {
    this.#mesh = mesh;
    this.#peering = peering;
    peering.addEventListener("connection", ({ detail }) => this.#incoming(detail.connection));
    mesh.on("file", (offer, link) => this.#offered(offer, link));
    mesh.on("file-wanted", ({ id }, link) => this.#send(id, link));
    mesh.addEventListener("open", ({ detail }) => this.#announceAll(detail.link));
    mesh.addEventListener("gone", ({ detail }) => this.#ownerGone(detail.link));
    byId("file-input").addEventListener("change", ({ target }) => { this.#share(target.files); target.value = ""; });
    this.#acceptDrops(byId("room"));
  }

  enter() {
    this.#mine.clear();
    this.#rows.clear();
    state.files = [];
    byId("file-list").replaceChildren();
  }

  #share(files) {
    for (const file of files) {
      const id = crypto.getRandomValues(new Uint32Array(3)).join("-");
      this.#mine.set(id, file);
      this.#add({ id, name: file.name, size: file.size, from: "You", state: "shared" }, null);
      this.#mesh.broadcast({ type: "file", id, name: file.name, size: file.size });
    }
  }

  #announceAll(link) {
    for (const [id, file] of this.#mine) link.send({ type: "file", id, name: file.name, size: file.size });
  }

  #offered({ id, name, size }, link) {
    if (typeof id !== "string" || !Number.isSafeInteger(size) || size < 0) return;
    const known = this.#rows.get(id);
    if (known && known.entry.state !== "failed") return;
    known?.root.remove();
    state.files = state.files.filter((file) => file.id !== id);
    this.#add({ id, name: String(name).slice(0, 200), size, from: link.name, state: "offered" }, link);
  }

  #take(row) {
    row.link.send({ type: "file-wanted", id: row.entry.id });
    this.#set(row, { state: "moving", done: 0 });
  }

  async #send(id, link) {
    const file = this.#mine.get(id);
    const row = this.#rows.get(id);
    if (!file) return;
    const options = { label: "file", reliable: true, serialization: "raw", metadata: { id } };
    const connection = this.#peering.open && this.#peering.peer.connect(link.peerId, options);
    if (!connection) return notify(`“${file.name}” could not be sent: the gateway is out of reach.`, { level: "error" });
    let moving = true;
    const show = perFrame((done) => moving && this.#set(row, { text: `To ${link.name}: ${formatBytes(done)} of ${formatBytes(file.size)}` }));
    try {
      const verified = await sendFile(file, connection, show).finally(() => { moving = false; });
      this.#set(row, { text: verified ? `${link.name} has it, checksum matches` : `${link.name} got a wrong checksum` });
    } catch (error) {
      this.#set(row, { text: `Not sent to ${link.name}: ${error.message}` });
    }
  }

  async #incoming(connection) {
    if (connection.label !== "file") return;
    const row = this.#rows.get(connection.metadata?.id);
    // Only what was asked for, and only from whom it was asked.
    if (row?.entry.state !== "moving" || row.link?.peerId !== connection.peer) return connection.close();
    try {
      const show = perFrame((done) => row.entry.state === "moving" && this.#set(row, { done }));
      const { blob, sha256, expected } = await receiveFile({ size: row.entry.size }, connection, show);
      const verified = sha256 === expected && blob.size === row.entry.size;
      row.blob = blob;
      this.#set(row, verified
        ? { state: "verified", done: blob.size, sha256, expected }
        : { state: "failed", sha256, expected, trouble: "The checksum is wrong: the file was damaged on its way." });
    } catch (error) {
      this.#set(row, { state: "failed", trouble: `Not received: ${error.message}.` });
    }
  }

  #ownerGone(link) {
    for (const row of this.#rows.values()) {
      if (row.link === link && row.entry.state === "offered") this.#set(row, { state: "failed", trouble: `${link.name} has left.` });
    }
  }

  #add(entry, link) {
    const row = { entry: { done: 0, ...entry }, link, root: element("li", { class: "file" }) };
    this.#rows.set(entry.id, row);
    state.files.push(row.entry);
    byId("file-list").prepend(row.root);
    this.#render(row);
  }

  #set(row, change) {
    Object.assign(row.entry, change);
    this.#render(row);
  }

  #render(row) {
    const { entry, root } = row;
    root.dataset.state = entry.state;
    const detail = entry.text ?? DETAIL[entry.state](entry);
    const again = entry.state === "failed" && row.link && this.#mesh.link(row.link.peerId) === row.link;
    root.replaceChildren(
      element("span", { class: "file-icon" }, icon(ICON[entry.state] ?? "file")),
      element("span", {},
        element("span", { class: "file-name", text: entry.name, title: entry.name }),
        element("span", { class: "file-detail", text: detail, title: detail })),
      ...(entry.state === "offered" || again ? [this.#button(again ? "Try again" : "Receive", () => this.#take(row), entry)] : []),
      ...(entry.state === "verified" ? [this.#saveLink(row)] : []),
      ...(entry.state === "moving" ? [element("progress", { max: entry.size || 1, value: entry.done, "aria-label": entry.name })] : []),
      ...(entry.sha256 ? [element("span", { class: "file-sum", text: `${entry.state === "verified" ? "SHA-256 matches" : "SHA-256 differs"} · ${entry.sha256}`, title: entry.sha256 })] : []),
    );
  }

  #button(text, run, { name }) {
    return element("button", { class: "button small", type: "button", "aria-label": `${text}: ${name}`, onclick: run }, icon("download"), element("span", { text }));
  }

  #saveLink(row) {
    row.url ??= URL.createObjectURL(row.blob);
    return element("a", { class: "button small", href: row.url, download: row.entry.name, text: "Save", "aria-label": `Save ${row.entry.name}` });
  }

  #acceptDrops(room) {
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    room.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      room.classList.add("dropping");
    });
    room.addEventListener("dragleave", ({ relatedTarget }) => room.contains(relatedTarget) || room.classList.remove("dropping"));
    room.addEventListener("drop", (event) => {
      room.classList.remove("dropping");
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.#share(event.dataTransfer.files);
    });
  }
}
