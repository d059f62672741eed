// What waits for clients: it is counted exactly, and cuts off only those who do not take it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, connected } from "../lib/clients.mjs";
import { withGateway } from "../lib/peer-harness.mjs";
import { PollingSession } from "../lib/polling.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { ONE_WORKER, POLLING, rawMember, waitingBytes, WEBSOCKET } from "./setup.mjs";

test("what a slow reader has read in the end is off the memory budget", async () => {
  // Enough for what waits for the slow reader, or for one message to everybody, not for both.
  await withGateway([...ONE_WORKER, "--outbox-limit", "3000000", "--memory-budget", "3600000"], async (url, gateway) => {
    const slow = await rawMember(url, "slow");
    slow.socket.pause();
    const speaker = await connected(url, WEBSOCKET);
    for (const room of ["slow", "others"]) await ask(speaker, "join", room);
    const chunk = "x".repeat(100_000);
    // The kernel's buffers come first.
    await until(async () => {
      assert.equal((await ask(speaker, "message", "slow", chunk)).ok, true);
      return (await waitingBytes(gateway)) > 2_200_000;
    }, "messages wait for the slow reader");

    slow.socket.resume();
    await until(async () => (await waitingBytes(gateway)) === 0, "the slow reader has read everything");
    assert.equal(slow.isClosed, false);

    const others = await Promise.all([POLLING, POLLING].map((options) => connected(url, options)));
    for (const other of others) await ask(other, "join", "others");
    const heard = others.map((other) =>
      Promise.race([nextEvent(other, "message"), nextEvent(other, "disconnect").then(([reason]) => assert.fail(reason))]),
    );
    speaker.emit("message", "others", "y".repeat(900_000));
    for (const [text] of await Promise.all(heard)) assert.equal(text.length, 900_000);
  });
});

// One frame always fits into an empty outbox, however large it is.
const LIMIT = 10_000;

test("a polling client takes an acknowledgement beyond the outbox limit, and a message", async () => {
  await withGateway(["--outbox-limit", String(LIMIT)], async (url) => {
    const members = await Promise.all(Array.from({ length: 4 }, () => connected(url, WEBSOCKET)));
    for (const member of members) await ask(member, "join", "room", { name: "n".repeat(LIMIT / 3) });

    const client = await connected(url, POLLING);
    const ended = nextEvent(client, "disconnect").then(([reason]) => assert.fail(`it was cut off: ${reason}`));
    ended.catch(() => {});
    const reply = await Promise.race([ask(client, "join", "room"), ended]);
    assert.equal(reply.members.length, members.length);

    const heard = nextEvent(client, "message");
    members[0].emit("message", "room", "z".repeat(2 * LIMIT));
    assert.equal((await Promise.race([heard, ended]))[0].length, 2 * LIMIT);
  });
});

test("a message beyond the outbox limit waits for a polling client that is between two GETs", async () => {
  await withGateway(["--outbox-limit", String(LIMIT)], async (url) => {
    const session = await PollingSession.join(url);
    await session.post('420["join","room"]');
    await session.poll((packet) => packet.startsWith("430["), "the acknowledgement of its join");
    const speaker = await connected(url, WEBSOCKET);
    await ask(speaker, "join", "room");
    await session.poll((packet) => packet.startsWith('42["joined"'), "the speaker");

    assert.equal((await ask(speaker, "message", "room", "z".repeat(2 * LIMIT))).ok, true);
    const message = await session.poll((packet) => packet.startsWith('42["message"'), "the message");
    assert.ok(message.length > 2 * LIMIT);
    await session.expectAlive();
  });
});
