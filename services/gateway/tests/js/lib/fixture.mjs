// The fixture server of fixture.test.mjs in terms of the npm server: the tests have to pass here
// first. The table at the head of that file says the same in words.

const REFUSED = Object.assign(new Error("not today"), { data: { code: 403, retry: false } });

export function fixture(io) {
  const main = io.of("/");

  for (const namespace of [main, io.of("/chat"), io.of(/^\/room-\d+$/)]) {
    namespace.on("connection", (socket) => common(main, socket));
  }

  io.of("/refused").use((_, next) => next(REFUSED));
  io.of("/refused-bare").use((_, next) => next(new Error("no data")));
  io.of("/secret").use((socket, next) => {
    if (socket.handshake.auth.token === "sesame") next();
    else next(Object.assign(new Error("wrong token"), { data: { given: socket.handshake.auth.token ?? null } }));
  });
  io.of("/secret").on("connection", (socket) => common(main, socket));
}

function common(main, socket) {
  const namespace = socket.nsp;

  socket.on("message", (...args) => socket.emit("message-back", ...args));
  socket.on("message-with-ack", (...args) => args.pop()(...args));
  socket.on("where", (ack) => ack(namespace.name, socket.id));

  socket.on("join", (room, ack) => (socket.join(room), ack()));
  socket.on("leave", (room, ack) => (socket.leave(room), ack()));
  socket.on("to", (room, ...args) => socket.to(room).emit("note", ...args));
  socket.on("in", (room, ...args) => namespace.in(room).emit("note", ...args));
  socket.on("to-except", (room, except, ...args) => socket.to(room).except(except).emit("note", ...args));
  socket.on("broadcast", (...args) => socket.broadcast.emit("note", ...args));
  socket.on("all", (...args) => namespace.emit("note", ...args));
  socket.on("volatile", (...args) => socket.volatile.emit("note", ...args));

  socket.on("call-me", (milliseconds, ...args) => {
    socket.timeout(milliseconds).emit("question", ...args, (error, ...reply) => {
      if (error) socket.emit("timed-out");
      else socket.emit("answered", ...reply);
    });
  });

  socket.on("call-me-whenever", (...args) => {
    socket.emit("question", ...args, (...reply) => socket.emit("answered", ...reply));
  });

  socket.on("farewell", (count, close) => {
    for (let number = 0; number < count; number++) socket.emit("note", number);
    socket.disconnect(close);
  });

  socket.on("disconnect-me", () => socket.disconnect());
  socket.on("disconnect-all", () => socket.disconnect(true));
  socket.on("disconnect", (reason) => main.to("watchers").emit("gone", socket.id, namespace.name, reason));

  socket.emit("auth", socket.handshake.auth);
}
