// What tokens grant, on every way in: namespaces, rooms, ids of peers, lists.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ask, client } from "../lib/clients.mjs";
import { claims, hs256 } from "../lib/jwt.mjs";
import { request } from "../lib/http.mjs";
import { nextEvent, until } from "../lib/wait.mjs";
import { everything, file, gateway, granted, io, ioRefusal, peer, peerAnswer, required, SECRET, token } from "./setup.mjs";

const refusal = (error) => ({ ok: false, error });
const hs = (changed) => hs256(SECRET, claims(changed));

describe("grants", async () => {
  const server = await required("--allow_discovery", "--key", "peerjs", "--key", "other");

  test("of rooms: joining, and sending", async () => {
    const socket = await io(server, granted({ rooms: { join: ["team-*", "{sub}"], send: ["team-1", "nowhere"] } }));
    for (const room of ["team-1", "team-2", "alice"]) assert.equal((await ask(socket, "join", room)).ok, true);
    for (const room of ["team", "bob", "lobby"]) {
      assert.deepEqual(await ask(socket, "join", room), refusal("join-forbidden"));
      assert.deepEqual(await ask(socket, "join-room", room, "peer"), refusal("join-forbidden"));
    }
    assert.deepEqual(await ask(socket, "message", "team-1", 1), { ok: true });
    assert.deepEqual(await ask(socket, "message", "team-2", 1), refusal("send-forbidden"));
    const told = nextEvent(socket, "error");
    socket.emit("message", "team-2", 1);
    assert.deepEqual((await told).map(({ event, error }) => [event, error]), [["message", "send-forbidden"]]);
    assert.deepEqual(await ask(socket, "users"), refusal("users-forbidden"));
  });

  test("of the tutorials' chat: in the rooms that may be sent to, and in no others", async () => {
    const listener = await io(server, granted(everything));
    const heard = [];
    listener.on("createMessage", (text) => heard.push(text));
    const speaker = await io(server, granted({ rooms: { join: ["*"], send: ["open"] } }));
    for (const socket of [listener, speaker]) {
      socket.emit("join-room", "closed", socket.id);
    }
    // Joins are done in order.
    await ask(speaker, "members", "closed");
    assert.deepEqual(await ask(speaker, "message", "unheard"), refusal("send-forbidden"));
    for (const socket of [listener, speaker]) socket.emit("join-room", "open", socket.id);
    await ask(listener, "members", "open");
    await ask(speaker, "members", "open");
    assert.deepEqual(await ask(speaker, "message", "heard"), { ok: true });
    await until(() => heard.length > 0, "the chat");
    assert.deepEqual(heard, ["heard"]);
  });

  test("of namespaces, with a principal in each", async () => {
    assert.deepEqual(await ioRefusal(server.url, { auth: { token: granted({ namespaces: ["/chat"] }) } }), {
      message: "none of the 1 patterns of namespaces matches",
      code: "namespace-forbidden",
    });
  });

  test("of ids of peers", async () => {
    const shown = granted({ peer: { ids: ["{sub}", "{sub}-*"] } });
    for (const id of ["alice", "alice-phone"]) assert.equal(await peerAnswer(server, id, shown), "OPEN");
    for (const id of ["bob", "Alice", "alicephone"]) {
      assert.equal(await peerAnswer(server, id, shown), "ERROR: none of the 2 patterns of peer.ids matches");
    }
  });

  test("of ids that the server issued, in the realm that it issued them for", async () => {
    const shown = granted({ peer: { generated: true } });
    const issue = async (key) => (await request(server.url, "GET", `/${key}/id`)).body;
    const id = await issue("peerjs");
    assert.match(id, /^[0-9a-v]{40}$/);
    assert.equal(await peerAnswer(server, id, shown), "OPEN");
    for (const forged of ["12345678-1234-1234-1234-123456789abc", await issue("other"), `${id.slice(0, -1)}${id.endsWith("0") ? "1" : "0"}`]) {
      assert.equal(await peerAnswer(server, forged, shown), "ERROR: peer.ids is not granted");
    }
    assert.equal(await peerAnswer(server, await issue("other"), shown, "other"), "OPEN");
    assert.equal(await peerAnswer(server, await issue("peerjs"), granted({ peer: {} })), "ERROR: peer.ids is not granted");
  });

  test("an id is taken over by another token of its holder, and by nobody else", async () => {
    const holder = (changed) => granted(everything, { sub: "carol", ...changed });
    const first = await peer(server, "carol's", holder({ session: "one" }));
    assert.equal(first.messages[0].type, "OPEN");
    assert.equal(await peerAnswer(server, "carol's", holder({ session: "two" })), "ID-TAKEN: ID is taken");
    assert.equal(await peerAnswer(server, "carol's", granted(everything, { sub: "mallory", session: "one" })), "ID-TAKEN: ID is taken");
    assert.equal(await peerAnswer(server, "carol's", holder({ session: "one" })), "OPEN");
    assert.ok(await first.until(() => first.closed));
  });

  test("of the list of peers", async () => {
    const list = (shown, headers = {}) => request(server.url, "GET", `/peerjs/peers${shown ? `?token=${shown}` : ""}`, { headers });
    assert.deepEqual([(await list()).status, (await list(granted({ peer: {} }))).status], [401, 401]);
    const allowed = await list(granted({ peer: { discover: true } }));
    assert.equal(allowed.status, 200);
    assert.ok(Array.isArray(JSON.parse(allowed.body)));
    const bearer = { authorization: `Bearer ${granted({ peer: { discover: true } })}` };
    assert.equal((await list(undefined, bearer)).status, 200);
  });
});

describe("grants of the settings", async () => {
  const anonymous = JSON.stringify({ rooms: { join: ["public-*"] } });
  const members = await file("grants.json", JSON.stringify({ rooms: { join: ["*"], send: ["of-{sub}"] }, users: true, peer: { ids: ["{sub}"] } }));
  const secret = await file("secret", `${SECRET}\n`);
  const server = await gateway(
    "--auth", "optional", "--jwt-secret-file", secret, "--anonymous-grants", anonymous, "--default-grants", members,
  );

  test("for clients without a token", async () => {
    for (const shown of [undefined, "", "peerjs-has-random-ones"]) {
      const socket = await io(server, shown);
      assert.equal((await ask(socket, "join", "public-1")).ok, true);
      assert.deepEqual(await ask(socket, "join", "private"), refusal("join-forbidden"));
      assert.deepEqual(await ask(socket, "message", "public-1", 1), refusal("send-forbidden"));
      assert.deepEqual(await ask(socket, "users"), refusal("users-forbidden"));
    }
    assert.equal(await peerAnswer(server, "anybody", "random"), "ERROR: peer.ids is not granted");
  });

  test("for clients whose token has none", async () => {
    const socket = await io(server, hs({ sub: "dave" }));
    assert.equal((await ask(socket, "join", "of-dave")).ok, true);
    assert.equal((await ask(socket, "message", "of-dave", 1)).ok, true);
    assert.equal((await ask(socket, "join", "of-erin")).ok, true);
    assert.deepEqual(await ask(socket, "message", "of-erin", 1), refusal("send-forbidden"));
    assert.equal((await ask(socket, "users")).ok, true);
    assert.equal(await peerAnswer(server, "dave", hs({ sub: "dave" })), "OPEN");
  });

  test("a bad token is refused, and not taken for none", async () => {
    assert.equal((await ioRefusal(server.url, { auth: { token: hs({ exp: 1 }) } })).code, "token-expired");
  });

  test("are read again on SIGHUP, and so are the secrets; a mistake changes nothing", async () => {
    const next = "another secret of the tests, of more than 32 bytes";
    const fresh = hs256(next, claims());
    assert.equal((await ioRefusal(server.url, { auth: { token: fresh } })).code, "signature-invalid");
    await file("secret", "short");
    server.signal("SIGHUP");
    await until(() => server.output.some((line) => line.includes("those in use stay")), "the mistake is logged");
    assert.ok((await io(server, hs())).connected);
    await file("secret", next);
    server.signal("SIGHUP");
    await until(() => server.output.some((line) => line.includes("were read again")), "the files are read");
    assert.ok((await io(server, fresh)).connected);
    assert.equal((await ioRefusal(server.url, { auth: { token: hs() } })).code, "signature-invalid");
    assert.ok(!server.output.join("\n").includes(next));
  });
});

describe("a cookie", async () => {
  const origin = "https://app.example.com";
  const server = await required("--jwt-cookie", "session-token", "--origins", origin);
  const options = (headers) => ({ ...headers });
  const show = (headers) => ({ extraHeaders: { cookie: `a=b; session-token=${token()}`, ...headers } });

  test("counts for a page of an allowed origin", async () => {
    for (const transports of [["websocket"], ["polling"]]) {
      const socket = client(server.url, { transports, ...show({ origin }) });
      await nextEvent(socket, "connect");
      const same = client(server.url, { transports, ...show({ "sec-fetch-site": "same-origin" }) });
      await nextEvent(same, "connect");
    }
  });

  test("and for nobody else", async () => {
    for (const transports of [["websocket"], ["polling"]]) {
      assert.equal((await ioRefusal(server.url, { transports, ...options(show({})) })).code, "token-missing");
      assert.equal((await ioRefusal(server.url, { transports, ...show({ "sec-fetch-site": "cross-site" }) })).code, "token-missing");
    }
  });
});

describe("without the list of users", async () => {
  const server = await gateway("--no-users");
  test("it is refused, and everything else is as ever", async () => {
    const socket = await io(server);
    assert.deepEqual(await ask(socket, "users"), refusal("users-forbidden"));
    assert.equal((await ask(socket, "join", "room")).ok, true);
  });
});
