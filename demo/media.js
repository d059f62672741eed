// What this client sends into a call: a microphone and a camera or screen, each of which may be off.
//
// A call always carries one audio and one video track, so that switching a device on or off replaces
// a track and never renegotiates: while a device is off its place is held by silence or an empty picture.
//
// Events: "change" (the status), "tracks" (replace them in every call), "trouble" {text}.

import { config } from "./config.js";

const INSECURE = "Browsers lend camera and microphone only to pages served over https or from localhost.";

export class Media extends EventTarget {
  #silence = null;
  #blank = null;
  #microphone = null;
  #picture = null; // the camera's or the screen's track
  #session = 0; // counts stop(), so that a device granted too late is given back
  #profile = { width: 1280, height: 720, frameRate: 24 };

  status = { mic: false, camera: false, screen: false };

  get active() {
    return this.status.mic || this.status.camera || this.status.screen;
  }

  /** The tracks to send now: always one audio, one video. */
  get tracks() {
    return [this.#microphone ?? (this.#silence ??= silentTrack()), this.#picture ?? (this.#blank ??= blankTrack())];
  }

  /** What the camera or screen shows, for the own tile. */
  get preview() {
    return this.#picture ? new MediaStream([this.#picture]) : null;
  }

  async setMic(on) {
    if (on && !this.#microphone) {
      this.#microphone = await this.#acquire("microphone", () => navigator.mediaDevices.getUserMedia({ audio: true }));
      if (!this.#microphone) return;
      this.#microphone.onended = () => { this.#microphone = null; this.#set({ mic: false }); };
    }
    if (this.#microphone) this.#microphone.enabled = on;
    this.#set({ mic: on });
  }

  async setCamera(on) {
    const constraints = { video: { ...this.#profile, facingMode: "user" } };
    await this.#setPicture(on ? "camera" : null, () => navigator.mediaDevices.getUserMedia(constraints));
  }

  async setScreen(on) {
    await this.#setPicture(on ? "screen" : null, () => navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 12 } }));
  }

  /** In a mesh everybody uploads once per listener: the more people, the smaller the picture. */
  adaptTo(people) {
    const [width, height, frameRate] = people <= 2 ? [1280, 720, 24] : people <= 4 ? [640, 360, 20] : [480, 270, 15];
    if (this.#profile.width === width) return;
    this.#profile = { width, height, frameRate };
    if (this.status.camera) this.#picture.applyConstraints(this.#profile).catch(() => {});
  }

  stop() {
    this.#session += 1;
    this.#microphone?.stop();
    this.#picture?.stop();
    this.#microphone = this.#picture = null;
    this.#set({ mic: false, camera: false, screen: false });
  }

  async #setPicture(kind, open) {
    const track = kind ? await this.#acquire(kind, open) : null;
    if (kind && !track) return;
    this.#picture?.stop();
    this.#picture = track;
    if (track) track.onended = () => { if (this.#picture === track) this.#setPicture(null); };
    this.#set({ camera: kind === "camera", screen: kind === "screen" });
  }

  async #acquire(device, open) {
    if (!config.mediaAllowed) {
      this.#trouble(INSECURE);
      return null;
    }
    const session = this.#session;
    try {
      const [track] = (await open()).getTracks();
      if (session === this.#session) return track;
      track.stop();
      return null;
    } catch (error) {
      this.#trouble(explain(device, error));
      return null;
    }
  }

  #set(change) {
    Object.assign(this.status, change);
    this.dispatchEvent(new Event("tracks"));
    this.dispatchEvent(new Event("change"));
  }

  #trouble(text) {
    this.dispatchEvent(new CustomEvent("trouble", { detail: { text } }));
  }
}

function explain(device, error) {
  const rest = "You stay in the room, and see and hear everyone.";
  switch (error.name) {
    case "NotAllowedError":
      return device === "screen" ? "The screen was not shared." : `The browser did not allow the ${device}. ${rest}`;
    case "NotFoundError":
    case "OverconstrainedError":
      return `No ${device} was found. ${rest}`;
    case "NotReadableError":
      return `The ${device} is in use by another program. ${rest}`;
    default:
      return `The ${device} could not be started (${error.name}). ${rest}`;
  }
}

function silentTrack() {
  return new AudioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
}

function blankTrack() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 16;
  canvas.getContext("2d").fillRect(0, 0, 16, 16);
  return canvas.captureStream(0).getVideoTracks()[0];
}
