// Every transport, and connections that are refused.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, client, connected, upgraded } from "../lib/clients.mjs";
import { nextEvent } from "../lib/wait.mjs";
import { DEFAULT, newRoom, POLLING, target, TRANSPORTS, WEBSOCKET } from "./setup.mjs";

describe("connecting", () => {
  for (const [name, options] of TRANSPORTS) {
    test(`over ${name}`, async () => {
      const socket = name === "the default transports" ? await upgraded(target.url, options) : await connected(target.url, options);
      assert.match(socket.id, /^[A-Za-z0-9_-]{20}$/);
      assert.notEqual(socket.id, socket.io.engine.id);
      assert.equal(socket.io.engine.transport.name, name === "polling" ? "polling" : "websocket");
      assert.deepEqual(await ask(socket, "join", newRoom()).then(({ ok, members }) => ({ ok, members })), { ok: true, members: [] });
      socket.disconnect();
    });

    test(`to a namespace that does not exist, over ${name}`, async () => {
      const socket = client(`${target.url}/nowhere`, options);
      const [error] = await nextEvent(socket, "connect_error");
      assert.equal(error.message, "Invalid namespace");
      assert.equal(error.data, undefined);
      assert.equal(socket.connected, false);
      socket.disconnect();
    });
  }

  test("from another origin", async () => {
    for (const options of [POLLING, WEBSOCKET, DEFAULT]) {
      const socket = await connected(target.url, { ...options, extraHeaders: { origin: "http://elsewhere.example" } });
      assert.equal((await ask(socket, "join", newRoom())).ok, true);
      socket.disconnect();
    }
  });

  test("with a query and a CONNECT payload, which nobody asked for", async () => {
    const socket = await connected(target.url, { ...WEBSOCKET, query: { version: "2", sidecar: "no" }, auth: { token: "whatever" } });
    assert.equal((await ask(socket, "join", newRoom())).ok, true);
    socket.disconnect();
  });

  test("with a wrong path is an error, not a hang", async () => {
    for (const options of [POLLING, WEBSOCKET]) {
      const socket = client(target.url, { ...options, path: "/no-such-path/" });
      const [error] = await nextEvent(socket, "connect_error");
      assert.ok(error instanceof Error);
      socket.disconnect();
    }
  });

  test("twice over one connection is two sockets, after each other", async () => {
    const socket = await connected(target.url, WEBSOCKET);
    const first = socket.id;
    socket.disconnect();
    socket.connect();
    await nextEvent(socket, "connect");
    assert.notEqual(socket.id, first);
    socket.disconnect();
  });
});
