// The PeerJS side: one Peer that stays connected to the PeerServer.
//
// Events: "status" {state}, "open" {id}, "connection" {connection}, "call" {call},
// "unreachable" {peerId}, "trouble" {text}.

import { record, state, expose } from "./state.js";

const RETRY_MS = [200, 1000, 2000, 4000, 8000, 15000];

export class Peering extends EventTarget {
  #options;
  #retries = 0;
  #timer = null;

  constructor(options) {
    super();
    this.#options = options;
    this.peer = null;
    /** Kept while disconnected, so that others still know us by it. */
    this.id = null;
    expose("peer", () => this.peer);
    expose("peerOptions", () => this.#options);
    window.addEventListener("online", () => this.hurry());
  }

  get open() {
    return Boolean(this.peer?.open);
  }

  start() {
    const peer = new Peer({ ...this.#options });
    this.peer = peer;
    this.#status("wait");
    peer.on("open", (id) => this.#opened(id));
    peer.on("connection", (connection) => this.#emit("connection", { connection }));
    peer.on("call", (call) => this.#emit("call", { call }));
    peer.on("disconnected", () => this.#lost());
    peer.on("close", () => this.#lost());
    peer.on("error", (error) => this.#failed(error));
  }

  /** For connections to come, and for those that are there, whose credentials would end otherwise. */
  useIceServers(iceServers) {
    this.#options.config.iceServers = iceServers;
    for (const { peerConnection } of Object.values(this.peer?.connections ?? {}).flat()) {
      if (peerConnection && peerConnection.signalingState !== "closed") peerConnection.setConfiguration({ iceServers });
    }
  }

  /** The gateway seems to be back: do not wait for the next try. */
  hurry() {
    if (this.#timer !== null) this.#retry(0);
  }

  #opened(id) {
    this.#retries = 0;
    this.id = id;
    state.peerId = id;
    state.peerOpen = true;
    record("peer-open", { id });
    this.#status("on");
    this.#emit("open", { id });
  }

  #lost() {
    if (state.peerOpen) record("peer-disconnected", { id: this.id });
    state.peerOpen = false;
    this.#status("wait");
    if (this.#timer === null) this.#retry(RETRY_MS[Math.min(this.#retries, RETRY_MS.length - 1)]);
  }

  #retry(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#retries += 1;
      // A Peer that never opened is destroyed by its first error and cannot be used again.
      if (this.peer.destroyed) this.start();
      else if (this.peer.disconnected) this.peer.reconnect();
    }, delay);
  }

  #failed(error) {
    switch (error.type) {
      case "browser-incompatible":
        this.#emit("trouble", { text: "This browser cannot make direct connections (WebRTC is missing or switched off)." });
        break;
      case "peer-unavailable":
        this.#emit("unreachable", { peerId: /peer (.+)$/.exec(error.message)?.[1] });
        break;
      case "unavailable-id":
        // Somebody else holds our id by now: go on under a new one.
        this.peer.destroy();
        break;
      default:
        // Losing the server is shown by the lamp and followed by "disconnected" or "close";
        // a connection that cannot be set up is missed, and tried again, by whoever opened it.
        break;
    }
  }

  #status(value) {
    this.#emit("status", { state: value });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
