// One other person in the room: a data connection that is always there, and a call when somebody has something to show.
// Exactly one side, the dialer, opens both; if they break, the same side opens them again.

const OPEN_TIMEOUT_MS = 20000;
const REDIAL_MS = [500, 1000, 2000, 4000, 8000];
/** A person whose Socket.IO connection is gone may just be reconnecting, as long as the direct connection lives. */
const GRACE_MS = 6000;
const VOLATILE_LIMIT = 256 * 1024;

export class Link {
  #mesh;
  #connection = null;
  #call = null;
  #callTimer = null;
  #openTimer = null;
  #redialTimer = null;
  #graceTimer = null;
  #attempts = 0;

  constructor(mesh, peerId, name, dialer) {
    this.#mesh = mesh;
    this.peerId = peerId;
    this.name = name;
    this.dialer = dialer;
    this.state = dialer ? "dialing" : "waiting";
    /** What the gateway says: true in the room, false left, null nothing yet (their connection came first). */
    this.present = null;
    this.remote = { mic: false, camera: false, screen: false };
    this.stream = null;
    if (!dialer) this.#expect();
  }

  get dialing() {
    return this.state === "dialing" && this.#connection !== null;
  }

  get call() {
    return this.#call;
  }

  dial() {
    clearTimeout(this.#redialTimer);
    if (this.#connection) return;
    this.dialer = true;
    this.#setState("dialing");
    const { peering, room, name } = this.#mesh;
    // Without the PeerServer nobody can be dialed; the mesh dials again when it is back.
    if (!peering.open) return;
    this.#attach(peering.peer.connect(this.peerId, { label: "room", reliable: true, serialization: "binary", metadata: { room, name } }));
  }

  /** Takes the connection that the other side opened, instead of whatever was there. */
  accept(connection) {
    this.dialer = false;
    clearTimeout(this.#redialTimer);
    this.#hangUp();
    this.#drop();
    this.#setState("waiting");
    this.#attach(connection);
  }

  answer(call) {
    this.#hangUp();
    this.#adopt(call);
    call.answer(new MediaStream(this.#mesh.media.tracks));
  }

  send(message, { volatile = false } = {}) {
    if (this.state !== "open") return;
    if (volatile && this.#connection.dataChannel.bufferedAmount > VOLATILE_LIMIT) return;
    this.#connection.send(message);
  }

  /** Opens the call once there is something to hear or see on either side. */
  ensureCall() {
    const wanted = this.#mesh.media.active || this.remote.mic || this.remote.camera || this.remote.screen;
    if (!wanted || !this.dialer || this.#call || this.state !== "open" || !this.#mesh.peering.open) return;
    const stream = new MediaStream(this.#mesh.media.tracks);
    this.#adopt(this.#mesh.peering.peer.call(this.peerId, stream, { metadata: { room: this.#mesh.room } }));
  }

  replaceTracks(tracks) {
    for (const sender of this.#call?.peerConnection?.getSenders() ?? []) {
      const track = tracks.find(({ kind }) => kind === sender.track?.kind);
      if (track && track !== sender.track) sender.replaceTrack(track).catch(() => {});
    }
  }

  /** The gateway says that they are (again) in the room. */
  arrived() {
    clearTimeout(this.#graceTimer);
    this.present = true;
    this.#attempts = 0;
    this.#mesh.changed(this);
  }

  departed() {
    this.present = false;
    if (this.state !== "open") return this.#mesh.remove(this);
    clearTimeout(this.#graceTimer);
    this.#graceTimer = setTimeout(() => this.#mesh.remove(this), GRACE_MS);
    this.#mesh.changed(this);
  }

  /** What was tried last came to nothing (no such peer, no path, closed). */
  failed() {
    if (this.state === "open") return;
    this.#drop();
    this.#lost();
  }

  close() {
    for (const timer of [this.#openTimer, this.#redialTimer, this.#graceTimer, this.#callTimer]) clearTimeout(timer);
    this.#hangUp();
    this.#drop();
  }

  #attach(connection) {
    this.#connection = connection;
    const current = () => this.#connection === connection;
    clearTimeout(this.#openTimer);
    this.#openTimer = setTimeout(() => current() && this.failed(), OPEN_TIMEOUT_MS);
    connection.on("open", () => {
      if (!current()) return;
      clearTimeout(this.#openTimer);
      this.#attempts = 0;
      this.#setState("open");
      this.#mesh.opened(this);
    });
    connection.on("data", (message) => current() && this.#mesh.received(this, message));
    connection.on("close", () => current() && this.#broke());
    connection.on("error", () => current() && this.#broke());
  }

  #broke() {
    this.#hangUp();
    this.#drop();
    if (!this.present) return this.#mesh.remove(this);
    this.#lost();
  }

  #lost() {
    if (this.#attempts >= REDIAL_MS.length) return this.#setState("failed");
    this.#setState("lost");
    if (!this.dialer) return this.#expect();
    clearTimeout(this.#redialTimer);
    this.#redialTimer = setTimeout(() => this.dial(), REDIAL_MS[this.#attempts]);
    this.#attempts += 1;
  }

  /** The other side is to dial; say so if nothing comes. */
  #expect() {
    clearTimeout(this.#openTimer);
    this.#openTimer = setTimeout(() => this.state !== "open" && this.#setState("failed"), OPEN_TIMEOUT_MS * 2);
  }

  #adopt(call) {
    this.#call = call;
    const ended = () => {
      if (this.#call !== call) return;
      this.#hangUp();
      clearTimeout(this.#callTimer);
      this.#callTimer = setTimeout(() => this.ensureCall(), REDIAL_MS[1]);
    };
    call.on("stream", (stream) => {
      if (this.#call !== call) return;
      this.stream = stream;
      // A device may have been switched while the call was being set up.
      this.replaceTracks(this.#mesh.media.tracks);
      this.#mesh.changed(this);
    });
    call.on("close", ended);
    call.on("error", ended);
  }

  #hangUp() {
    const call = this.#call;
    this.#call = null;
    this.stream = null;
    call?.close();
  }

  #drop() {
    const connection = this.#connection;
    this.#connection = null;
    clearTimeout(this.#openTimer);
    connection?.close();
  }

  #setState(value) {
    this.state = value;
    this.#mesh.changed(this);
  }
}
