// Light or dark: what the system prefers (the style sheet follows it by itself), until the user chooses.

import { byId } from "./ui.js";

const KEY = "signalbox-theme";
const preference = window.matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : preference.matches;
}

/** Calls `listener` whenever light turns dark or dark light. */
export function onThemeChange(listener) {
  preference.addEventListener("change", listener);
  new MutationObserver(listener).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}

export function startTheme() {
  let chosen = null;
  try { chosen = localStorage.getItem(KEY); } catch { /* private windows may refuse */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  byId("theme").addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem(KEY, next); } catch { /* as above */ }
  });
}
