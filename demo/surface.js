// The plane that the whiteboard, the cursors and the game share. It has units of its own, so that a point means the
// same place on every screen: at least 1600 x 900 are always in view, and more where somebody with a screen of another
// shape has drawn further out. The middle never moves.

import { byId } from "./ui.js";

export const WORLD = { width: 1600, height: 900 };
const FARTHEST = 6000;

export class Surface extends EventTarget {
  root = byId("surface");
  scale = 1;
  width = 0;
  height = 0;
  #reach = { x: WORLD.width / 2, y: WORLD.height / 2 }; // what must be in view, from the middle

  constructor() {
    super();
    new ResizeObserver(() => this.#measure()).observe(this.root);
    this.#measure();
  }

  get mode() {
    return this.root.dataset.mode;
  }

  /** Units of the plane under a pointer event, whole numbers. */
  toWorld({ clientX, clientY }) {
    const box = this.root.getBoundingClientRect();
    return {
      x: Math.round((clientX - box.left - this.width / 2) / this.scale + WORLD.width / 2),
      y: Math.round((clientY - box.top - this.height / 2) / this.scale + WORLD.height / 2),
    };
  }

  /** Pixels from the surface's top left corner. */
  toScreen({ x, y }) {
    return {
      x: (x - WORLD.width / 2) * this.scale + this.width / 2,
      y: (y - WORLD.height / 2) * this.scale + this.height / 2,
    };
  }

  /** Brings `points` (x, y, x, y ...) into view. */
  include(points) {
    const { x, y } = this.#reach;
    for (let i = 0; i < points.length; i += 2) {
      this.#reach.x = Math.max(this.#reach.x, Math.abs(points[i] - WORLD.width / 2));
      this.#reach.y = Math.max(this.#reach.y, Math.abs(points[i + 1] - WORLD.height / 2));
    }
    if (this.#reach.x !== x || this.#reach.y !== y) this.#measure();
  }

  reset() {
    this.#reach = { x: WORLD.width / 2, y: WORLD.height / 2 };
    this.#measure();
  }

  #measure() {
    this.width = this.root.clientWidth;
    this.height = this.root.clientHeight;
    this.scale = Math.min(this.width / this.#reach.x, this.height / this.#reach.y) / 2 || 1;
    this.dispatchEvent(new Event("resize"));
  }
}

/** Whether `value` is a coordinate that the plane has. */
export function isCoordinate(value) {
  return Math.abs(value) <= FARTHEST && typeof value === "number";
}

export function isPoint(value) {
  return isCoordinate(value?.x) && isCoordinate(value?.y);
}
