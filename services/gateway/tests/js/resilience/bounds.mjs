// What a client leaves with the node is bounded, in bytes, in number and in time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, connected, record } from "../lib/clients.mjs";
import { CLOSE, closePayload, frame, RawConnection, TEXT } from "../lib/frames.mjs";
import { connect, expiries, newId, offer, payloads, PATIENCE_MS, settled, withGateway } from "../lib/peer-harness.mjs";
import { nextEvent } from "../lib/wait.mjs";
import { target, WEBSOCKET } from "./setup.mjs";

const EXTRAS = [
  ["text", (length) => "x".repeat(length)],
  ["binary", (length) => Buffer.alloc(length)],
];
for (const [name, extra] of EXTRAS) {
  test(`what join-room remembers is bounded: ${name}`, async () => {
    const room = `bounded ${name}`;
    const witness = await connected(target.url, WEBSOCKET);
    await ask(witness, "join-room", room, "the witness");
    const heard = record(witness, "user-connected");
    const joiner = await connected(target.url, WEBSOCKET);

    const reply = await ask(joiner, "join-room", room, "too much", extra(5_000));
    assert.deepEqual([reply.ok, reply.error], [false, "bad-profile"]);
    const arrival = nextEvent(witness, "user-connected");
    assert.equal((await ask(joiner, "join-room", room, "little", extra(3_000))).ok, true);
    await arrival;
    assert.deepEqual(heard.map(([peerId]) => peerId), ["little"]);
  });
}

test("a client in 1,024 rooms can still update its profile there, and join no other", async () => {
  const client = await connected(target.url, WEBSOCKET);
  const room = (number) => `one of many: ${number}`;
  const replies = await Promise.all(Array.from({ length: 1_024 }, (_, number) => ask(client, "join", room(number))));
  assert.ok(replies.every(({ ok }) => ok));
  assert.deepEqual((await ask(client, "join", room(1_024))).error, "too-many-rooms");
  assert.equal((await ask(client, "join", room(5), { name: "new" })).ok, true);
  const { members } = await ask(client, "members", room(5));
  assert.deepEqual(members, [{ id: client.id, name: "new" }]);
});

test("a call to an absent peer expires although the caller has gone", async () => {
  await withGateway(["--expire_timeout", "400", "--workers", "1"], async (url) => {
    const stays = await connect(url, { id: newId("stays") });
    const absent = newId("absent");
    for (let i = 0; i < 5; i++) {
      const goes = await RawConnection.open(url, `/peerjs?key=peerjs&id=${newId("goes")}&token=t`);
      await goes.text("OPEN");
      // In one piece: the caller is gone before it can hear that its call waits.
      const call = frame(TEXT, JSON.stringify(offer(absent, "stale")));
      goes.write(Buffer.concat([call, frame(CLOSE, closePayload(1000))]));
      await goes.closed;
    }
    // This call is later than the others, and has expired.
    stays.send(offer(absent, "late"));
    assert.ok(await stays.until(() => expiries(stays).includes(absent), PATIENCE_MS), "the last call expires");

    const arrives = await connect(url, { id: absent });
    await settled(stays, arrives);
    assert.deepEqual(payloads(arrives), []);
  });
});
