// One client's batch takes turns with everybody else on its worker. Order tells: a neighbour that asks when the
// first message of the batch is heard has its answer before the sender of the batch has.
import assert from "node:assert/strict";
import { test } from "node:test";
import { frame, RawConnection, TEXT } from "../lib/frames.mjs";
import { withGateway } from "../lib/peer-harness.mjs";
import { packets, PollingSession } from "../lib/polling.mjs";
import { until } from "../lib/wait.mjs";
import { ONE_WORKER, rawMember, waitingBytes } from "./setup.mjs";

test("a neighbour is served while a POST of many messages is", async () => {
  await withGateway(ONE_WORKER, async (url, gateway) => {
    const neighbour = await RawConnection.join(url);
    const batch = await PollingSession.join(url);
    await batch.post('42["join","room"]');
    // They make the batch long; what waits for them is within their outboxes.
    const idle = await Promise.all(Array.from({ length: 8 }, () => rawMember(url, "room")));
    for (const { socket } of idle) socket.pause();
    const member = await rawMember(url, "room");

    const order = [];
    const posted = batch.post(packets(...Array(40_000).fill('42["message","room",1]'))).then(({ body }) => {
      assert.equal(body, "ok");
      order.push("the batch");
    });
    assert.match(await member.text("the first message"), /^42\["message",1/);
    neighbour.write(frame(TEXT, '421["users"]'));
    const answered = neighbour.text("the answer").then((text) => {
      assert.match(text, /^431\[\{"ok":true/);
      order.push("the neighbour");
    });
    await Promise.all([posted, answered]);
    assert.deepEqual(order, ["the neighbour", "the batch"]);

    for (const { socket } of idle) socket.resume();
    await batch.poll((packet) => packet.startsWith('42["joined"'), "what waits for the sender of the batch");
    await until(async () => (await waitingBytes(gateway)) === 0, "nothing waits any more");
    for (const connection of [...idle, member, neighbour]) assert.equal(connection.isClosed, false);
  });
});
