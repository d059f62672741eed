// Grants hold on every way in: events and claims on each node, sessions that moved, messages to another realm; and a refresh reaches the
// PeerServer clients of its subject wherever they are.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { after, describe, test } from "node:test";
import { ask } from "../lib/clients.mjs";
import { now } from "../lib/jwt.mjs";
import { nextEvent } from "../lib/wait.mjs";
import { nodes, sample, steady, token } from "./cluster.mjs";
import { aboutToMove, everything, io, peer as connect, peerAnswer } from "./setup.mjs";

const refusal = (error) => ({ ok: false, error });

const opened = [];
/** A PeerServer client that goes when these tests are over: those that follow count whom they disconnect. */
async function peer(...args) {
  const phone = await connect(...args);
  opened.push(() => phone.terminate());
  return phone;
}

describe("grants in a cluster", { concurrency: true }, async () => {
  after(() => opened.forEach((close) => close()));

  test("go with a session to another node, and hold there", async () => {
    await steady();
    const [home, other] = nodes;
    const before = await sample(other, "signalbox_session_transfers_total");
    const signalbox = { rooms: { join: ["team-*", "{sub}"], send: ["team-1"] } };
    const socket = await aboutToMove(home, other, token({ sub: "walter", signalbox }));
    opened.push(() => socket.ws.terminate());
    socket.send("5");
    const answers = [
      ["join", "team-1", { ok: true }],
      ["join", "team-2", { ok: true }],
      ["join", "walter", { ok: true }],
      ["join", "alice", refusal("join-forbidden")],
      ["join-room", "lobby", refusal("join-forbidden")],
      ["message", "team-1", { ok: true }],
      ["message", "team-2", refusal("send-forbidden")],
      ["users", undefined, refusal("users-forbidden")],
      // It is the same holder still, and nobody else may be.
      ["auth:refresh", token({ sub: "mallory", signalbox }), refusal("subject-changed")],
      ["auth:refresh", token({ sub: "walter", signalbox: { rooms: { join: ["new"] } } }), { ok: true }],
      ["join", "team-3", refusal("join-forbidden")],
      ["join", "new", { ok: true }],
    ];
    for (const [id, [event, argument, expected]] of answers.entries()) {
      const args = event === "join-room" || event === "message" ? [argument, "x"] : argument === undefined ? [] : [argument];
      socket.send(`42${id}${JSON.stringify([event, ...args])}`);
      const answer = await socket.until((frame) => typeof frame === "string" && frame.startsWith(`43${id}[`), `the answer to ${event} ${id}`);
      const [{ ok, error }] = JSON.parse(answer.slice(answer.indexOf("[")));
      assert.deepEqual({ ok, ...(error && { error }) }, expected, `${event} ${argument}`);
    }
    assert.ok((await sample(other, "signalbox_session_transfers_total")) > before, "the session has moved");
  });

  test("of ids hold on each node, and an id belongs to its holder on all", async () => {
    const signalbox = { peer: { ids: ["{sub}", "{sub}-*"] } };
    const shown = (changed) => token({ sub: "vera", signalbox, ...changed });
    for (const node of nodes) {
      assert.equal(await peerAnswer(node, "somebody", shown()), "ERROR: none of the 2 patterns of peer.ids matches");
    }
    const held = await peer(nodes[0], "vera-phone", shown({ session: "one" }));
    assert.equal(held.messages[0].type, "OPEN");
    const stranger = token({ sub: "mallory", session: "one" });
    for (const node of nodes) {
      assert.equal(await peerAnswer(node, "vera-phone", shown({ session: "two" })), "ID-TAKEN: ID is taken");
      assert.equal(await peerAnswer(node, "vera-phone", stranger), "ID-TAKEN: ID is taken");
    }
    assert.equal(held.closed, undefined);
    assert.equal(await peerAnswer(nodes[1], "vera-phone", shown({ session: "one" })), "OPEN");
    assert.ok(await held.until(() => held.closed));
  });

  test("a message never leaves its realm, on whichever node", async () => {
    const shown = (sub) => token({ sub });
    const [near, far] = [await peer(nodes[0], "addressee", shown("uma"), "other"), await peer(nodes[1], "addressee", shown("uma"), "other")];
    // Of the two claims by one holder the later counts; it is in the other realm.
    assert.equal(far.messages[0].type, "OPEN");
    const sender = await peer(nodes[0], "sender", shown("theo"));
    sender.send({ type: "OFFER", dst: "addressee", payload: { realm: "peerjs", key: "other" }, key: "other", src: "somebody" });
    assert.ok(await sender.until(() => sender.messages.some(({ type }) => type === "EXPIRE")), "it expires");
    for (const phone of [near, far]) assert.deepEqual(phone.messages.map(({ type }) => type), ["OPEN"]);
    // In its own realm it arrives, on another node, with its true sender.
    const friend = await peer(nodes[2], "friend", shown("sue"));
    sender.send({ type: "OFFER", dst: "friend", payload: 1, src: "somebody" });
    assert.ok(await friend.until(() => friend.messages.length > 1));
    assert.deepEqual(friend.messages[1], { type: "OFFER", src: "sender", dst: "friend", payload: 1 });
  });

  test("a refresh counts for the PeerServer clients of its subject on all nodes, and for nobody else's", async () => {
    const ending = (sub, seconds) => token({ sub, signalbox: everything, exp: now() + seconds });
    const socket = await io(nodes[0], ending("rosa", 5));
    opened.push(() => socket.disconnect());
    const phones = await Promise.all(nodes.map((node, index) => peer(node, `rosa ${index}`, ending("rosa", 5))));
    const strangers = await peer(nodes[1], "not rosa", ending("mallory", 5));
    await nextEvent(socket, "auth:expiring");
    assert.deepEqual(await ask(socket, "auth:refresh", ending("rosa", 60)), { ok: true });
    assert.ok(await strangers.until(() => strangers.closed), "its own token has ended");
    await sleep(1_500);
    assert.deepEqual(phones.map((phone) => phone.closed), [undefined, undefined, undefined]);
    assert.ok(socket.connected);
  });
});
