// Somebody who listens to what happens in a cluster: the admin API's server-sent events, or its WebSocket.
import { get } from "node:http";
import WebSocket from "ws";
import { onEnd } from "./cleanup.mjs";
import { until, within } from "./wait.mjs";

export class Listener {
  /** Listens at a node; resolves once the node says that it tells what happens. `lastId` is where to go on. */
  static async start(node, parameters = {}, { lastId, token } = {}) {
    const listener = new Listener();
    const headers = { ...(lastId && { "last-event-id": lastId }), ...(token && { authorization: `Bearer ${token}` }) };
    const { hostname: host, port } = new URL(node.adminUrl);
    const path = `/admin/v1/events?${new URLSearchParams(parameters)}`;
    const listening = new Promise((resolve, reject) => {
      listener.request = get({ host, port, path, headers, agent: false }, (response) => {
        listener.status = response.statusCode;
        if (response.statusCode !== 200) reject(new Error(`refused: ${response.statusCode}`));
        let rest = "";
        response.setEncoding("utf8").on("data", (chunk) => {
          const blocks = (rest + chunk).split("\n\n");
          rest = blocks.pop();
          blocks.forEach((block) => listener.#block(block));
          resolve();
        });
        response.on("close", () => (listener.hasEnded = true));
        response.on("error", () => {});
      }).on("error", reject);
    });
    onEnd(() => listener.stop());
    await within(listening, "the node tells what happens");
    return listener;
  }

  /** The same over a WebSocket. */
  static async websocket(node, parameters = {}, protocols = []) {
    const listener = new Listener();
    const url = `${node.adminUrl.replace(/^http/, "ws")}/admin/v1/events?${new URLSearchParams(parameters)}`;
    listener.socket = new WebSocket(url, protocols);
    onEnd(() => listener.stop());
    listener.socket.on("message", (text) => listener.#event(JSON.parse(text)));
    listener.socket.on("ping", (position) => (listener.pinged = position.toString()));
    listener.socket.on("close", (code) => ([listener.hasEnded, listener.code] = [true, code]));
    await within(
      new Promise((resolve, reject) => {
        listener.socket.once("open", resolve).on("error", reject);
        listener.socket.once("unexpected-response", (_, response) => reject(new Error(`refused: ${response.statusCode}`)));
      }),
      "the WebSocket is open",
    );
    return listener;
  }

  events = [];
  hasEnded = false;
  lastId;
  /** What the last ping carried. */
  pinged;

  #block(block) {
    for (const line of block.split("\n")) {
      if (line.startsWith("id: ")) this.lastId = line.slice(4);
      if (line.startsWith("data: ")) this.#event(JSON.parse(line.slice(6)));
    }
  }

  #event(event) {
    this.lastId = event.position;
    this.events.push(event);
  }

  /** Events with these values, once there are so many. */
  async heard(values, count = 1) {
    const fits = (event) => Object.entries(values).every(([name, value]) => event[name] === value);
    const found = () => this.events.filter(fits);
    await until(() => found().length >= count, `${count} of ${JSON.stringify(values)}`).catch((error) => {
      throw new Error(`${error.message}; heard: ${JSON.stringify(this.events.slice(-30))}`);
    });
    return found();
  }

  stop() {
    this.request?.destroy();
    this.socket?.terminate();
  }
}
