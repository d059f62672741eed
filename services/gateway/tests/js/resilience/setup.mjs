// What the parts of resilience.test.mjs share: the server, its gauges, members of rooms.
import assert from "node:assert/strict";
import { after } from "node:test";
import { closeAll } from "../lib/cleanup.mjs";
import { frame, RawConnection, TEXT } from "../lib/frames.mjs";
import { request } from "../lib/http.mjs";
import { startTarget } from "../lib/target.mjs";

/** The server with default flags, which the tests that need no others share. */
export const target = await startTarget();
after(async () => {
  await closeAll();
  await target.stop();
});

export const WEBSOCKET = { transports: ["websocket"] };
export const POLLING = { transports: ["polling"] };

/** With one worker, whoever keeps it busy keeps everybody busy; with two, requests and sessions meet across threads. */
export const ONE_WORKER = ["--workers", "1"];
export const TWO_WORKERS = ["--workers", "2"];

/** The value of one gauge, by its name and labels as /metrics writes them. */
export async function gauge({ adminUrl }, name) {
  const { status, body } = await request(adminUrl, "GET", "/metrics");
  assert.equal(status, 200);
  const line = body.split("\n").find((text) => text.startsWith(`${name} `));
  assert.ok(line, `/metrics has no ${name}`);
  return Number(line.slice(name.length));
}

export const waitingBytes = (gateway) => gauge(gateway, "signalbox_outbox_bytes");
export const connections = (gateway, protocol, transport) =>
  gauge(gateway, `signalbox_connections{protocol="${protocol}",transport="${transport}"}`);

/** A member of `room` on a bare TCP socket. */
export async function rawMember(url, room) {
  const connection = await RawConnection.join(url);
  connection.write(frame(TEXT, `420["join",${JSON.stringify(room)}]`));
  const reply = await connection.text("the acknowledgement of a join");
  assert.match(reply, /^430\[\{"ok":true/);
  return connection;
}

/** These packets as frames in one piece, so that one write, and most likely one read, takes them all. */
export const inOnePiece = (packets) => Buffer.concat(packets.map((packet) => frame(TEXT, packet)));
