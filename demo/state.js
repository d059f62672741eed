// What the page knows about itself, as plain data: `window.signalboxDemo`.
// It is there for tests and for the curious in a console; the page itself writes it and never reads it back.
//
//   view        "welcome" | "lobby" | "room"
//   name        the name that was entered
//   socketId    id of the Socket.IO socket, null while disconnected
//   peerId      id at the PeerServer, kept through reconnections
//   peerOpen    whether the PeerServer connection is open now
//   room        name of the room entered, or null
//   lobby       everybody in the lobby, without oneself: [{id, peerId, name, inRoom}]
//   members     the others in the room: [{peerId, name, link, present, mic, camera, screen}]
//               link: "waiting" (they dial us) | "dialing" | "open" | "lost" | "failed"
//   chat        [{from, text}]
//   strokes     number of strokes on the whiteboard
//   cursors     {peerId: {x, y}} in the surface's own units
//   scores      {peerId: points} of the game
//   files       [{id, name, size, from, state, done, sha256, expected}]
//               state: "offered" | "shared" | "moving" | "verified" | "failed"
//   checks      {peerId: {serialization: milliseconds | "failed"}}, the result of a link check
//   notices     [{level, text}] what the user was told
//   events      [{type, ...}] what happened, in order: peer-open, peer-disconnected, socket-connected,
//               socket-disconnected, ice-servers-refused, member-joined, member-left
//   peer, socket, peerOptions   the live PeerJS and Socket.IO objects (not enumerable)

const MAX_EVENTS = 500;

export const state = {
  view: "welcome",
  name: null,
  socketId: null,
  peerId: null,
  peerOpen: false,
  room: null,
  lobby: [],
  members: [],
  chat: [],
  strokes: 0,
  cursors: {},
  scores: {},
  files: [],
  checks: {},
  notices: [],
  events: [],
};

export function record(type, detail = {}) {
  state.events.push({ type, ...detail });
  if (state.events.length > MAX_EVENTS) state.events.shift();
}

/** Exposes a live object under `name`, hidden from JSON and structured clones. */
export function expose(name, get) {
  Object.defineProperty(state, name, { get, configurable: true, enumerable: false });
}

window.signalboxDemo = state;
