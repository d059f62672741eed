// PeerServer clients on different nodes. `peer.test.mjs` has all of their behaviour; this is what the store has a part in.
import assert from "node:assert/strict";
import { test } from "node:test";
import { request } from "../lib/http.mjs";
import { until } from "../lib/wait.mjs";
import { peer } from "./members.mjs";

const ROUNDS = 10;

/** The nodes are started with these, so that a letter expires soon and ids are listed. */
export const PEER_FLAGS = ["--expire_timeout", "1000", "--allow_discovery"];

const offer = (from, dst, payload) => from.socket.send({ type: "OFFER", dst, payload });
const heard = ({ socket }) => socket.messages.filter(({ type }) => type !== "OPEN");

export function peers(nodes) {
  test("of parallel claims of one id on all nodes exactly one is let in", async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const id = `claimed-${round}`;
      const claims = await Promise.all(Array.from({ length: 12 }, (_, n) => peer(nodes[n % nodes.length], id, `token${n}`)));
      assert.deepEqual(claims.map(({ answer }) => answer).sort(), [...Array(11).fill("ID-TAKEN"), "OPEN"]);
      claims.forEach(({ socket }) => socket.close());
    }
  });

  test("the same token takes an id over from another node, whose socket is closed", async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const id = `taken-over-${round}`;
      const [first, writer] = await Promise.all([peer(nodes[0], id, "token"), peer(nodes[2], `writer-${round}`)]);
      const second = await peer(nodes[1], id, "token");
      assert.deepEqual([first.answer, second.answer], ["OPEN", "OPEN"]);
      await until(() => first.socket.closed, "the old socket is closed");
      offer(writer, id, round);
      await until(() => heard(second).length === 1, "letters go to the new one");
      assert.equal(heard(first).length, 0);
      [second, writer].forEach(({ socket }) => socket.close());
    }
  });

  test("letters find their peer on any node, in order", async () => {
    const all = await Promise.all(nodes.map((node, index) => peer(node, `letter${index}`)));
    for (let n = 0; n < 20; n += 1) for (const from of all) for (const to of [0, 1, 2]) if (all[to] !== from) offer(from, `letter${to}`, n);
    await until(() => all.every((one) => heard(one).length === 40), "all have arrived");
    for (const one of all) {
      for (const src of new Set(heard(one).map(({ src }) => src))) {
        assert.deepEqual(heard(one).filter((letter) => letter.src === src).map(({ payload }) => payload), Array.from({ length: 20 }, (_, n) => n));
      }
    }
    all.forEach(({ socket }) => socket.close());
  });

  test("a letter waits for its peer, or expires", async () => {
    const from = await peer(nodes[0], "early");
    for (let round = 0; round < ROUNDS; round += 1) offer(from, `late${round}`, round);
    const late = await Promise.all(Array.from({ length: ROUNDS }, (_, round) => peer(nodes[1 + (round % 2)], `late${round}`)));
    await until(() => late.every((one) => heard(one).length === 1), "what waited is there");
    for (const [round, one] of late.entries()) assert.deepEqual(heard(one)[0], { type: "OFFER", src: "early", dst: `late${round}`, payload: round });
    assert.deepEqual(heard(from), [], "nothing has expired");
    for (let round = 0; round < ROUNDS; round += 1) offer(from, `never${round}`, round);
    await until(() => heard(from).length === ROUNDS, "what nobody fetched expires");
    assert.deepEqual(new Set(heard(from).map(({ type }) => type)), new Set(["EXPIRE"]));
    [from, ...late].forEach(({ socket }) => socket.close());
  });

  test("ids of all nodes are listed, until they are released", async () => {
    const all = await Promise.all(Array.from({ length: 12 }, (_, n) => peer(nodes[n % nodes.length], `listed${n}`)));
    const listed = async (node) => JSON.parse((await request(node.url, "GET", "/peerjs/peers")).body).filter((id) => id.startsWith("listed"));
    const names = all.map((_, n) => `listed${n}`).sort();
    for (const node of nodes) assert.deepEqual((await listed(node)).sort(), names);
    all.forEach(({ socket }) => socket.close());
    for (const node of nodes) await until(async () => (await listed(node)).length === 0, "they are gone");
    assert.equal((await peer(nodes[1], "listed0", "other")).answer, "OPEN", "they are free");
  });
}
