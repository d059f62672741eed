// Where everybody points: pointer positions on the surface, sent often and dropped when a link is busy.

import { byId, element, hueOf } from "./ui.js";
import { isPoint } from "./surface.js";
import { state } from "./state.js";

const SEND_EVERY_MS = 33;
const ARROW = '<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M2 1.5 17.5 8.2l-6.6 2.3-2.7 6.7z"/></svg>';

export class Cursors {
  #surface;
  #layer = byId("cursors");
  #cursors = new Map(); // peer id -> {node, at}
  /** Called with (peer id, point) for every move, the own ones included. */
  onMove = () => {};

  constructor(mesh, surface) {
    this.#surface = surface;
    let last = 0;
    const moved = (event) => {
      const at = surface.toWorld(event);
      this.onMove(state.peerId, at);
      if (event.timeStamp - last < SEND_EVERY_MS) return;
      last = event.timeStamp;
      mesh.broadcast({ type: "cursor", ...at }, { volatile: true });
    };
    surface.root.addEventListener("pointermove", moved);
    surface.root.addEventListener("pointerdown", moved);
    surface.root.addEventListener("pointerleave", () => mesh.broadcast({ type: "cursor" }));
    surface.addEventListener("resize", () => this.#cursors.forEach((cursor) => this.#place(cursor)));
    mesh.on("cursor", (at, link) => (isPoint(at) ? this.#show(link, at) : this.#hide(link.peerId)));
    mesh.addEventListener("gone", ({ detail }) => this.#hide(detail.link.peerId));
  }

  #show({ peerId, name }, { x, y }) {
    let cursor = this.#cursors.get(peerId);
    if (!cursor) {
      const node = element("div", { class: "cursor", hue: hueOf(name) });
      node.innerHTML = ARROW;
      node.append(element("span", { text: name }));
      this.#layer.append(node);
      cursor = { node };
      this.#cursors.set(peerId, cursor);
    }
    cursor.at = state.cursors[peerId] = { x, y };
    this.#place(cursor);
    this.onMove(peerId, cursor.at);
  }

  #place({ node, at }) {
    const { x, y } = this.#surface.toScreen(at);
    node.style.transform = `translate(${x}px, ${y}px)`;
  }

  #hide(peerId) {
    this.#cursors.get(peerId)?.node.remove();
    this.#cursors.delete(peerId);
    delete state.cursors[peerId];
  }
}
