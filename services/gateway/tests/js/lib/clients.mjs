// socket.io-client connections that a test file opens, and closes when it is done.
import { io } from "socket.io-client";
import { onEnd } from "./cleanup.mjs";
import { nextEvent, within } from "./wait.mjs";

/** A client that is not waited for. It has a connection of its own and does not reconnect unless told. */
export function client(url, options = {}) {
  const socket = io(url, { forceNew: true, reconnection: false, ...options });
  onEnd(() => socket.disconnect());
  return socket;
}

/** A connected client. */
export async function connected(url, options) {
  const socket = client(url, options);
  const refused = new Promise((_, reject) => socket.once("connect_error", reject));
  refused.catch(() => {});
  await Promise.race([nextEvent(socket, "connect"), refused]);
  socket.off("connect_error");
  return socket;
}

/** A connected client that has finished its upgrade to WebSocket. */
export async function upgraded(url, options) {
  const socket = client(url, options);
  await nextEvent(socket, "connect");
  const engine = socket.io.engine;
  if (engine.transport.name !== "websocket") await nextEvent(engine, "upgrade");
  return socket;
}

/** The acknowledgement of an event, within the deadline. */
export function ask(socket, event, ...args) {
  return within(new Promise((resolve) => socket.emit(event, ...args, resolve)), `the acknowledgement of "${event}"`);
}

/** Everything that arrives as `event`, from now on, as lists of arguments. */
export function record(socket, event) {
  const seen = [];
  socket.on(event, (...args) => seen.push(args));
  return seen;
}
