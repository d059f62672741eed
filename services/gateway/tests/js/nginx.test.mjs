// Polling and upgrading clients behind Debian's nginx, with the configurations that its users copy: none of them is cut off.
//
// REFERENCE=1 runs the same file against the npm server.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { freePorts, program } from "./cluster/setup.mjs";
import { closeAll } from "./lib/cleanup.mjs";
import { ask, connected, upgraded } from "./lib/clients.mjs";
import { request } from "./lib/http.mjs";
import { startTarget } from "./lib/target.mjs";
import { until } from "./lib/wait.mjs";

const target = await startTarget();
const LENGTH = 10_000;
const CLIENTS = 12;

const KEPT = "keepalive 16;";
const TUTORIAL = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";';
const WAYS = [
  ["the tutorials' headers on everything", "", TUTORIAL],
  ["the same, with upstream keepalive", KEPT, TUTORIAL],
  ["the map of nginx' own page", KEPT, "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"],
  ["upstream keepalive, and no upgrades", KEPT, 'proxy_http_version 1.1; proxy_set_header Connection "";'],
  ["HTTP/1.0, nginx' default", "", ""],
  ["HTTP/1.0 with the tutorials' headers", "", 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'],
];
/** Those that let a WebSocket through. */
const UPGRADING = 3;

const ports = await freePorts(WAYS.length);
let folder;
let nginx;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "nginx-"));
  const { host } = new URL(target.url);
  const servers = WAYS.map(
    ([, upstream, location], index) => `
  upstream way${index} { server ${host}; ${upstream} }
  server { listen 127.0.0.1:${ports[index]}; location / { proxy_pass http://way${index}; proxy_set_header Host $host; ${location} } }`,
  );
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`);
  await writeFile(
    path.join(folder, "nginx.conf"),
    `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
events { worker_connections 1024; }
http {
  access_log off; ${temporary.join(" ")}
  map $http_upgrade $connection_upgrade { default upgrade; '' close; }${servers.join("")}
}
`,
  );
  nginx = program("nginx", ["-c", path.join(folder, "nginx.conf"), "-e", path.join(folder, "error.log")]);
  await until(() => request(`http://127.0.0.1:${ports.at(-1)}`, "GET", "/").then(() => true, () => false), "nginx answers");
});
after(async () => {
  await closeAll();
  nginx.child.kill();
  await nginx.exited;
  await target.stop();
  await rm(folder, { recursive: true, force: true });
});

describe("behind nginx", { concurrency: true }, () => {
  for (const [index, [name]] of WAYS.entries()) {
    test(`${CLIENTS} polling clients with ${name}`, async () => {
      const url = `http://127.0.0.1:${ports[index]}`;
      const room = `way-${index}`;
      const sockets = await Promise.all(Array.from({ length: CLIENTS }, () => connected(url, { transports: ["polling"] })));
      const gone = [];
      for (const socket of sockets) socket.on("disconnect", (reason) => gone.push(reason));
      await Promise.all(sockets.map((socket) => ask(socket, "join", room)));
      const end = performance.now() + LENGTH;
      let sent = 0;
      while (performance.now() < end && gone.length === 0) {
        await Promise.all(sockets.map((socket) => ask(socket, "message", room, "hello")));
        sent += sockets.length;
        await pause(50);
      }
      assert.deepEqual(gone, []);
      assert.ok(sent >= 3 * CLIENTS, `only ${sent} messages`);
    });
  }

  for (const [index, [name]] of WAYS.slice(0, UPGRADING).entries()) {
    test(`a default client upgrades with ${name}`, async () => {
      const socket = await upgraded(`http://127.0.0.1:${ports[index]}`);
      assert.equal((await ask(socket, "join", "upgraded")).ok, true);
    });
  }
});
