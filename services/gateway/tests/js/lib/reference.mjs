// The npm server, as a process of its own: `node lib/reference.mjs KIND OPTIONS-AS-JSON`. It reports
// {url} to its parent and lives as long as the parent does. KIND is
//   gateway   just enough of the gateway's vocabulary for the raw protocol tests
//   fixture   the server that fixture.test.mjs describes
import { createServer } from "node:http";
import { Server } from "socket.io";
import { fixture } from "./fixture.mjs";

const [kind, options] = process.argv.slice(2);

const http = createServer((_, response) => response.writeHead(404).end());
// The gateway's default: any origin is reflected, without credentials.
const io = new Server(http, { cors: { origin: true }, ...JSON.parse(options ?? "{}") });

if (kind === "fixture") fixture(io);
else gateway(io);

http.listen(0, "127.0.0.1", () => process.send({ url: `http://127.0.0.1:${http.address().port}` }));
process.on("disconnect", () => process.exit(0));

function gateway(io) {
  io.on("connection", (socket) => {
    const acknowledgement = (args) => (typeof args.at(-1) === "function" ? args.at(-1) : () => {});
    socket.on("join", (room, ...rest) => {
      socket.join(room);
      acknowledgement(rest)({ ok: true, room, members: [] });
    });
    socket.on("message", (room, data, ...rest) => {
      socket.to(room).emit("message", data, { room, from: socket.id });
      acknowledgement(rest)({ ok: true });
    });
    socket.onAny((event, ...args) => {
      if (event === "join" || event === "message") return;
      // An EVENT without payload has no name either: its only argument is the acknowledgement.
      acknowledgement([event, ...args])({ ok: false, error: "unknown-event" });
    });
  });
}
