// What `token explain` says of a token is what the server does with it: for random grants, by the program and by real clients.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { ask, client } from "../lib/clients.mjs";
import { claims, hs256, now } from "../lib/jwt.mjs";
import { request } from "../lib/http.mjs";
import { nextEvent, within } from "../lib/wait.mjs";
import { gateway, peerAnswer, SECRET, WEBSOCKET } from "./setup.mjs";

const TOKENS = 24;
const FLAGS = ["--auth", "required", "--jwt-secret", SECRET];
const run = promisify(execFile);

/** Random numbers, the same in every run. */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What the program says of a token and each of these questions: `allowed`, or the code of the refusal. */
async function explained(token, questions) {
  const flags = questions.map(({ flag }) => flag).flat();
  const { stdout } = await run(process.env.GATEWAY_BIN, ["token", "explain", token, ...flags, ...FLAGS]).catch((error) => error);
  const lines = stdout.split("\n");
  return Object.fromEntries(questions.map(({ what, line }) => {
    // A bad token allows nothing, and is explained in one line.
    const answer = lines.find((text) => text.startsWith(`${line}: `)) ?? lines[0];
    return [what, answer.startsWith(`${line}: allowed: `) ? "allowed" : /\(([a-z-]+)\)$/.exec(answer)?.[1] ?? stdout];
  }));
}

describe("what is explained", async () => {
  const server = await gateway(...FLAGS, "--allow_discovery");

  test("is what is done", async () => {
    const pick = random(12);
    const name = () => "ab"[pick(2)] + "ab"[pick(2)];
    const pattern = () => ["*", "{sub}", "a*", "*b", "ab", "ba"][pick(6)];
    const patterns = () => Array.from({ length: pick(3) }, pattern);
    const outcomes = { allowed: 0 };
    const judge = async (number) => {
      const sub = name();
      const signalbox = {
        ...(pick(4) === 0 && { namespaces: [["/"], ["/other"], ["*"]][pick(3)] }),
        rooms: { join: patterns(), send: patterns() },
        peer: { ids: patterns(), discover: pick(2) === 0 },
        users: pick(2) === 0,
      };
      const token = hs256(SECRET, claims({ sub, signalbox, ...(pick(8) === 0 && { exp: now() - 60 }) }));
      const [room, id] = [name(), name()];
      const does = {};
      const said = await explained(token, [
        { what: "connect", flag: ["--connect", "/"], line: "connect /" },
        { what: "join", flag: ["--join", room], line: `join ${room}` },
        { what: "send", flag: ["--send", room], line: `send ${room}` },
        { what: "users", flag: ["--users"], line: "users" },
        { what: "claim", flag: ["--claim", id], line: `claim ${id}` },
        { what: "discover", flag: ["--discover"], line: "discover" },
      ]);

      const socket = client(server.url, { ...WEBSOCKET, auth: { token } });
      const refused = new Promise((resolve) => socket.once("connect_error", resolve));
      const error = await within(Promise.race([nextEvent(socket, "connect").then(() => undefined), refused]), "an answer");
      does.connect = error === undefined ? "allowed" : error.data.code;
      if (error === undefined) {
        const done = async (...args) => {
          const { ok, error } = await ask(socket, ...args);
          return ok ? "allowed" : error;
        };
        does.join = await done("join", room);
        // Only members send.
        if (does.join === "allowed") does.send = await done("message", room, 1);
        does.users = await done("users");
      }
      socket.disconnect();
      const answer = await peerAnswer(server, id, token);
      does.claim = answer === "OPEN" || answer.startsWith("ID-TAKEN") ? "allowed" : answer;
      const { status, body } = await request(server.url, "GET", `/peerjs/peers?token=${token}`);
      does.discover = status === 200 ? "allowed" : body;

      for (const [what, outcome] of Object.entries(does)) {
        const same = what === "claim" || what === "discover" ? (said[what] === "allowed") === (outcome === "allowed") : said[what] === outcome;
        assert.ok(same, `${number} ${what} ${room} ${id} of ${sub} with ${JSON.stringify(signalbox)}: said ${said[what]}, does ${outcome}`);
        outcomes[said[what]] = (outcomes[said[what]] ?? 0) + 1;
      }
    };
    for (let number = 0; number < TOKENS; number += 1) await judge(number);
    assert.ok(outcomes.allowed > 10 && Object.keys(outcomes).length > 4, JSON.stringify(outcomes));
  });
});
