// The shared whiteboard. A stroke belongs to whoever drew it and has an id, and its points come with their place in it:
// so hearing of it twice, or in another order over another link, changes nothing.

import { byId, element, hashOf, icon, perFrame } from "./ui.js";
import { state } from "./state.js";
import { isCoordinate } from "./surface.js";
import { isDark, onThemeChange } from "./theme.js";

const INKS = [
  { name: "ink", light: "#1b2430", dark: "#e7ecf2" },
  { name: "green", light: "#0b8a63", dark: "#3dd19c" },
  { name: "blue", light: "#2563c9", dark: "#79aaff" },
  { name: "amber", light: "#d98310", dark: "#f5b659" },
  { name: "red", light: "#cc4036", dark: "#ff8a80" },
];
const NIBS = [4, 9, 18];
const MAX_STROKES = 4000;
const MAX_POINTS = 8000; // of one stroke, x and y counted apart
const ERASER_RADIUS = 14;

export class Board {
  #mesh;
  #surface;
  #canvas = byId("board");
  #context = this.#canvas.getContext("2d");
  #strokes = new Map(); // id -> {id, ink, nib, points: [x, y, ...], owner}
  #tool = "pen";
  #ink = 0;
  #nib = 0;
  #current = null;
  #pending = [];
  #count = 0;
  #toAsk = []; // links whose drawing may differ from ours
  #asked = null;
  #redraw = perFrame(() => this.#draw());
  #flush = perFrame(() => this.#sendPending());

  constructor(mesh, surface) {
    this.#mesh = mesh;
    this.#surface = surface;
    surface.addEventListener("resize", () => this.#resize());
    this.#resize();
    this.#listen();
    this.#toolbar();
    onThemeChange(this.#redraw);

    mesh.on("stroke", (message, link) => this.#received(message, link.peerId));
    mesh.on("board-remove", ({ ids }) => this.#remove(ids));
    mesh.on("board-clear", () => this.#clear());
    mesh.on("board-wanted", ({ digest }, link) => this.#answer(digest, link));
    mesh.on("board", ({ strokes }, link) => {
      for (const stroke of strokes) this.#received({ ...stroke, at: 0 }, stroke.owner);
      this.#askNext(link);
    });
    mesh.addEventListener("open", ({ detail }) => this.#ask(detail.link));
    mesh.addEventListener("gone", ({ detail }) => this.#askNext(detail.link));
  }

  enter() {
    this.#clear();
    this.#toAsk = [];
    this.#asked = null;
  }

  /** Who dials is new in the room: it asks everybody for the drawing, one after the other, since most have the same. */
  #ask(link) {
    if (!link.dialer) return;
    this.#toAsk.push(link);
    if (!this.#asked) this.#askNext(null);
  }

  #askNext(answered) {
    if (this.#asked !== answered) return;
    this.#asked = this.#toAsk.shift() ?? null;
    if (this.#asked && this.#mesh.link(this.#asked.peerId) !== this.#asked) return this.#askNext(this.#asked);
    this.#asked?.send({ type: "board-wanted", digest: digest(this.#strokes) });
  }

  #answer(theirs, link) {
    link.send({ type: "board", strokes: theirs === digest(this.#strokes) ? [] : [...this.#strokes.values()] });
  }

  #received({ id, ink, nib, points, at }, owner) {
    if (typeof id !== "string" || !Array.isArray(points) || points.length % 2 || !points.every(isCoordinate)) return;
    let stroke = this.#strokes.get(id);
    if (!stroke) {
      if (this.#strokes.size >= MAX_STROKES) return;
      stroke = { id, ink: INKS[ink] ? ink : 0, nib: NIBS[nib] ? nib : 0, points: [], owner: String(owner) };
      this.#strokes.set(id, stroke);
    }
    if (!(at >= 0 && at <= stroke.points.length && at + points.length <= MAX_POINTS)) return;
    stroke.points.splice(at, points.length, ...points);
    this.#surface.include(points);
    this.#changed();
  }

  #listen() {
    const root = this.#surface.root;
    root.addEventListener("pointerdown", (event) => {
      if (this.#surface.mode !== "board" || event.button !== 0) return;
      root.setPointerCapture(event.pointerId);
      if (this.#tool === "eraser") this.#current = "erasing";
      else this.#begin();
      this.#move(event);
    });
    root.addEventListener("pointermove", (event) => {
      if (!this.#current) return;
      for (const step of event.getCoalescedEvents?.() ?? [event]) this.#move(step);
    });
    for (const type of ["pointerup", "pointercancel"]) root.addEventListener(type, () => this.#end());
  }

  #begin() {
    this.#count += 1;
    const id = `${state.peerId}.${this.#count}`;
    this.#current = { id, ink: this.#ink, nib: this.#nib, points: [], owner: state.peerId };
    this.#strokes.set(id, this.#current);
  }

  #move(event) {
    const { x, y } = this.#surface.toWorld(event);
    if (this.#current === "erasing") return this.#erase(x, y);
    if (this.#current.points.length + 2 > MAX_POINTS) return;
    if (!isCoordinate(x) || !isCoordinate(y)) return;
    this.#current.points.push(x, y);
    this.#pending.push(x, y);
    this.#flush();
    this.#changed();
  }

  #end() {
    if (!this.#current) return;
    this.#sendPending();
    if (this.#current !== "erasing") this.#surface.include(this.#current.points);
    this.#current = null;
  }

  #sendPending() {
    if (!this.#pending.length || !this.#current || this.#current === "erasing") return;
    const { id, ink, nib, points } = this.#current;
    this.#mesh.broadcast({ type: "stroke", id, ink, nib, at: points.length - this.#pending.length, points: this.#pending });
    this.#pending = [];
  }

  #erase(x, y) {
    const hit = [...this.#strokes.values()].filter(({ points, nib }) => touches(points, x, y, ERASER_RADIUS + NIBS[nib] / 2));
    if (hit.length) this.#removeEverywhere(hit.map(({ id }) => id));
  }

  #undo() {
    const mine = [...this.#strokes.values()].findLast(({ owner }) => owner === state.peerId);
    if (mine) this.#removeEverywhere([mine.id]);
  }

  #removeEverywhere(ids) {
    this.#mesh.broadcast({ type: "board-remove", ids });
    this.#remove(ids);
  }

  #remove(ids) {
    for (const id of ids) this.#strokes.delete(id);
    this.#changed();
  }

  #clear() {
    this.#strokes.clear();
    this.#surface.reset();
    this.#changed();
  }

  #changed() {
    state.strokes = this.#strokes.size;
    byId("surface-hint").textContent = this.#strokes.size || this.#surface.mode !== "board" ? "" : "Draw here. Everyone in the room sees it at once.";
    this.#redraw();
  }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(this.#surface.width * ratio);
    this.#canvas.height = Math.round(this.#surface.height * ratio);
    this.#draw();
  }

  #draw() {
    const { width, height } = this.#canvas;
    const context = this.#context;
    const ratio = window.devicePixelRatio || 1;
    const dark = isDark();
    const origin = this.#surface.toScreen({ x: 0, y: 0 });
    const scale = this.#surface.scale * ratio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(scale, 0, 0, scale, origin.x * ratio, origin.y * ratio);
    context.lineCap = context.lineJoin = "round";
    for (const { ink, nib, points } of this.#strokes.values()) {
      context.strokeStyle = dark ? INKS[ink].dark : INKS[ink].light;
      context.lineWidth = NIBS[nib];
      trace(context, points);
    }
  }

  #toolbar() {
    const choices = [];
    const refresh = () => choices.forEach(({ button, chosen }) => button.setAttribute("aria-pressed", chosen()));
    const choice = (label, content, chosen, run) => {
      const button = element("button", { class: "tool", type: "button", title: label, "aria-label": label, onclick: () => { run(); refresh(); } }, content);
      choices.push({ button, chosen });
      return button;
    };
    const act = (label, name, run) => element("button", { class: "tool", type: "button", title: label, "aria-label": label, onclick: run }, icon(name));
    const divider = () => element("span", { class: "divider" });
    const swatch = ({ name }, index) => {
      const dot = element("span", { class: `swatch ink-${name}` });
      return choice(`Draw in ${name}`, dot, () => this.#tool === "pen" && this.#ink === index, () => { this.#tool = "pen"; this.#ink = index; });
    };
    const nib = (size, index) => {
      const dot = element("span", { class: `nib nib-${index}` });
      return choice(["Fine", "Medium", "Broad"][index] + " pen", dot, () => this.#nib === index, () => { this.#nib = index; });
    };
    byId("board-tools").replaceChildren(
      ...INKS.map(swatch), divider(), ...NIBS.map(nib), divider(),
      choice("Eraser", icon("eraser"), () => this.#tool === "eraser", () => { this.#tool = "eraser"; }),
      act("Undo my last stroke", "undo", () => this.#undo()),
      act("Clear the board for everyone", "trash", () => { this.#mesh.broadcast({ type: "board-clear" }); this.#clear(); }),
    );
    refresh();
  }
}

/** Equal for equal drawings, whatever the order their strokes came in. */
function digest(strokes) {
  let [hash, points] = [0, 0];
  for (const stroke of strokes.values()) {
    hash ^= hashOf(stroke.id);
    points += stroke.points.length;
  }
  return `${strokes.size}.${points}.${hash}`;
}

/** A smooth line: curves through the middles between points, a dot for a single point. */
function trace(context, points) {
  context.beginPath();
  context.moveTo(points[0], points[1]);
  for (let i = 2; i + 3 < points.length; i += 2) {
    context.quadraticCurveTo(points[i], points[i + 1], (points[i] + points[i + 2]) / 2, (points[i + 1] + points[i + 3]) / 2);
  }
  context.lineTo(points.at(-2), points.at(-1));
  context.stroke();
}

/** Whether the line through `points` comes within `radius` of (x, y). */
function touches(points, x, y, radius) {
  for (let i = 0; i < points.length; i += 2) {
    const [ax, ay, bx = ax, by = ay] = points.slice(i, i + 4);
    const [dx, dy] = [bx - ax, by - ay];
    const along = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
    if (Math.hypot(ax + along * dx - x, ay + along * dy - y) <= radius) return true;
  }
  return false;
}
