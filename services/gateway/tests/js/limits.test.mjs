// Each limit, driven past its edge by a client that does not care, while a well-behaved neighbour loses nothing.
// Starts its servers itself; GATEWAY_BIN names the gateway.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { closeAll } from "./lib/cleanup.mjs";
import { ask, connected, record } from "./lib/clients.mjs";
import { request } from "./lib/http.mjs";
import { HANDSHAKE, PollingSession } from "./lib/polling.mjs";
import { nextEvent, until, within } from "./lib/wait.mjs";
import { RawSocket } from "./lib/websocket.mjs";
import { gateway, granted, io as withToken, peer, peerAnswer, required, SECRET } from "./auth/setup.mjs";
import { Redis, startNodes } from "./cluster/setup.mjs";

const WEBSOCKET = { transports: ["websocket"] };
// Ten seconds' worth may come at once.
const BURST_S = 10;

after(closeAll);

async function sample(server, name) {
  const { body } = await request(server.adminUrl, "GET", "/metrics");
  return Number(body.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ").at(-1) ?? Number.NaN);
}
const dropped = (server, reason) => sample(server, `signalbox_connections_dropped_total{reason="${reason}"}`);
const refusals = (server, code) => sample(server, `signalbox_refusals_total{code="${code}"}`);

/** Somebody who talks all the while, and is answered each time and heard by another. */
async function neighbours(server) {
  const [speaker, listener] = await Promise.all([connected(server.url, WEBSOCKET), connected(server.url, WEBSOCKET)]);
  for (const socket of [speaker, listener]) assert.equal((await ask(socket, "join", "neighbours")).ok, true);
  const heard = record(listener, "message");
  let said = 0;
  let talking = true;
  const talk = (async () => {
    for (; talking; await sleep(20)) assert.deepEqual(await ask(speaker, "message", "neighbours", ++said), { ok: true });
  })();
  return async () => {
    talking = false;
    await talk;
    await until(() => heard.length === said, "everything that was said");
    assert.deepEqual(heard.map(([number]) => number), Array.from({ length: said }, (_, index) => index + 1));
  };
}

describe("a rate", { concurrency: true }, () => {
  test("of events: refused with the time to wait, then the end; and the neighbours lose nothing", async () => {
    const server = await gateway("--events-per-second", "100");
    const end = await neighbours(server);
    const socket = await RawSocket.join(server.url);
    socket.send('420["join","mine"]');
    assert.match(await socket.next("the answer"), /^430\[\{"ok":true/);
    const answers = [];
    const events = 100 * BURST_S;
    for (let number = 1; number <= 3 * events && !socket.isClosed; number += 1) socket.send(`42${number}["message","mine",1]`);
    await within(socket.closed, "the end");
    while (socket.inbox.items.length > 0) answers.push(await socket.inbox.next());
    assert.equal(typeof answers.pop(), "symbol", "the end comes last");
    const taken = answers.filter((answer) => answer.endsWith('[{"ok":true}]'));
    const refused = answers.filter((answer) => answer.includes('"error":"rate-limited"'));
    // The CONNECT, the join, and what the time allows meanwhile.
    assert.ok(taken.length >= events - 3 && taken.length < 1.5 * events, `${taken.length} taken`);
    assert.ok(refused.length >= events / 2 && refused.length < 1.5 * events, `${refused.length} refused`);
    const wait = JSON.parse(/\[.*/.exec(refused[0])[0])[0].retryAfter;
    assert.ok(wait >= 1 && wait < 1000, `${wait} ms`);
    assert.equal(answers.length, taken.length + refused.length, "each has its answer");
    assert.equal(await dropped(server, "rate_limited"), 1);
    assert.equal(await refusals(server, "rate-limited"), refused.length);
    await end();
  });

  test("of events: who waits as long as told is taken again, on polling too", async () => {
    const server = await gateway("--events-per-second", "20");
    for (const transports of [["websocket"], ["polling"]]) {
      const socket = await connected(server.url, { transports });
      const answers = await Promise.all(Array.from({ length: 24 * BURST_S }, () => ask(socket, "leave", "nowhere")));
      const refused = answers.filter(({ error }) => error === "rate-limited");
      assert.ok(refused.length >= 10 && refused.length <= 5 * BURST_S, `${refused.length} refused`);
      await sleep(refused.at(-1).retryAfter + 5);
      assert.equal((await ask(socket, "users")).ok, true);
      // Without an ack it is an event.
      const told = nextEvent(socket, "error");
      for (let number = 0; number < 5; number += 1) socket.emit("leave", "nowhere");
      assert.ok(["rate-limited", "not-a-member"].includes((await told)[0].error));
    }
  });

  test("of bytes, attachments included", async () => {
    const server = await gateway("--bytes-per-second", "10000");
    const socket = await connected(server.url, WEBSOCKET);
    assert.equal((await ask(socket, "join", "room")).ok, true);
    const chunk = Buffer.alloc(30_000);
    const answers = [];
    for (let number = 0; number < 5; number += 1) answers.push(await ask(socket, "message", "room", chunk));
    assert.deepEqual(answers.slice(0, 3), [{ ok: true }, { ok: true }, { ok: true }]);
    assert.equal(answers[3].error, "rate-limited");
  });

  test("of joins, which ends nobody", async () => {
    const server = await gateway("--joins-per-second", "2");
    const socket = await connected(server.url, WEBSOCKET);
    const answers = [];
    for (let number = 0; number < 60; number += 1) answers.push(await ask(socket, "join", `room ${number}`));
    assert.ok(answers.slice(0, 20).every(({ ok }) => ok));
    assert.ok(answers.slice(25).some(({ error, retryAfter }) => error === "rate-limited" && retryAfter > 0));
    assert.ok(socket.connected);
    assert.equal((await ask(socket, "leave", "room 1")).ok, true);
  });

  test("of a PeerServer client, which is closed; and comes back", async () => {
    const server = await gateway("--events-per-second", "10");
    const [sender, addressee] = [await peer(server, "sender", "t"), await peer(server, "addressee", "t")];
    const offer = (number) => JSON.stringify({ type: "CANDIDATE", dst: "addressee", payload: { number } });
    for (let number = 0; number < 11 * BURST_S; number += 1) sender.send(offer(number));
    await within(sender.until(() => sender.closed), "the end");
    assert.equal(sender.closed.code, 1008);
    await until(() => addressee.messages.length >= 10 * BURST_S, "what was within the rate");
    assert.equal(await peerAnswer(server, "sender", "t"), "OPEN");
    assert.equal(addressee.closed, undefined);
  });

  test("that a token grants takes the place of the server's", async () => {
    const server = await required("--events-per-second", "1", "--joins-per-second", "1");
    const grants = (limits) => granted({ rooms: { join: ["*"], send: ["*"] }, namespaces: ["*"], limits });
    const socket = await withToken(server, grants({ eventsPerSecond: 1000, joinsPerSecond: 1000, rooms: 30, messageBytes: 100, profileBytes: 5000 }));
    for (let number = 0; number < 30; number += 1) assert.equal((await ask(socket, "join", `room ${number}`)).ok, true);
    assert.deepEqual(await ask(socket, "join", "one more"), { ok: false, error: "too-many-rooms" });
    assert.deepEqual(await ask(socket, "message", "room 1", "x".repeat(40)), { ok: true });
    assert.deepEqual(await ask(socket, "message", "room 1", Buffer.alloc(100)), { ok: false, error: "message-too-large" });
    const other = await withToken(server, grants({ eventsPerSecond: 1000, profileBytes: 5000 }));
    assert.equal((await ask(other, "join", "room", { name: "x".repeat(4900) })).ok, true);
    assert.deepEqual(await ask(other, "join", "room", { name: "x".repeat(5000) }), { ok: false, error: "bad-profile" });
  });
});

describe("a number", { concurrency: true }, () => {
  test("of rooms and of namespaces", async () => {
    const server = await gateway("--max-rooms", "3", "--auth", "optional", "--jwt-secret", SECRET);
    const socket = await connected(server.url, WEBSOCKET);
    for (const room of ["a", "b", "c"]) assert.equal((await ask(socket, "join", room)).ok, true);
    assert.deepEqual(await ask(socket, "join", "d"), { ok: false, error: "too-many-rooms" });
    assert.equal((await ask(socket, "join", "c", { again: true })).ok, true);
    assert.equal((await ask(socket, "leave", "a")).ok, true);
    assert.equal((await ask(socket, "join", "d")).ok, true);
    assert.equal(await refusals(server, "too-many-rooms"), 1);
  });

  test("of members of a room, on all nodes together; who is in stays in", async () => {
    const redis = await Redis.start();
    const nodes = await startNodes(redis, 2, ["--max-room-members", "3"]);
    const sockets = await Promise.all([0, 1, 0, 1, 0].map((index) => connected(nodes[index].url, WEBSOCKET)));
    const answers = await Promise.all(sockets.map((socket) => ask(socket, "join", "small")));
    assert.equal(answers.filter(({ ok }) => ok).length, 3);
    const outside = sockets.filter((_, index) => !answers[index].ok);
    for (const socket of outside) assert.deepEqual(await ask(socket, "join", "small"), { ok: false, error: "room-full" });
    const inside = sockets.filter((_, index) => answers[index].ok);
    assert.equal((await ask(inside[0], "join", "small", { name: "again" })).ok, true);
    assert.equal((await ask(inside[0], "leave", "small")).ok, true);
    // A place is free once Redis knows that somebody has left, which the ack does not wait for.
    await until(async () => (await ask(outside[0], "join", "small")).ok, "a place is free");
    assert.equal((await ask(outside[0], "members", "small")).members.length, 3);
    assert.equal((await ask(outside[0], "join", "another")).ok, true);
  });

  test("of connections of one address, which keeps no other out", async () => {
    const server = await gateway("--connections-per-address", "3");
    const open = () => RawSocket.open(server.url);
    const [one, two, three] = [await open(), await open(), await open()];
    await assert.rejects(open());
    assert.equal((await request(server.url, "GET", HANDSHAKE)).status, 429);
    assert.equal((await RawSocket.open(server.url, { localAddress: "127.0.0.2" })).isClosed, false);
    assert.ok((await dropped(server, "address_connections")) >= 2);
    one.ws.close();
    await one.closed;
    await until(async () => (await request(server.url, "GET", HANDSHAKE)).status === 200, "a place is free");
    assert.ok(!two.isClosed && !three.isClosed);
  });

  test("of connections of an address that a trusted proxy names", async () => {
    const server = await gateway("--connections-per-address", "2", "--proxied", "--trusted-proxies", "127.0.0.1");
    const from = (last) => ({ headers: { "x-forwarded-for": `2001:db8::${last}, 127.0.0.1` } });
    const [, two] = [await RawSocket.open(server.url, from(1)), await PollingSession.open(server.url, from(2))];
    assert.equal((await request(server.url, "GET", HANDSHAKE, from(3))).status, 429);
    await assert.rejects(RawSocket.open(server.url, from(4)));
    for (let number = 0; number < 3; number += 1) {
      const other = { headers: { "x-forwarded-for": `2001:db8:1:${number}::1` } };
      assert.equal((await request(server.url, "GET", HANDSHAKE, other)).status, 200);
    }
    // A session keeps its place until it is over.
    await two.post("1");
    await until(async () => (await request(server.url, "GET", HANDSHAKE, from(5))).status === 200, "a place is free");
  });

  test("of handshakes of one address, and of all", async () => {
    const server = await gateway("--handshakes-per-address", "1", "--handshakes-per-second", "2", "--proxied", "--trusted-proxies", "127.0.0.1");
    const from = (last) => ({ headers: { "x-forwarded-for": `192.0.2.${last}` } });
    const open = (last) => request(server.url, "GET", HANDSHAKE, from(last));
    const statuses = [];
    for (let number = 0; number < 15; number += 1) statuses.push((await open(1)).status);
    assert.deepEqual(statuses.slice(0, 10), Array(10).fill(200));
    const refused = await open(1);
    assert.equal(refused.status, 429);
    assert.ok(Number(refused.headers["retry-after"]) >= 1);
    // The other address has its own.
    assert.equal((await open(2)).status, 200);
    await assert.rejects(RawSocket.open(server.url, from(1)));
    let all = 200;
    for (let last = 3; last < 40 && all === 200; last += 1) all = (await open(last)).status;
    assert.equal(all, 429);
    assert.ok((await dropped(server, "handshakes")) >= 1 && (await dropped(server, "address_handshakes")) >= 2);
    assert.ok((await sample(server, 'signalbox_handshakes_total{outcome="rate_limited",protocol="socketio"}')) >= 3);
  });
});

test("bad tokens over HTTP cost their address its handshakes, and good ones nothing", async () => {
  const flags = ["--handshakes-per-address", "1", "--allow_discovery", "--proxied", "--trusted-proxies", "127.0.0.1"];
  const server = await required(...flags);
  const good = granted({ peer: { discover: true } });
  const routes = ["/turn/ice-servers", "/peerjs/peers"];
  const get = (last, route, shown) => request(server.url, "GET", route, { headers: { "x-forwarded-for": `192.0.2.${last}`, authorization: `Bearer ${shown}` } });
  const statuses = async (last, shown, times) => {
    const all = [];
    for (let number = 0; number < times; number += 1) all.push((await get(last, routes[number % 2], shown)).status);
    return all;
  };
  assert.deepEqual(await statuses(1, good, 3 * BURST_S), Array(3 * BURST_S).fill(200));
  // A second gives one back.
  const bad = await statuses(1, `${good.slice(0, -4)}AAAA`, 2 * BURST_S);
  assert.deepEqual(bad.slice(0, BURST_S), Array(BURST_S).fill(401));
  assert.equal(bad.at(-1), 429);
  for (const route of routes) {
    const refused = await get(1, route, good);
    assert.equal(refused.status, 429, route);
    assert.ok(Number(refused.headers["retry-after"]) >= 1);
  }
  assert.equal((await request(server.url, "GET", HANDSHAKE, { headers: { "x-forwarded-for": "192.0.2.1" } })).status, 429);
  assert.deepEqual(await statuses(2, good, 2), [200, 200], "another address has its own");
  assert.ok((await dropped(server, "address_handshakes")) >= 4);
  await until(async () => (await get(1, routes[0], good)).status === 200, "it may try again");
});

test("an unmodified client that is told to come later does", async () => {
  const server = await gateway("--handshakes-per-second", "1");
  for (let number = 0; number < BURST_S; number += 1) await PollingSession.open(server.url);
  const socket = io(server.url, { forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 500 });
  const refused = nextEvent(socket, "connect_error");
  await refused;
  await nextEvent(socket, "connect");
  socket.disconnect();
});
