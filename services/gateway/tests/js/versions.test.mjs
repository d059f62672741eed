// Socket.IO clients of many versions and languages, unmodified: each joins a room over each transport that it has, learns who is there,
// and exchanges messages, binary too.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { npmPackage, scratch, succeed } from "./lib/packages.mjs";
import { nextEvent, within } from "./lib/wait.mjs";

const URL = process.env.GATEWAY_URL;
const JS = ["3.0.0", "3.1.3", "4.0.0", "4.4.1", "4.6.2", "4.7.5", "4.8.4"];
const PYTHON = ["5.7.0", "5.11.0", "5.18.1"];
const here = path.dirname(fileURLToPath(import.meta.url));

const ask = (socket, ...args) => within(new Promise((resolve) => socket.emit(...args, resolve)), `the ack of ${args[0]}`);

async function exchange(io, transports) {
  const [one, other] = [0, 1].map(() => io(URL, { transports, forceNew: true, reconnection: false }));
  try {
    await Promise.all([nextEvent(one, "connect"), nextEvent(other, "connect")]);
    const room = randomUUID();
    const joined = nextEvent(one, "joined");
    assert.equal((await ask(one, "join", room, { peerId: "one" })).ok, true);
    const { members } = await ask(other, "join", room, { peerId: "other" });
    assert.deepEqual(members.map(({ peerId }) => peerId), ["one"]);
    assert.equal((await joined)[0].peerId, "other");

    const message = nextEvent(other, "message");
    await ask(one, "message", room, { bytes: Buffer.from([1, 2, 3]), text: "é" });
    const [{ bytes, text }] = await message;
    assert.deepEqual([[...Buffer.from(bytes)], text], [[1, 2, 3], "é"]);

    const signal = nextEvent(one, "signal");
    assert.equal((await ask(other, "signal", one.id, { offer: 1 })).ok, true);
    assert.deepEqual((await signal)[0], { offer: 1 });

    const left = nextEvent(one, "left");
    other.disconnect();
    assert.equal((await left)[0].peerId, "other");
  } finally {
    one.disconnect();
    other.disconnect();
  }
}

for (const version of JS) {
  test(`socket.io-client ${version}`, async (t) => {
    const directory = await npmPackage(t, "socket.io-client", version);
    const require = createRequire(path.join(directory, "package.json"));
    const { io } = require(directory);
    assert.equal(require("./package.json").version, version);
    for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) await exchange(io, transports);
  });
}

for (const version of PYTHON) {
  test(`python-socketio ${version}`, async (t) => {
    const directory = await scratch(t);
    await succeed("python3", ["-m", "venv", directory]);
    const python = path.join(directory, "bin/python");
    await succeed(python, ["-m", "pip", "install", "-q", `python-socketio[client,asyncio_client]==${version}`, "aiohttp"]);
    for (const file of ["test_sync.py", "test_async.py"]) await succeed(python, [path.join(here, "python", file)]);
  });
}

test("rust_socketio", async (t) => {
  const manifest = path.join(here, "../rust-client/Cargo.toml");
  await succeed("cargo", ["run", "-q", "--manifest-path", manifest, "--target-dir", await scratch(t), "--", URL]);
});
