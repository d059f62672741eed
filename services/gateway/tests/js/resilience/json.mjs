// JSON that the reference parser takes is relayed as it is, next to attachments as well as without.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RawSocket } from "../lib/websocket.mjs";
import { target } from "./setup.mjs";

const PLACEHOLDER = '{"_placeholder":true,"num":0}';
const LEGAL = [
  ["a lone surrogate", `{"a":"\\ud800","b":${PLACEHOLDER}}`],
  ["a number beyond a double", `{"a":1E400,"b":${PLACEHOLDER}}`],
  ["200 arrays in each other", `${"[".repeat(200)}${PLACEHOLDER}${"]".repeat(200)}`],
];
for (const [name, data] of LEGAL) {
  test(`a binary event with ${name} is relayed`, async () => {
    const room = JSON.stringify(name);
    const [from, to] = await Promise.all([RawSocket.join(target.url), RawSocket.join(target.url)]);
    for (const member of [to, from]) {
      member.send(`420["join",${room}]`);
      await member.until((packet) => packet.startsWith("430["), "the acknowledgement of a join");
    }
    from.send(`451-["message",${room},${data}]`, Buffer.from("bytes"));
    const packet = await to.until((item) => item.startsWith("451-"), "the message");
    assert.ok(packet.startsWith(`451-["message",${data},`), packet);
    assert.equal((await to.next("the attachment")).toString(), "bytes");
    await from.expectAlive();
    for (const member of [from, to]) member.end();
  });
}
