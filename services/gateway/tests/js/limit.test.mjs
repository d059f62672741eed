// `--concurrent_limit 4` of a cluster: the nodes of GATEWAY_URLS together let in four peers, and refuse nobody for whom there is room.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { DEFAULT, behaviour, closes, connect, dial, first, newId } from "./lib/peer-harness.mjs";

const LIMIT = 4;
const ROUNDS = 2;

async function allClose(peers) {
  peers.forEach((peer) => peer.close(1000));
  await Promise.all(peers.map(closes));
}

behaviour("of twelve who come at once on all nodes exactly four are let in", async () => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const peers = Array.from({ length: 3 * LIMIT }, () => dial(DEFAULT, { id: newId("limit") }));
    const answers = await Promise.all(peers.map(first));
    assert.deepEqual(answers.toSorted(), [...Array(2 * LIMIT).fill("ERROR"), ...Array(LIMIT).fill("OPEN")]);
    // Those who come now find room, whatever the nodes know of each other at this moment.
    await allClose(peers.filter((peer) => peer.isOpen));
  }
});

behaviour("whoever comes as others go is let in, on any node", async () => {
  let peers = await Promise.all(Array.from({ length: LIMIT }, () => connect(DEFAULT, { id: newId("limit") })));
  for (let round = 0; round < 4 * ROUNDS; round += 1) {
    const next = Array.from({ length: LIMIT }, () => dial(DEFAULT, { id: newId("next") }));
    await sleep(round % 2 === 0 ? 0 : 100);
    await allClose(peers);
    assert.deepEqual(await Promise.all(next.map(first)), Array(LIMIT).fill("OPEN"));
    peers = next;
  }
});

behaviour("an id is taken over with its token when there is no room", async () => {
  const ids = Array.from({ length: LIMIT }, () => newId("limit"));
  await Promise.all(ids.map((id) => connect(DEFAULT, { id })));
  const began = Date.now();
  for (const id of ids) await connect(DEFAULT, { id });
  assert.ok(Date.now() - began < 1_500, "nobody has waited for room");
  assert.equal(await first(dial(DEFAULT, { id: newId("fifth") })), "ERROR");
});
