// The page: connects both protocols, shows one of three views, and puts the parts together.
//
//   config, state, ui, theme     where the gateway is; what tests may look at; helpers; light and dark
//   signaling, peering           the two connections to the gateway: Socket.IO and PeerJS
//   lobby                        who is here, and which rooms are open
//   room, mesh, link             being in a room; a direct link to everybody in it; one such link
//   media, tiles                 what we send into the call; what we see of it
//   chat, check                  text; a test of one link in every serialization
//   surface, board, cursors, game    the plane for drawing, pointing and playing
//   files, transfer, sha256(-worker) sharing files; one transfer; its checksum

import { answerEchoes } from "./check.js";
import { config } from "./config.js";
import { cleanRoomName, Lobby, LOBBY } from "./lobby.js";
import { Media } from "./media.js";
import { Peering } from "./peering.js";
import { Room } from "./room.js";
import { Signaling } from "./signaling.js";
import { state } from "./state.js";
import { startTheme } from "./theme.js";
import { byId, notify } from "./ui.js";

const NAME_KEY = "signalbox-name";
const OUTAGE_GRACE_MS = 1500;
const SIGNAL_TEXT = { on: "connected", wait: "connecting", off: "off" };

startTheme();
const missing = Object.entries({ "socket.io-client": window.io, "peerjs": window.Peer }).filter(([, library]) => !library).map(([name]) => name).join(" and ");
if (missing) {
  const hosts = [...document.scripts].filter(({ src }) => src).map(({ src }) => new URL(src).host);
  const from = hosts.find((host) => host !== location.host) ?? location.host;
  showBanner(`This page needs ${missing}, which did not load from ${from}. Start the gateway with --vendor-dir DIR, the dist files of both npm packages, and it serves them itself.`);
  byId("enter-button").disabled = true;
  throw new Error(`${missing} did not load from ${from}`);
}

const signaling = new Signaling(config);
const peering = new Peering(config.peer);
const media = new Media();
const room = new Room(signaling, peering, media);
const lobby = new Lobby(signaling, enterRoom);
answerEchoes(peering);
signaling.addEventListener("ice-servers", ({ detail }) => peering.useIceServers(detail.iceServers));

const signals = {}; // what each lamp shows
let outageTimer = null;
let knownAs = null; // the peer id that the others were told

/** What the others in the lobby and in the room get to know of us. */
const profile = () => ({ peerId: peering.id, name: state.name, inRoom: state.room });

function show(view) {
  state.view = document.body.dataset.view = view;
  byId("where").hidden = byId("leave-room").hidden = view !== "room";
  byId("where-room").textContent = state.room ?? "";
  document.title = view === "room" ? `${state.room} · Signalbox` : "Signalbox";
}

/** The room that the page's address names. Addresses are typed, too: what is no encoding stands for itself. */
function roomOfAddress() {
  const text = location.hash.slice(1);
  try {
    return cleanRoomName(decodeURIComponent(text));
  } catch {
    return cleanRoomName(text);
  }
}

function enterRoom(name) {
  if (state.room === name) return;
  if (state.room) room.leave();
  room.enter(name, profile());
  signaling.join(LOBBY, profile());
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  show("room");
}

function leaveRoom() {
  room.leave();
  signaling.join(LOBBY, profile());
  history.replaceState(null, "", location.pathname + location.search);
  show("lobby");
  lobby.render();
}

function enterLobby() {
  signaling.join(LOBBY, profile());
  show("lobby");
  lobby.render();
  const wanted = roomOfAddress();
  if (wanted) enterRoom(wanted);
}

/** The first open lets us in; a later one matters when it came with another id. */
function peerOpened() {
  if (peering.id === knownAs) return;
  knownAs = peering.id;
  if (state.view === "welcome") return enterLobby();
  signaling.join(LOBBY, profile());
  if (state.room) room.introduce(profile());
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim().replace(/\s+/g, " ");
  if (!name || state.name) return;
  state.name = name;
  try { localStorage.setItem(NAME_KEY, name); } catch { /* private windows may refuse */ }
  byId("enter-button").disabled = true;
  byId("enter-hint").textContent = "Asking the gateway for an id …";
  peering.addEventListener("open", peerOpened);
  peering.start();
});

byId("leave-room").addEventListener("click", leaveRoom);
byId("copy-link").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    notify("The link is copied. Whoever opens it comes straight here.");
  } catch {
    notify(`Copy this link: ${location.href}`);
  }
});
window.addEventListener("hashchange", () => {
  const wanted = roomOfAddress();
  if (wanted && state.view !== "welcome") enterRoom(wanted);
});

// Leaving the page leaves the room; a page brought back from the browser's cache starts anew.
window.addEventListener("pagehide", () => state.room && room.leave());
window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

showSignal("signal-socketio", { state: "wait" });
signaling.addEventListener("status", ({ detail }) => {
  showSignal("signal-socketio", detail);
  if (detail.state === "on") peering.hurry();
});
signaling.addEventListener("refused", ({ detail }) => notify(`The gateway refused “${detail.event}”: ${detail.hint ?? detail.error}.`, { level: "error" }));
peering.addEventListener("status", ({ detail }) => showSignal("signal-peerjs", detail));
peering.addEventListener("trouble", ({ detail }) => notify(detail.text, { level: "error" }));

function showSignal(id, { state: value, transport }) {
  signals[id] = value;
  const signal = byId(id);
  signal.dataset.state = value;
  signal.querySelector(".signal-text").textContent = transport ?? SIGNAL_TEXT[value];
  signal.title = { "signal-socketio": `socket ${signaling.id ?? "none"}`, "signal-peerjs": `peer ${peering.id ?? "none"}` }[id];
  clearTimeout(outageTimer);
  if (!Object.values(signals).includes("wait")) return showBanner(null);
  outageTimer = setTimeout(() => showBanner(state.room
    ? "The gateway is out of reach; trying again. Whoever you already see stays connected to you directly."
    : "The gateway is out of reach; trying again."), OUTAGE_GRACE_MS);
}

function showBanner(text) {
  byId("banner").textContent = text ?? "";
  byId("banner").hidden = !text;
}

try { byId("name").value = new URLSearchParams(location.search).get("name") ?? localStorage.getItem(NAME_KEY) ?? ""; } catch { /* as above */ }
byId("name").focus();
