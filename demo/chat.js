// Text chat: each message goes to every member over the direct links and is kept nowhere else.

import { byId, element, hueOf } from "./ui.js";
import { state } from "./state.js";

const TEXT_LIMIT = 2000;
const SHOWN_LIMIT = 500;

export class Chat {
  #mesh;
  #list = byId("messages");
  #previous = null;
  #unread = 0;

  constructor(mesh) {
    this.#mesh = mesh;
    mesh.on("chat", ({ text }, link) => this.#add(link.name, String(text).slice(0, TEXT_LIMIT)));
    byId("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(byId("chat-text"));
    });
    byId("tabs").querySelector('[data-show="chat"]').addEventListener("click", () => this.#badge(0));
  }

  enter() {
    this.#list.replaceChildren();
    this.#previous = null;
    this.#badge(0);
    state.chat = [];
  }

  /** A line about what happened in the room. */
  notice(text) {
    this.#previous = null;
    this.#append(element("li", { class: "message-notice", text }));
  }

  #send(input) {
    const text = input.value.trim();
    if (!text) return;
    input.value = "";
    this.#mesh.broadcast({ type: "chat", text });
    this.#add(state.name, text, true);
  }

  #add(from, text, mine = false) {
    state.chat.push({ from, text });
    const author = `${mine} ${from}`;
    const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const classes = ["message", mine && "mine", author === this.#previous && "follows"].filter(Boolean).join(" ");
    this.#previous = author;
    this.#append(element("li", { class: classes },
      element("p", { class: "message-from", hue: hueOf(from) }, mine ? "You" : from, element("time", { text: time })),
      element("span", { class: "message-text", text })));
    if (!mine) this.#badge(this.#unread + 1);
  }

  #append(node) {
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 60;
    this.#list.append(node);
    while (this.#list.childElementCount > SHOWN_LIMIT) this.#list.firstElementChild.remove();
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** Counts what came while another panel was open (small screens). */
  #badge(count) {
    this.#unread = byId("room").dataset.panel === "chat" ? 0 : count;
    byId("chat-badge").textContent = this.#unread;
    byId("chat-badge").hidden = this.#unread === 0;
  }
}
