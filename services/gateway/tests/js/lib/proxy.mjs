// A tiny TCP proxy that belongs to one test: it can cut the connections that run through it, as a
// failing network does, and it can delay every byte, as a distant network does.
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { onEnd } from "./cleanup.mjs";

const QUIET = 150;

export class TcpProxy {
  /** Listens on a free port in front of `target` (a base url); `delay` is milliseconds each way. */
  static async start(target, { delay = 0 } = {}) {
    const proxy = new TcpProxy(new URL(target), delay);
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  constructor({ hostname, port }, delay) {
    this.delay = delay;
    this.lastByte = performance.now();
    this.sockets = new Set();
    this.forget = onEnd(() => this.stop());
    this.server = net.createServer((client) => {
      if (this.isClosed) return client.resetAndDestroy();
      const upstream = net.connect(Number(port), hostname);
      this.join(client, upstream);
      this.join(upstream, client);
    });
  }

  join(from, to) {
    this.sockets.add(from);
    if (this.isFrozen) from.pause();
    from.setNoDelay(true);
    from.on("error", () => {});
    from.on("data", (chunk) => {
      this.lastByte = performance.now();
      this.later(() => to.writable && to.write(chunk));
    });
    from.on("close", () => {
      this.sockets.delete(from);
      this.later(() => to.destroy());
    });
  }

  /** Timers of equal length fire in the order in which they were set, so the bytes keep theirs. */
  later(action) {
    if (this.delay > 0) setTimeout(action, this.delay);
    else action();
  }

  /** Holds all bytes back until `thaw`, as a network that is down for a moment. */
  freeze() {
    this.isFrozen = true;
    for (const socket of this.sockets) socket.pause();
  }

  thaw() {
    this.isFrozen = false;
    for (const socket of this.sockets) socket.resume();
  }

  /** Cuts every connection, without a goodbye. */
  cut() {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  /** Cuts every connection, and every new one, until `open`. */
  close() {
    this.isClosed = true;
    this.cut();
  }

  open() {
    this.isClosed = false;
  }

  /**
   * Cuts every connection once nothing has been on its way for a moment. A polling client then has a GET
   * waiting at the server, which therefore notices; a session without one would last until its timeout.
   */
  async cutWhenQuiet() {
    while (performance.now() - this.lastByte < QUIET) await pause(QUIET / 4);
    this.cut();
  }

  async stop() {
    this.forget();
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
