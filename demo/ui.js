// Small helpers for the document: elements, icons, avatars, toasts.

import { state } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";
const TOAST_MS = 6000;

export const byId = (id) => document.getElementById(id);

/** Creates an element; `props` are attributes, except `on*` (listeners), `text` and `hue`. */
export function element(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "hue") node.style.setProperty("--hue", value);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

/**
 * Makes `list` show `items`, in order. An element stays in place for as long as there is an item with its key: one that is
 * replaced or moved between the press and the release of a button loses the click.
 */
export function showList(list, items, keyOf, create, update) {
  const known = new Map(Array.from(list.children, (node) => [node.dataset.key, node]));
  const wanted = new Set(items.map(keyOf));
  for (const [key, node] of known) if (!wanted.has(key)) node.remove();
  let next = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = known.get(key);
    if (!node) {
      node = create(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === next) next = next.nextElementSibling;
    else list.insertBefore(node, next);
  }
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "use"));
  setIcon(svg, name);
  return svg;
}

export function setIcon(svg, name) {
  svg.firstElementChild.setAttribute("href", `./icons.svg#${name}`);
}

/** FNV-1a, 32 bits. */
export function hashOf(text) {
  let hash = 2166136261;
  for (const char of String(text)) hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
  return hash;
}

/** The same person has the same colour on every screen. */
export function hueOf(name) {
  return (hashOf(name) >>> 3) % 360;
}

export function avatar(name) {
  const words = name.trim().split(/\s+/);
  const initials = words.length > 1 ? words[0][0] + words.at(-1)[0] : [...words[0]].slice(0, 2).join("");
  return element("span", { class: "avatar", hue: hueOf(name), text: initials.toUpperCase(), "aria-hidden": "true" });
}

/** Tells the user something. `action` is an optional {label, run}. */
export function notify(text, { level = "info", action } = {}) {
  state.notices.push({ level, text });
  const shown = byId("toasts");
  for (const toast of shown.children) if (toast.firstElementChild.textContent === text) toast.remove();
  const toast = element("div", { class: "toast", "data-level": level }, element("span", { text }));
  if (action) {
    toast.append(element("button", { class: "button small", type: "button", text: action.label, onclick: () => { toast.remove(); action.run(); } }));
  }
  shown.append(toast);
  setTimeout(() => toast.remove(), action ? TOAST_MS * 3 : TOAST_MS);
}

export function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const unit = Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  const value = bytes / 1000 ** unit;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}

/** Runs `callback` at most once per frame, with the latest arguments. */
export function perFrame(callback) {
  let latest = null;
  return (...args) => {
    if (!latest) requestAnimationFrame(() => { const now = latest; latest = null; callback(...now); });
    latest = args;
  };
}
