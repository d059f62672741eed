// A connection that is reset while the node writes to it. The write fails before anything is read, so it must
// be the writer's failure that ends the session. A ping timeout would end it later than any test here waits.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, connected, record } from "../lib/clients.mjs";
import { frame, RawConnection, TEXT } from "../lib/frames.mjs";
import { connect, newId, offer, withGateway } from "../lib/peer-harness.mjs";
import { until } from "../lib/wait.mjs";
import { connections, inOnePiece, ONE_WORKER, rawMember, waitingBytes, WEBSOCKET } from "./setup.mjs";

const CROWD = 20;
/** One after the other, so that the last hears of nobody's coming. */
async function crowd(open) {
  const all = [];
  while (all.length < CROWD) all.push(await open());
  return all;
}

/** Resets all listeners as soon as the last hears the beginning of the burst: the one worker is busy with the rest of it. */
async function resetDuring(speaker, burst, listeners) {
  // The others do not read, which would keep this process from noticing in time.
  for (const { socket } of listeners.slice(0, -1)) socket.pause();
  speaker.write(burst);
  await listeners.at(-1).text("the beginning of the burst");
  for (const { socket } of listeners) socket.resetAndDestroy();
}

test("members that reset while a room talks are gone, and said goodbye to", async () => {
  await withGateway(ONE_WORKER, async (url, gateway) => {
    const witness = await connected(url, WEBSOCKET);
    await ask(witness, "join", "room");
    const left = record(witness, "left");
    const speaker = await rawMember(url, "room");
    const members = await crowd(() => rawMember(url, "room"));

    await resetDuring(speaker, inOnePiece(Array(1_500).fill(`42["message","room","${"x".repeat(500)}"]`)), members);

    await until(() => left.length >= CROWD, `the farewells of ${CROWD} members`);
    assert.equal(new Set(left.map(([{ id }]) => id)).size, CROWD);
    assert.equal((await ask(witness, "members", "room")).members.length, 2);
    await until(async () => (await connections(gateway, "socketio", "websocket")) === 2, "two connections are left");
    await until(async () => (await waitingBytes(gateway)) === 0, "nothing waits any more");
  });
});

test("peers that reset while they are called give their ids free", async () => {
  await withGateway(ONE_WORKER, async (url, gateway) => {
    const dial = async (id) => {
      const peer = await RawConnection.open(url, `/peerjs?key=peerjs&id=${id}&token=first`);
      assert.equal(await peer.text("OPEN"), '{"type":"OPEN"}');
      return Object.assign(peer, { id });
    };
    const caller = await dial(newId("caller"));
    const peers = await crowd(() => dial(newId()));

    const offers = peers.map(({ id }) => frame(TEXT, JSON.stringify(offer(id, "x".repeat(500)))));
    await resetDuring(caller, Buffer.concat(Array(75).fill(offers).flat()), peers);

    await until(async () => (await connections(gateway, "peerserver", "websocket")) === 1, "only the caller is left");
    // Another token: the same one would take the id over from a connection that is still there.
    for (const { id } of peers) (await connect(url, { id, token: "second" })).terminate();
  });
});
