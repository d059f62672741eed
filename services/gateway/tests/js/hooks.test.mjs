// Servers of the application's own: what they are asked, and what becomes of each kind of answer, or of none.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { ask, client, connected, record } from "./lib/clients.mjs";
import { startGateway } from "./lib/peer-servers.mjs";
import { PeerSocket, socketUrl } from "./lib/peer-socket.mjs";
import { nextEvent, until } from "./lib/wait.mjs";

const RULES = fileURLToPath(new URL("rules/hooks.toml", import.meta.url));
const WEBSOCKET = { transports: ["websocket"] };
const KEY = Buffer.from("a key of the tests, of 32 bytes.");
const refused = (error) => ({ ok: false, error });
after(closeAll);

/** A server of the application: `answer` is given each question, and the HTTP response. It keeps the questions. */
async function app(answer) {
  const asked = [];
  const server = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature } = request.headers;
      // As the specification says it, with nothing of ours.
      const mac = createHmac("sha256", KEY).update(`${id}.${timestamp}.`).update(body).digest("base64");
      assert.equal(signature, `v1,${mac}`);
      assert.ok(Math.abs(Date.now() / 1000 - Number(timestamp)) < 60);
      const question = JSON.parse(body);
      asked.push({ ...question, id });
      answer(question, response);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  onEnd(() => new Promise((resolve) => server.close(resolve) && server.closeAllConnections()));
  return { asked, url: `http://127.0.0.1:${server.address().port}`, server };
}

async function gateway(hooks, ...flags) {
  const named = Object.entries(hooks).flatMap(([name, url]) => ["--hook", `${name}=${url}`]);
  const server = await startGateway(["--workers", "1", ...named, "--hook-secret", `whsec_${KEY.toString("base64")}`, ...flags]);
  onEnd(() => server.stop());
  return server;
}

const json = (response, value, status = 200) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));

let own;
let elsewhere;
let broken;
let server;
let busiest = 0;
let present = 0;
before(async () => {
  elsewhere = await app((_, response) => json(response, { ack: "elsewhere" }));
  const waiting = [];
  own = await app((question, response) => {
    const how = question.args[0];
    if (how === "echo") json(response, { ack: question });
    else if (how === "act") {
      json(response, {
        ack: { ok: true },
        do: [{ set: { paid: true } }, { join: question.args[1], joined: ["came", question.socket.id] }, { emit: ["news", 1.5, null], to: "room" }, { emit: ["told"], to: { socket: question.args[2] } }],
      });
    } else if (how === "data") json(response, { data: { next: "join", room: "from the application" } });
    else if (how === "refuse") json(response, { refuse: { code: "no-money", hint: "pay" }, do: [{ emit: ["never"], to: "me" }] });
    else if (how === "bye") json(response, { do: [{ disconnect: "connection" }] });
    else if (how === "empty") response.writeHead(204).end();
    else if (how === "error") json(response, { ack: "no" }, 500);
    else if (how === "redirect") response.writeHead(307, { location: elsewhere.url }).end();
    else if (how === "large") json(response, { ack: "x".repeat(70_000) });
    else if (how === "text") response.end("hello");
    else if (how === "misspelt") json(response, { akc: 1 });
    else if (how === "never") waiting.push(response);
    else if (how === "slow") {
      busiest = Math.max(busiest, ++present);
      setTimeout(() => {
        present -= 1;
        json(response, { ack: "slow" });
      }, 300);
    }
  });
  broken = await app((question, response) => (broken.works ? json(response, { ack: "again" }) : json(response, {}, 503)));
  server = await gateway({ app: own.url, broken: `${broken.url}/path?key=1` }, "--rules", RULES, "--hook-timeout", "1000", "--hook-concurrency", "2");
});

const enter = (options) => connected(server.url, { ...WEBSOCKET, ...options });

test("an event is told with whose it is, and the answer is the ack", async () => {
  const ann = await enter({ auth: { name: "Ann" } });
  const { id, address, ...told } = await ask(ann, "ask", "echo", { deep: [Buffer.from("zero")] }, null, 1.5);
  assert.deepEqual(told, {
    type: "event",
    event: "ask",
    args: ["echo", { deep: [{ $binary: "emVybw==" }] }, null, 1.5],
    namespace: "/",
    socket: { id: ann.id, address: "127.0.0.1", data: { name: "Ann" } },
    subject: null,
    claims: {},
    ack: true,
  });
  ann.emit("ask", "echo");
  await until(() => own.asked.length === 2, "the second question");
  assert.equal(own.asked[1].ack, false);
  assert.notEqual(own.asked[0].id, own.asked[1].id);
});

test("an answer may act, give values to the rest of the rule, refuse, or want nothing", async () => {
  const [a, b] = [await enter(), await enter()];
  const [news, told, came] = [record(b, "news"), record(b, "told"), record(b, "came")];
  await ask(b, "join", "acted");
  assert.deepEqual(await ask(a, "ask", "act", "acted", b.id), { ok: true });
  await until(() => told.length === 1, "the single socket is told");
  assert.deepEqual([news, came], [[[1.5, null]], [[a.id]]]);
  const said = nextEvent(b, "said");
  a.emit("say", "acted", "hello");
  assert.deepEqual(await said, ["hello", true]);
  assert.deepEqual(await ask(a, "ask", "data"), { joined: "from the application", count: 1 });
  const never = record(a, "never");
  assert.deepEqual(await ask(a, "ask", "refuse"), refused("no-money"));
  const error = nextEvent(a, "error");
  a.emit("ask", "refuse");
  assert.deepEqual(await error, [{ event: "ask", error: "no-money", hint: "pay" }]);
  a.emit("ask", "empty");
  assert.equal(await ask(a, "plain"), "plain");
  assert.deepEqual(never, []);
  const gone = nextEvent(a, "disconnect");
  a.emit("ask", "bye");
  assert.equal((await gone)[0], "io server disconnect");
});

test("what is no answer is a refusal, and the client's next events wait for it", async () => {
  const a = await enter();
  for (const how of ["error", "redirect", "large", "text", "misspelt"]) {
    assert.deepEqual(await ask(a, "ask", how), refused("call-failed"), how);
    assert.deepEqual(await ask(a, "ask", "echo").then(({ type }) => type), "event");
  }
  assert.deepEqual(elsewhere.asked, []);
  const answers = [];
  const began = Date.now();
  await Promise.all([ask(a, "ask-with-code", "never").then((it) => answers.push(it)), ask(a, "plain").then((it) => answers.push(it))]);
  assert.deepEqual(answers, [refused("closed"), "plain"]);
  assert.ok(Date.now() - began >= 900, "it was waited for");
});

test("no more are asked at once than may be, and too many are refused", async () => {
  const people = await Promise.all(Array.from({ length: 14 }, () => enter()));
  const answers = await Promise.all(people.map((socket) => ask(socket, "ask", "slow")));
  assert.equal(busiest, 2);
  const count = (wanted) => answers.filter((answer) => JSON.stringify(answer) === JSON.stringify(wanted)).length;
  // Two at once and eight that wait; of these those whose turn comes within the second.
  assert.ok(count("slow") >= 4 && count(refused("call-failed")) >= 4, JSON.stringify(answers));
  assert.equal(count("slow") + count(refused("call-failed")), 14);
});

test("one that fails again and again is left alone, and asked again later", async () => {
  const a = await enter();
  for (let i = 0; i < 8; i += 1) assert.deepEqual(await ask(a, "unhealthy"), refused("call-failed"));
  assert.equal(broken.asked.length, 5);
  broken.works = true;
  assert.deepEqual(await ask(a, "unhealthy"), refused("call-failed"));
  await until(async () => (await ask(a, "unhealthy")) === "again", "it is asked again");
  assert.equal(broken.asked.length, 6);
  assert.equal(await ask(a, "unhealthy"), "again");
});

test("a policy decides on namespaces, peers and rooms, and nobody gets in without its answer", async () => {
  const guard = await app((question, response) => {
    const wanted = question.auth?.wanted ?? question.id ?? question.room;
    if (wanted === "error") json(response, {}, 500);
    else if (wanted === "no") json(response, { allow: false, message: "not you", data: { why: [1] } });
    else json(response, { allow: true });
  });
  const flags = ["handshake", "claim", "join"].flatMap((what) => ["--hook-policy", `${what}=guard`]);
  const guarded = await gateway({ guard: guard.url, app: own.url, broken: broken.url }, ...flags, "--rules", RULES);
  const enter = (wanted) => client(guarded.url, { ...WEBSOCKET, auth: { wanted }, extraHeaders: { cookie: "session=1", "user-agent": "tests", "x-other": "2" }, query: { a: "b" } });
  const good = enter("yes");
  await nextEvent(good, "connect");
  const { query, ...question } = guard.asked[0];
  assert.match(query, /(^|&)a=b(&|$)/);
  assert.deepEqual({ ...question, id: 0 }, {
    type: "handshake",
    id: 0,
    namespace: "/",
    auth: { wanted: "yes" },
    address: "127.0.0.1",
    headers: { cookie: "session=1", "user-agent": "tests" },
    subject: null,
    claims: {},
  });
  const [no] = await nextEvent(enter("no"), "connect_error");
  assert.deepEqual([no.message, no.data], ["not you", { why: [1] }]);
  const [failed] = await nextEvent(enter("error"), "connect_error");
  assert.equal(failed.data.code, "busy");

  assert.equal(await ask(good, "join", "yes"), true);
  assert.deepEqual(await ask(good, "join", "no"), refused("forbidden"));
  assert.deepEqual(await ask(good, "join", "error"), refused("busy"));
  assert.deepEqual(guard.asked.at(-1), { ...guard.asked.at(-1), type: "join", namespace: "/", room: "error" });

  for (const [id, type] of [["yes", "OPEN"], ["no", "ERROR"], ["error", undefined]]) {
    const peer = new PeerSocket(socketUrl(guarded.url, { key: "peerjs", id, token: "t1" }));
    onEnd(() => peer.terminate());
    await peer.until(() => peer.texts.length > 0 || peer.closed);
    assert.equal(peer.messages[0]?.type, type, id);
  }
  const claim = guard.asked.find(({ type }) => type === "claim");
  assert.deepEqual([claim.key, claim.token, claim.address], ["peerjs", "t1", "127.0.0.1"]);
});

test("rules that call somebody unknown, and policies of nobody, keep a node from starting", async () => {
  const start = (...flags) => startGateway(["--workers", "1", ...flags]).then((started) => started.stop(), (error) => error.message);
  assert.match(await start("--rules", RULES), /hooks\.toml:12:12: there is no hook "app", and 2 more problems \(configure it: --hook app=https:\/\/\.\.\.\)/);
  const secret = ["--hook-secret", `whsec_${KEY.toString("base64")}`];
  assert.match(await start("--hook", "app=https://a.example"), /--hook: needs --hook-secret too/);
  assert.match(await start("--hook", "app=http://a.example", ...secret), /is not https/);
  assert.match(await start("--hook", "app=https://a.example", "--hook-policy", "claim=ap", ...secret), /there is no hook "ap" \(set --hook ap=https:\/\/\.\.\. too\)/);
});
