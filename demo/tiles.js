// The call as it is seen: one tile a person, and the buttons for microphone, camera and screen.

import { config } from "./config.js";
import { avatar, byId, element, hueOf, icon, notify, setIcon } from "./ui.js";

const TILE_ASPECT = 16 / 10;
const SPEAKING_LEVEL = 0.02;
const SPEAKING_POLL_MS = 250;

const LINK_TEXT = {
  waiting: () => "Connecting …",
  dialing: () => "Connecting …",
  lost: () => "Connecting again …",
  failed: whyFailed,
};

/** Why there is no link to somebody, and what would help. */
function whyFailed() {
  const hasRelay = config.peer.config.iceServers.flatMap(({ urls }) => urls).some((url) => url.startsWith("turn"));
  return hasRelay
    ? "No path to this browser, not even through the TURN server."
    : "No direct path to this browser: one of the two networks does not let it through. A TURN server would help (the gateway's --turn-url).";
}

export class Tiles {
  #grid = byId("tiles");
  #tiles = new Map(); // peer id -> {root, video, ...}
  #media;
  #onCheck;
  #mine = null;

  constructor(mesh, media, onCheck) {
    this.#media = media;
    this.#onCheck = onCheck;
    mesh.addEventListener("change", ({ detail }) => this.#update(detail.link));
    mesh.addEventListener("gone", ({ detail }) => this.#remove(detail.link));
    media.addEventListener("change", () => this.#updateMine());
    media.addEventListener("trouble", ({ detail }) => notify(detail.text, { level: "error" }));
    this.#button("toggle-mic", () => media.setMic(!media.status.mic));
    this.#button("toggle-camera", () => media.setCamera(!media.status.camera));
    this.#button("toggle-screen", () => media.setScreen(!media.status.screen));
    byId("toggle-screen").hidden = config.mediaAllowed && !config.screenAllowed;
    new ResizeObserver(() => this.#layout()).observe(this.#grid);
    setInterval(() => this.#showSpeaking(mesh), SPEAKING_POLL_MS);
  }

  enter(name) {
    this.#tiles.clear();
    this.#grid.replaceChildren();
    this.#mine = this.#create(`${name} (you)`, name);
    this.#mine.root.classList.add("mine");
    this.#mine.video.muted = true;
    this.#updateMine();
    this.#layout();
  }

  #update(link) {
    let tile = this.#tiles.get(link.peerId);
    if (!tile) {
      tile = this.#create(link.name, link.name);
      tile.root.dataset.peer = link.peerId;
      tile.root.append(this.#checkButton(link));
      this.#tiles.set(link.peerId, tile);
      this.#layout();
    }
    tile.root.dataset.link = link.state;
    const trouble = link.state === "open" && link.present === false ? "Reconnecting to the gateway …" : LINK_TEXT[link.state]?.();
    tile.state.textContent = trouble ?? "";
    tile.state.hidden = !trouble;
    this.#show(tile, link.stream, link.remote);
  }

  #updateMine() {
    const { mic, camera, screen } = this.#media.status;
    this.#press("toggle-mic", mic, mic ? "mic" : "mic-off", mic ? "Mute" : "Unmute");
    this.#press("toggle-camera", camera, camera ? "camera" : "camera-off", camera ? "Stop video" : "Start video");
    this.#press("toggle-screen", screen, "screen", screen ? "Stop sharing" : "Share screen");
    if (this.#mine) this.#show(this.#mine, this.#media.preview, this.#media.status);
  }

  #show(tile, stream, { mic, camera, screen }) {
    const kind = stream && screen ? "screen" : stream && camera ? "camera" : "none";
    tile.root.dataset.video = kind;
    setIcon(tile.mic, mic ? "mic" : "mic-off");
    tile.mic.toggleAttribute("data-muted", !mic);
    if (tile.video.srcObject === stream) return;
    tile.video.srcObject = stream;
    if (stream) tile.video.play().catch((error) => this.#blocked(error, tile.video));
  }

  /** Browsers refuse sound on a page that nobody has touched yet; a click is enough. */
  #blocked(error, video) {
    if (error.name !== "NotAllowedError") return;
    notify("Your browser holds the sound back until you click.", { action: { label: "Play", run: () => video.play() } });
  }

  #create(label, name) {
    const video = element("video", { autoplay: true, playsinline: true });
    const mic = icon("mic-off");
    const stateText = element("p", { class: "tile-state", role: "status", hidden: true });
    const root = element("article", { class: "tile", hue: hueOf(name), "data-video": "none", "aria-label": label },
      element("div", { class: "tile-avatar" }, avatar(name)),
      video,
      stateText,
      element("p", { class: "tile-name" }, mic, element("span", { text: label })));
    this.#grid.append(root);
    return { root, video, mic, state: stateText };
  }

  #checkButton(link) {
    const title = "Send data in every PeerJS serialization and back";
    return element("button", { class: "button small tile-check", type: "button", title, onclick: () => this.#onCheck(link) },
      icon("gauge"), element("span", { text: "Check link" }));
  }

  #remove({ peerId }) {
    this.#tiles.get(peerId)?.root.remove();
    this.#tiles.delete(peerId);
    this.#layout();
  }

  /** As many columns as make the tiles largest. */
  #layout() {
    const count = this.#grid.childElementCount;
    const { clientWidth: width, clientHeight: height } = this.#grid;
    if (!count || !width || !height) return;
    let best = { area: 0 };
    for (let columns = 1; columns <= count; columns += 1) {
      const rows = Math.ceil(count / columns);
      const tileWidth = Math.min(width / columns, (height / rows) * TILE_ASPECT);
      const area = tileWidth * (tileWidth / TILE_ASPECT);
      if (area > best.area * 1.02) best = { columns, rows, area };
    }
    this.#grid.style.setProperty("--columns", best.columns);
    this.#grid.style.setProperty("--rows", best.rows);
  }

  #showSpeaking(mesh) {
    for (const link of mesh.links) {
      const receiver = link.call?.peerConnection?.getReceivers().find(({ track }) => track?.kind === "audio");
      const level = link.remote.mic ? receiver?.getSynchronizationSources()[0]?.audioLevel ?? 0 : 0;
      this.#tiles.get(link.peerId)?.root.classList.toggle("speaking", level > SPEAKING_LEVEL);
    }
  }

  #button(id, run) {
    byId(id).addEventListener("click", async () => {
      byId(id).disabled = true;
      try {
        await run();
      } finally {
        byId(id).disabled = false;
      }
    });
  }

  #press(id, pressed, iconName, label) {
    const button = byId(id);
    button.setAttribute("aria-pressed", pressed);
    button.setAttribute("aria-label", label);
    setIcon(button.querySelector(".icon"), iconName);
    button.querySelector("span").textContent = label;
  }
}
