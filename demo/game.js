// "Catch the light": a light goes up somewhere on the surface, and the first cursor to touch it scores.
//
// One member is the referee: the one with the smallest peer id among those in reach. The referee places the light and
// counts; every state it announces has a number, so when it leaves, the next one goes on from the last state heard.

import { byId, element } from "./ui.js";
import { isPoint, WORLD } from "./surface.js";
import { state } from "./state.js";

const RADIUS = 62;
const GOAL = 10;
const MARGIN = 140;

export class Game {
  #mesh;
  #surface;
  #light = byId("light");
  #round = { number: 0, at: null, scores: {} };

  constructor(mesh, surface, cursors, announce) {
    this.#mesh = mesh;
    this.#surface = surface;
    this.announce = announce;
    cursors.onMove = (peerId, at) => peerId === state.peerId && this.#touch(at);
    mesh.on("light", (message) => this.#adopt(message));
    mesh.on("catch", ({ number }, link) => this.#caught(number, link.peerId));
    mesh.addEventListener("open", ({ detail }) => this.#round.at && detail.link.send({ type: "light", ...this.#round }));
    mesh.addEventListener("gone", () => this.#render());
    surface.addEventListener("resize", () => this.#render());
    // A pointer catches by touching; Enter and Space make clicks without a pointer.
    this.#light.addEventListener("click", ({ detail }) => detail === 0 && this.#catch());
    byId("tab-board").addEventListener("click", () => this.#mode("board"));
    byId("tab-game").addEventListener("click", () => this.#mode("game"));
  }

  enter() {
    this.#round = { number: 0, at: null, scores: {} };
    this.#mode("board");
  }

  get #referee() {
    return [state.peerId, ...this.#mesh.openLinks.map(({ peerId }) => peerId)].sort()[0];
  }

  #mode(mode) {
    this.#surface.root.dataset.mode = mode;
    byId("tab-board").setAttribute("aria-pressed", mode === "board");
    byId("tab-game").setAttribute("aria-pressed", mode === "game");
    byId("board-tools").hidden = mode === "game";
    byId("score").hidden = mode === "board";
    if (mode === "game" && !this.#round.at) this.#catch();
    this.#render();
  }

  #touch(at) {
    const light = this.#round.at;
    if (this.#surface.mode !== "game" || !light || Math.hypot(at.x - light.x, at.y - light.y) > RADIUS) return;
    this.#catch();
  }

  /** Tells the referee that we have it; in the very first round, that we want a light. */
  #catch() {
    const { number } = this.#round;
    if (this.#referee === state.peerId) this.#caught(number, state.peerId);
    else this.#mesh.link(this.#referee)?.send({ type: "catch", number });
  }

  /** The referee's part: only the first to name the present round scores. */
  #caught(number, by) {
    if (this.#referee !== state.peerId || number !== this.#round.number) return;
    const scores = { ...this.#round.scores };
    if (this.#round.at) scores[by] = (scores[by] ?? 0) + 1;
    const won = scores[by] >= GOAL;
    const place = (size) => Math.round(MARGIN + Math.random() * (size - 2 * MARGIN));
    const next = { number: number + 1, at: { x: place(WORLD.width), y: place(WORLD.height) }, scores: won ? {} : scores, winner: won ? by : null };
    this.#mesh.broadcast({ type: "light", ...next });
    this.#adopt(next);
  }

  #adopt({ number, at, scores, winner }) {
    if (!(number > this.#round.number) || !isPoint(at)) return;
    this.#round = { number, at, scores: { ...scores } };
    if (winner) this.announce(`${this.#name(winner)} won the round of Catch the light.`);
    this.#render();
  }

  #render() {
    const { at, scores } = this.#round;
    state.scores = scores;
    this.#light.hidden = this.#surface.mode !== "game" || !at;
    if (at) {
      const { x, y } = this.#surface.toScreen(at);
      this.#light.style.transform = `translate(${x}px, ${y}px)`;
    }
    if (this.#surface.mode === "game") byId("surface-hint").textContent = "";
    const ranking = Object.entries(scores).sort(([, a], [, b]) => b - a).slice(0, 4);
    byId("score").replaceChildren(...ranking.map(([peerId, points], index) =>
      element("span", { class: index === 0 ? "leader" : null }, `${this.#name(peerId)} `, element("b", { text: points }))));
    if (!ranking.length) byId("score").textContent = `First to ${GOAL} wins`;
  }

  #name(peerId) {
    return peerId === state.peerId ? "You" : this.#mesh.link(peerId)?.name ?? "Someone";
  }
}
