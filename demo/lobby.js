// The lobby: who is here, and which rooms are open. A room exists while somebody says, in the lobby, to be in it.

import { avatar, byId, element, notify, showList } from "./ui.js";
import { state } from "./state.js";

export const LOBBY = "lobby";
const ROOM_LIMIT = 40;

export function cleanRoomName(text) {
  return String(text).trim().replace(/\s+/g, " ").slice(0, ROOM_LIMIT);
}

export class Lobby {
  #signaling;
  #enterRoom;

  constructor(signaling, enterRoom) {
    this.#signaling = signaling;
    this.#enterRoom = enterRoom;
    for (const type of ["members", "joined", "updated", "left"]) {
      signaling.addEventListener(type, ({ detail }) => detail.room === LOBBY && this.render());
    }
    signaling.addEventListener("signal", ({ detail }) => this.#invited(detail));
    byId("new-room").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = cleanRoomName(byId("room-name").value);
      if (!name) return;
      byId("room-name").value = "";
      enterRoom(name);
    });
  }

  render() {
    const people = this.#signaling.members(LOBBY)
      .filter(({ name, peerId }) => typeof name === "string" && typeof peerId === "string")
      .map(({ inRoom, ...person }) => ({ ...person, inRoom: cleanRoomName(inRoom ?? "") || null }))
      .sort((a, b) => a.name.localeCompare(b.name));
    state.lobby = people.map(({ id, peerId, name, inRoom }) => ({ id, peerId, name, inRoom }));
    byId("people-count").textContent = people.length + 1;
    const shown = [{ id: "you", name: state.name, where: "That is you" }, ...people.map((person) => (
      { ...person, where: person.inRoom ? `in ${person.inRoom}` : "in the lobby", isOther: true }))];
    showList(byId("people"), shown, ({ id }) => id, (person) => this.#person(person), updatePerson);
    this.#renderRooms(people);
  }

  #person({ id, name, isOther }) {
    const enterOrInvite = ({ currentTarget: { dataset: { room } } }) => (room ? this.#enterRoom(room) : this.#invite(id, name));
    return element("li", { class: "person" },
      avatar(name),
      element("span", { class: "person-text" },
        element("span", { class: "person-name", text: name }),
        element("span", { class: "person-where" })),
      isOther && element("button", { class: "button small", type: "button", onclick: enterOrInvite }));
  }

  #renderRooms(people) {
    const rooms = [...Map.groupBy(people.filter(({ inRoom }) => inRoom), ({ inRoom }) => inRoom)]
      .map(([room, members]) => ({ room, names: members.map(({ name }) => name) }))
      .sort((a, b) => a.room.localeCompare(b.room));
    showList(byId("rooms"), rooms, ({ room }) => room, ({ room }) => this.#card(room), updateCard);
    byId("rooms-empty").hidden = rooms.length > 0;
  }

  #card(room) {
    return element("li", { class: "card room-card", "data-room": room },
      element("div", {},
        element("h3", { text: room }),
        element("p", { class: "room-who" })),
      element("footer", {},
        element("span", { class: "avatars" }),
        element("button", { class: "button small", type: "button", text: "Enter", "aria-label": `Enter ${room}`, onclick: () => this.#enterRoom(room) })));
  }

  async #invite(id, name) {
    const room = cleanRoomName(`${state.name} & ${name}`);
    const there = await this.#signaling.signal(id, { type: "invite", room });
    if (!there) return notify(`${name} has just left.`);
    this.#enterRoom(room);
  }

  #invited({ from, data }) {
    const person = state.lobby.find(({ id }) => id === from);
    const room = cleanRoomName(data?.room ?? "");
    if (data?.type !== "invite" || !person || !room) return;
    notify(`${person.name} invites you to “${room}”.`, { action: { label: "Join", run: () => this.#enterRoom(room) } });
  }
}

function updatePerson(node, { name, where, inRoom }) {
  node.querySelector(".person-name").textContent = name;
  node.querySelector(".person-where").textContent = where;
  const button = node.querySelector("button");
  if (!button) return;
  button.dataset.room = inRoom ?? "";
  button.textContent = inRoom ? "Join" : "Invite";
  button.setAttribute("aria-label", inRoom ? `Join ${name} in ${inRoom}` : `Invite ${name} to a room`);
}

function updateCard(node, { names }) {
  const more = names.length > 2 ? ` and ${names.length - 2} more` : "";
  node.querySelector(".room-who").textContent = names.slice(0, 2).join(", ") + more;
  node.querySelector(".avatars").replaceChildren(...names.slice(0, 4).map(avatar));
}
