// What the load test compares with: `socket.io` from npm, with its defaults. It has the events of the built-in vocabulary
// that the load test sends. With `--announce` the members of a room are told who comes and goes; with `--redis URL` it is one of a cluster, by the usual adapter.

import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { port, redis, announce, announces } from "./arguments.mjs";

const http = createServer();
const io = new Server(http, { serveClient: false });

if (redis) {
  const [publisher, subscriber] = [createClient({ url: redis }), createClient({ url: redis })];
  await Promise.all([publisher.connect(), subscriber.connect()]);
  io.adapter(createAdapter(publisher, subscriber));
}

io.on("connection", (socket) => {
  socket.on("join", (room, ack) => {
    socket.join(room);
    if (announces) socket.to(room).emit("joined", { id: socket.id, room });
    ack?.({ ok: true });
  });
  if (announces) {
    socket.on("disconnecting", () => {
      for (const room of socket.rooms) socket.to(room).emit("left", { id: socket.id, room });
    });
  }
  socket.on("leave", (room, ack) => {
    socket.leave(room);
    ack?.({ ok: true });
  });
  socket.on("message", (room, data) => {
    socket.to(room).emit("message", data);
  });
  socket.on("echo", (data) => {
    socket.emit("echo", data);
  });
  socket.on("signal", (to, data, ack) => {
    const addressee = io.sockets.sockets.get(to);
    addressee?.emit("signal", data);
    ack?.(addressee ? { ok: true } : { ok: false, error: "not-found" });
  });
});

// The usual backlog would drop a burst of handshakes, and the figures would be those of retransmissions.
http.listen({ host: "127.0.0.1", port, backlog: 4096 }, () => announce("socket.io", http));
