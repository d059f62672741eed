// PeerServer behaviour that npm `peer` does not have: claims, takeovers, fencing, realms, bounds, and hostile clients next to quiet ones.
// Raw sockets, no peerjs. GATEWAY_URL: a gateway with default flags. GATEWAY_BIN: the binary, for the tests that need other flags.

import assert from "node:assert/strict";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import {
  DEFAULT,
  PATIENCE_MS,
  arrives,
  behaviour,
  closes,
  connect,
  dial,
  expiries,
  first,
  isCluster,
  newId,
  offer,
  payloads,
  run,
  settled,
  withGateway,
} from "./lib/peer-harness.mjs";
import { addressSpace } from "./lib/memory.mjs";
import { generator, malformedFrames, malformedTexts, randomBytes } from "./lib/peer-hostile.mjs";
import { request } from "./lib/peer-http.mjs";
import { frame, socketUrl } from "./lib/peer-socket.mjs";

const CLAIMS = Number(process.env.CLAIMS ?? 50);
/** For how long clients fight for an id. */
const FIGHT_MS = Number(process.env.FIGHT_MS ?? 3_000);

behaviour(`of twelve parallel claims of one id exactly one is let in, ${CLAIMS} times`, async () => {
  for (let round = 0; round < CLAIMS; round += 1) {
    const id = newId("claim");
    const claims = Array.from({ length: 12 }, (_, index) => dial(DEFAULT, { id, token: `token ${index}` }));
    const answers = await Promise.all(claims.map(first));
    assert.deepEqual(answers.toSorted(), [...Array(11).fill("ID-TAKEN"), "OPEN"]);
    const losers = claims.filter((claim) => claim.messages[0].type === "ID-TAKEN");
    await Promise.all(losers.map(closes));
    const winner = claims.find((claim) => claim.messages[0].type === "OPEN");
    await settled(winner, winner);
    winner.close();
  }
});

behaviour("of twelve parallel claims with one token the last to be let in stays, the others are closed", async () => {
  const id = newId("claim");
  const claims = Array.from({ length: 12 }, () => dial(DEFAULT, { id, token: "the same" }));
  await Promise.all(claims.map(first));
  let open = claims.length;
  await new Promise((resolve, reject) => {
    const tooLong = setTimeout(() => reject(new Error(`${open} are still open`)), PATIENCE_MS);
    for (const claim of claims) {
      claim.until(() => claim.closed, PATIENCE_MS).then(() => {
        open -= 1;
        if (open === 1) {
          clearTimeout(tooLong);
          resolve();
        }
      });
    }
  });
  const holder = claims.find((claim) => claim.isOpen);
  assert.equal(holder.messages[0].type, "OPEN");
  const other = await connect(DEFAULT, { id: newId() });
  await settled(other, holder);
  await settled(holder, other);
});

behaviour("concurrent_limit is exact under parallel claims", async () => {
  await withGateway(["--concurrent_limit", "5"], async (base) => {
    const claims = Array.from({ length: 20 }, () => dial(base, { id: newId("limit") }));
    const answers = await Promise.all(claims.map(first));
    assert.deepEqual(answers.toSorted(), [...Array(15).fill("ERROR"), ...Array(5).fill("OPEN")]);
  });
});

behaviour("a takeover with the same token closes the old socket, and nothing it still sends is relayed", async () => {
  const witness = await connect(DEFAULT, { id: newId("witness") });
  for (let round = 0; round < 20; round += 1) {
    const id = newId("taken");
    const old = await connect(DEFAULT, { id });
    old.send(offer(witness.id, `in time ${round}`));
    await settled(old, witness);

    const fresh = dial(DEFAULT, { id });
    await first(fresh);
    // The old socket has not heard of it yet: its frame and the server's close frame cross.
    old.sendRaw(frame({ payload: JSON.stringify(offer(witness.id, `late ${round}`)) }));
    assert.equal(fresh.messages[0].type, "OPEN");
    await closes(old);
    await settled(fresh, witness);
    // The end of the old socket does not release the id: it is still the new one's.
    await settled(witness, fresh);
    assert.equal(await first(dial(DEFAULT, { id, token: "a stranger's" })), "ID-TAKEN");
    fresh.close();
  }
  const heard = payloads(witness);
  assert.deepEqual(heard.filter((payload) => payload.startsWith("late")), []);
  assert.equal(heard.length, 20);
});

/** A page that reconnects with its id and token whenever it is closed. `endures`: also when it is told ID-TAKEN, as no peerjs does. */
async function reconnects(id, endures, until) {
  const outcomes = { OPEN: 0, "ID-TAKEN": 0 };
  while (Date.now() < until) {
    const socket = dial(DEFAULT, { id });
    const outcome = await first(socket);
    outcomes[outcome] += 1;
    await socket.until(() => socket.closed, Math.max(until - Date.now(), 1));
    if (outcome === "ID-TAKEN" && !endures) break;
    if (outcome === "ID-TAKEN") await sleep(50);
  }
  return outcomes;
}

behaviour("of a duplicated page one stays connected and the other is told ID-TAKEN, after a few takeovers", async () => {
  const [id, until] = [newId("twice"), Date.now() + FIGHT_MS];
  const both = await Promise.all([reconnects(id, false, until), reconnects(id, false, until)]);
  assert.equal(both[0]["ID-TAKEN"] + both[1]["ID-TAKEN"], 1, JSON.stringify(both));
  // Five takeovers of somebody who answered, and those of which the answer was under way.
  assert.ok(both[0].OPEN + both[1].OPEN <= 12, JSON.stringify(both));
});

behaviour("clients that fight for an id without end take it over a few times in fifteen seconds", async () => {
  const [id, until] = [newId("fought-for"), Date.now() + FIGHT_MS];
  const both = await Promise.all([reconnects(id, true, until), reconnects(id, true, until)]);
  const takeovers = both[0].OPEN + both[1].OPEN;
  assert.ok(takeovers >= 5, JSON.stringify(both));
  assert.ok(takeovers <= 12 * Math.ceil(FIGHT_MS / 15_000), JSON.stringify(both));
  assert.ok(both[0]["ID-TAKEN"] + both[1]["ID-TAKEN"] > 10, JSON.stringify(both));
});

behaviour("an id is taken over at once from holders that do not answer, however often", async () => {
  const id = newId("half-open");
  const all = [];
  for (let round = 0; round < 15; round += 1) {
    const holder = await connect(DEFAULT, { id });
    // Whatever the server sends from now on is not read.
    holder.socket.pause();
    all.push(holder);
  }
  assert.equal(await first(dial(DEFAULT, { id, token: "a stranger's" })), "ID-TAKEN");
});

behaviour("a frame that comes with the handshake waits for OPEN and is relayed after it", async () => {
  const witness = await connect(DEFAULT, { id: newId("witness") });
  const { hostname, port, pathname, search } = new URL(socketUrl(DEFAULT, { key: "peerjs", id: newId("early"), token: "t" }));
  const handshake = [
    `GET ${pathname}${search} HTTP/1.1`,
    `Host: ${hostname}:${port}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "\r\n",
  ].join("\r\n");
  const early = [1, 2, 3].map((number) => frame({ payload: JSON.stringify(offer(witness.id, number)) }));
  const connection = net.connect(Number(port), hostname);
  try {
    connection.on("error", () => {});
    connection.write(Buffer.concat([Buffer.from(handshake), ...early]));
    await arrives(witness, (message) => message.payload === 3, "the last early frame");
    assert.deepEqual(payloads(witness), [1, 2, 3]);
  } finally {
    connection.destroy();
  }
});

behaviour("an id is free the moment its socket has closed", async () => {
  const id = newId("released");
  for (let round = 0; round < 30; round += 1) {
    const claim = async () => {
      const holder = dial(DEFAULT, { id, token: `token ${round}` });
      // Another node has to hear of it first.
      return (await first(holder)) === "OPEN" || !isCluster ? holder : claim();
    };
    const holder = await claim();
    assert.equal(await first(holder), "OPEN");
    holder.close(1000);
    await closes(holder);
  }
});

behaviour("several keys are separate realms", async () => {
  const flags = ["--key", "red", "--key", "blue", "--allow_discovery", "--expire_timeout", "500"];
  await withGateway(flags, async (base) => {
    const [redAnn, redBob] = [await connect(base, { key: "red", id: "ann" }), await connect(base, { key: "red", id: "bob" })];
    const blueAnn = await connect(base, { key: "blue", id: "ann", token: "another" });
    const blueCid = await connect(base, { key: "blue", id: "cid" });
    assert.equal(await first(dial(base, { key: "peerjs", id: "dan" })), "ERROR", "the default key is not one of them");
    assert.equal(await first(dial(base, { key: "blue", id: "ann", token: "a third" })), "ID-TAKEN");

    const list = async (key) => JSON.parse((await request(base, { path: `/${key}/peers` })).body).toSorted();
    assert.deepEqual(await list("red"), ["ann", "bob"]);
    assert.deepEqual(await list("blue"), ["ann", "cid"]);
    assert.deepEqual(await list("green"), []);

    redBob.send(offer("ann", "red"));
    blueCid.send(offer("ann", "blue"));
    await Promise.all([settled(redBob, redAnn), settled(blueCid, blueAnn)]);
    assert.deepEqual([payloads(redAnn), payloads(blueAnn)], [["red"], ["blue"]]);

    // Whom the other realm knows, this one does not.
    redBob.send(offer("cid", "across"));
    await arrives(redBob, (message) => message.type === "EXPIRE", "EXPIRE");
    assert.deepEqual(payloads(blueCid), []);
    assert.deepEqual(expiries(redBob), ["cid"]);
  });
});

behaviour("a message is delivered or expires, never both, also when its destination comes at the last moment", async () => {
  const timeout = 600;
  await withGateway(["--expire_timeout", `${timeout}`], async (base) => {
    // From well before the expiry until well after it, the most of them around it.
    const moments = [0, 100, 200, 300, 400, ...Array.from({ length: 60 }, (_, index) => 450 + index * 15), 2_500];
    const senders = await Promise.all(moments.map(() => connect(base, { id: newId("sender") })));
    const outcomes = await Promise.all(
      moments.map(async (moment, index) => {
        const sender = senders[index];
        const id = newId("late");
        sender.send(offer(id, "once"));
        await settled(sender, sender);
        await sleep(moment);
        const receiver = await connect(base, { id });
        await settled(sender, receiver);
        // By the time of this later one's EXPIRE, that of the first would have come.
        const nobody = newId("nobody");
        sender.send(offer(nobody, "never"));
        await arrives(sender, (message) => message.type === "EXPIRE" && message.src === nobody, "the later EXPIRE");
        return { moment, delivered: payloads(receiver).length, expired: expiries(sender).filter((src) => src === id).length };
      }),
    );
    assert.deepEqual(outcomes.filter(({ delivered, expired }) => delivered + expired !== 1), []);
    assert.equal(outcomes[0].delivered, 1, "at once: delivered");
    assert.equal(outcomes.at(-1).expired, 1, "long after: expired");
  });
});

behaviour("a sender who goes on sending to an absent peer is told once for each time that ran out", async () => {
  const timeout = 400;
  await withGateway(["--expire_timeout", `${timeout}`], async (base) => {
    const sender = await connect(base, { id: newId("sender") });
    const absent = newId("absent");
    const began = Date.now();
    for (let index = 0; index < 60; index += 1) {
      sender.send({ type: "CANDIDATE", dst: absent, payload: index });
      await sleep(25);
    }
    const elapsed = Date.now() - began;
    const nobody = newId("nobody");
    sender.send(offer(nobody, 1));
    await arrives(sender, (message) => message.type === "EXPIRE" && message.src === nobody, "the last EXPIRE");
    const told = expiries(sender).filter((src) => src === absent).length;
    assert.ok(told >= 1 && told <= Math.ceil(elapsed / timeout) + 1, `told ${told} times in ${elapsed} ms`);
  });
});

behaviour("the queue for an absent peer is bounded, and what it holds arrives in order", async () => {
  const sender = await connect(DEFAULT, { id: newId("sender") });
  // Of a cluster, on another node: what reaches it has come behind what waits.
  const witness = await connect(DEFAULT, { id: newId("witness") });
  // More than one sender's 256 messages, and more than its 512 KiB.
  for (const [count, size, most] of [
    [1_000, 10, 256],
    [30, 100_000, 5],
  ]) {
    const absent = newId("absent");
    for (let index = 0; index < count; index += 1) {
      sender.send(offer(absent, { index, filling: "x".repeat(size) }));
    }
    await settled(sender, sender);
    await settled(sender, witness);
    const receiver = await connect(DEFAULT, { id: absent });
    await settled(sender, receiver);
    const received = payloads(receiver).map((payload) => payload.index);
    assert.deepEqual(received, Array.from({ length: most }, (_, index) => index), "the first ones, without a gap");
  }
});

behaviour("a sender whose messages found the queue full is told all the same", async () => {
  await withGateway(["--expire_timeout", "500"], async (base) => {
    const [first, second] = [await connect(base, { id: newId("first") }), await connect(base, { id: newId("second") })];
    const absent = newId("absent");
    for (let index = 0; index < 300; index += 1) {
      first.send(offer(absent, index));
    }
    await settled(first, first);
    second.send(offer(absent, "too late"));
    for (const sender of [first, second]) {
      await arrives(sender, (message) => message.type === "EXPIRE", "EXPIRE");
      await settled(sender, sender);
      assert.deepEqual(expiries(sender), [absent]);
    }
  });
});

behaviour("of 300 calls to absent peers each ends in one EXPIRE", async () => {
  const sender = await connect(DEFAULT, { id: newId("sender") });
  const absent = Array.from({ length: 300 }, () => newId("absent"));
  for (const dst of absent) {
    sender.send(offer(dst, "x".repeat(2_000)));
    for (let index = 0; index < 10; index += 1) {
      sender.send({ type: "CANDIDATE", dst, payload: index });
    }
  }
  assert.ok(await sender.until(() => expiries(sender).length >= absent.length, PATIENCE_MS), `told of ${expiries(sender).length}`);
  await settled(sender, sender);
  assert.deepEqual(expiries(sender).toSorted(), absent.toSorted());
});

behaviour("a client that calls thousands of absent peers is read more slowly, and told of each", async () => {
  await withGateway(["--expire_timeout", "300", "--alive_timeout", "1000"], async (base) => {
    const sender = await connect(base, { id: newId("sender") });
    const absent = Array.from({ length: 3_000 }, () => newId("absent"));
    absent.forEach((dst) => sender.send(offer(dst, 1)));
    // Looked at now and then: to read thousands of messages again at each one is slow.
    const deadline = Date.now() + PATIENCE_MS;
    while (expiries(sender).length < absent.length && Date.now() < deadline) {
      await sleep(200);
    }
    await settled(sender, sender);
    assert.equal(new Set(expiries(sender)).size, absent.length);
    assert.equal(expiries(sender).length, absent.length);
  });
});

for (const guests of [30, 60, 200]) {
  behaviour(`of ${guests} guests of a host that comes two seconds late each is connected or told`, async () => {
    const host = newId("host");
    const all = await Promise.all(Array.from({ length: guests }, () => connect(DEFAULT, { id: newId("guest") })));
    for (const guest of all) {
      guest.send(offer(host, { sdp: "x".repeat(3_000) }));
      for (let index = 0; index < 10; index += 1) {
        guest.send({ type: "CANDIDATE", dst: host, payload: "x".repeat(300) });
      }
    }
    await sleep(2_000);
    const late = await connect(DEFAULT, { id: host });
    const answered = new Set();
    const ends = () => all.every((guest) => answered.has(guest.id) || expiries(guest).length > 0);
    const deadline = Date.now() + PATIENCE_MS;
    while (!ends() && Date.now() < deadline) {
      late.messages.filter(({ type }) => type === "OFFER").forEach(({ src }) => answered.add(src));
      await sleep(50);
    }
    const outcomes = all.map((guest) => Number(answered.has(guest.id)) + expiries(guest).length);
    assert.deepEqual(outcomes.filter((outcome) => outcome !== 1), [], "each once");
    assert.ok(answered.size >= Math.min(guests, 60), `${answered.size} are connected`);
    if (guests <= 60) {
      const candidates = late.messages.filter(({ type }) => type === "CANDIDATE").length;
      assert.equal(candidates, guests * 10, "and none of their candidates is lost");
    }
  });
}

behaviour("tokens of 2 KiB and ids of 256 bytes are fine, longer ids are refused with a reason", async () => {
  const token = "t".repeat(2_048);
  const id = newId("signed");
  const holder = await connect(DEFAULT, { id, token });
  assert.equal(await first(dial(DEFAULT, { id, token: `${token.slice(0, -1)}u` })), "ID-TAKEN");
  await settled(holder, holder);

  for (const letter of ["x", "é", "🦊"]) {
    const room = 256 - Buffer.byteLength(run);
    const longest = run + letter.repeat(Math.floor(room / Buffer.byteLength(letter)));
    const socket = await connect(DEFAULT, { id: longest });
    await settled(socket, socket);
    for (const tooLong of [longest + letter.repeat(4), longest + letter.repeat(300)]) {
      const refused = dial(DEFAULT, { id: tooLong });
      assert.equal(await first(refused), "ERROR");
      assert.match(refused.messages[0].payload.msg, /256/);
      await closes(refused);
    }
  }
});

behaviour("max-payload: the last byte that fits, and the first that does not", async () => {
  await withGateway(["--max-payload", "2000"], async (base) => {
    const receiver = await connect(base, { id: newId("receiver") });
    const message = (size) => {
      const empty = JSON.stringify(offer(receiver.id, "")).length;
      return JSON.stringify(offer(receiver.id, "x".repeat(size - empty)));
    };
    const sender = await connect(base, { id: newId("sender") });
    sender.send(message(2_000));
    await settled(sender, receiver);
    assert.equal(payloads(receiver).length, 1);
    sender.send(message(2_001));
    assert.equal(await closes(sender), 1009);

    // The limit is for the message, not for each of its fragments; and for what is declared, not for what has come.
    const inPieces = await connect(base, { id: newId("pieces") });
    const text = message(2_001);
    inPieces.sendRaw(frame({ fin: false, payload: text.slice(0, 1_500) }));
    inPieces.sendRaw(frame({ opcode: 0, payload: text.slice(1_500) }));
    assert.equal(await closes(inPieces), 1009);
    const declaring = await connect(base, { id: newId("declaring") });
    declaring.sendRaw(frame({ declared: 2_001, payload: "" }));
    assert.equal(await closes(declaring), 1009);
    await settled(receiver, receiver);
    assert.equal(payloads(receiver).length, 1);
  });
});

behaviour("declared lengths cost no memory", async () => {
  await withGateway([], async (base, gateway) => {
    const declaring = await Promise.all(Array.from({ length: 200 }, () => connect(base, { id: newId("declaring") })));
    const before = await addressSpace(gateway.child.pid);
    for (const socket of declaring) {
      socket.sendRaw(frame({ declared: 1_000_000, payload: "{" }));
    }
    const huge = await connect(base, { id: newId("huge") });
    huge.sendRaw(frame({ declared: 400_000_000, payload: "{" }));
    assert.equal(await closes(huge), 1009);
    const other = await connect(base, { id: newId() });
    await settled(other, other);
    const reserved = (await addressSpace(gateway.child.pid)) - before;
    assert.ok(reserved < 50e6, `200 MB declared: ${reserved} bytes reserved`);
    assert.ok(declaring.every((socket) => socket.isOpen), "they may still send them");
  });
});

behaviour("a client that does not read is put out, and its neighbours notice nothing", async () => {
  await withGateway(["--workers", "1", "--max-payload", "100000"], async (base) => {
    const [sender, neighbour] = [await connect(base, { id: newId("sender") }), await connect(base, { id: newId("neighbour") })];
    const id = newId("slow");
    const slow = await connect(base, { id });
    slow.socket._socket.pause();
    // More than the kernel's buffers and the outbox (four times the payload limit) can hold.
    for (let index = 0; index < 300; index += 1) {
      sender.send(offer(id, "x".repeat(90_000)));
    }
    await settled(sender, neighbour);
    await settled(neighbour, sender);
    // It reads on and finds itself closed; its id can be had by another.
    slow.socket._socket.resume();
    await closes(slow);
    assert.ok(payloads(slow).length < 300);
    await connect(base, { id, token: "another" });
  });
});

behaviour("whatever bytes a client sends, its neighbour in the same worker notices nothing", async () => {
  await withGateway(["--workers", "1"], async (base) => {
    const neighbour = await connect(base, { id: newId("neighbour") });
    const friend = await connect(base, { id: newId("friend") });
    let sent = 0;
    const talk = () => friend.send(offer(neighbour.id, (sent += 1)));

    const random = generator(20_240_229);
    const hostile = [...malformedTexts().map((text) => frame({ payload: text })), ...malformedFrames()];
    hostile.push(...Array.from({ length: 150 }, () => randomBytes(random)));
    for (const bytes of hostile) {
      const attacker = await connect(base, { id: newId("attacker") });
      attacker.sendRaw(bytes);
      talk();
      attacker.sendRaw(frame({ payload: JSON.stringify(offer(newId("absent"), 1)) }));
    }
    talk();
    await arrives(neighbour, (message) => message.payload === sent, "the last word");
    assert.deepEqual(payloads(neighbour), Array.from({ length: sent }, (_, index) => index + 1));
    await settled(neighbour, friend);
    assert.deepEqual([neighbour.closed, friend.closed], [undefined, undefined]);
    assert.deepEqual(payloads(friend), []);
  });
});

behaviour("after frames that make no sense the same socket goes on", async () => {
  const socket = await connect(DEFAULT, { id: newId("confused") });
  for (const text of malformedTexts()) {
    socket.send(text);
  }
  await settled(socket, socket);
  assert.deepEqual(socket.messages.map((message) => message.type), ["OPEN", "CANDIDATE"]);
});
