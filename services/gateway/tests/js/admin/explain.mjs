// What a token allows and why: the same verdict as clients get, and nothing of the token in any log.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { ask, connected } from "../lib/clients.mjs";
import { claims, hs256 } from "../lib/jwt.mjs";
import { onEnd } from "../lib/cleanup.mjs";
import { startGateway } from "../lib/peer-servers.mjs";
import { call } from "./setup.mjs";

const SECRET = "a secret of the tests, of more than 32 bytes";

export function explain(nodes) {
  describe("POST explain", () => {
    it("says what decides, as the node does, and keeps nothing of the token", async () => {
      const node = await startGateway(["--auth", "required", "--jwt-secret", SECRET, "--log", "trace"]);
      onEnd(() => node.stop());
      const operator = hs256(SECRET, claims({ sub: "ops", signalbox: { admin: ["read"] } }));
      const grants = { rooms: { join: ["team-*"], send: ["team-1"] }, peer: { generated: true, ids: ["{sub}"] }, turn: true, limits: { rooms: 2 } };
      const shown = hs256(SECRET, claims({ sub: "ada", signalbox: grants }));
      const explained = async (body) => {
        const { status, body: answer } = await call(node, "POST", "/admin/v1/explain", { token: operator, body });
        assert.equal(status, 200, JSON.stringify(answer));
        return answer;
      };
      const actions = [
        { type: "join", room: "team-2" }, { type: "send", room: "team-2" }, { type: "claim", id: "ada" }, { type: "claim", id: "bob" },
        { type: "turn" }, { type: "users" }, { type: "admin", scope: "read" }, { type: "limit", limit: "rooms", amount: 3 }, { type: "limit", limit: "namespaces", amount: 3 },
      ];
      const { accepted, principal, decisions } = await explained({ token: shown, actions });
      assert.deepEqual([accepted, principal.subject, principal.grants.rooms.join], [true, "ada", ["team-*"]]);
      assert.deepEqual(decisions.map(({ action }) => action.type), actions.map(({ type }) => type));
      assert.deepEqual(
        decisions.map(({ allowed, code, grant, pattern, most }) => [allowed, code, grant, pattern, most]),
        [
          [true, undefined, "rooms.join", "team-*", undefined], [false, "send-forbidden", "rooms.send", undefined, undefined],
          [true, undefined, "peer.ids", "{sub}", undefined], [false, "id-forbidden", "peer.ids", undefined, undefined],
          [true, undefined, "turn", undefined, undefined], [false, "users-forbidden", "users", undefined, undefined],
          [false, "admin-forbidden", "admin", undefined, undefined], [false, "limit-exceeded", undefined, undefined, 2], [true, undefined, undefined, undefined, 64],
        ],
      );
      // A client gets the same.
      const socket = await connected(node.url, { transports: ["websocket"], auth: { token: shown } });
      assert.equal((await ask(socket, "join", "team-2", {})).ok, true);
      assert.equal((await ask(socket, "message", "team-2", "x")).error, "send-forbidden");

      const refused = await explained({ token: `${shown}x`, actions: [{ type: "turn" }] });
      assert.deepEqual([refused.accepted, refused.code, refused.decisions[0].allowed], [false, "signature-invalid", false]);
      assert.equal((await explained({})).code, "token-missing");
      for (const body of [shown, { [shown]: 1 }, { token: shown, actions: [{ type: shown }] }, { token: [shown] }]) {
        const { status, body: problem } = await call(node, "POST", "/admin/v1/explain", { token: operator, body });
        assert.deepEqual([status, problem.code, JSON.stringify(problem).includes(shown)], [400, "malformed", false]);
      }
      // It counts where it is asked: one that is revoked is refused.
      const control = hs256(SECRET, claims({ sub: "ops", signalbox: { admin: ["control"] } }));
      assert.equal((await call(node, "POST", "/admin/v1/revoke", { token: control, body: { subject: "ada" } })).status, 200);
      assert.equal((await explained({ token: shown })).code, "token-revoked");

      const run = promisify(execFile)(process.env.GATEWAY_BIN, ["admin", "explain", "-", "--join", "team-2", "--table", "--url", node.adminUrl], { env: { ...process.env, SIGNALBOX_ADMIN_TOKEN: operator } });
      run.child.stdin.end(hs256(SECRET, claims({ sub: "eve", signalbox: grants })));
      const { stdout } = await run;
      assert.match(stdout, /^good: subject eve\ngrants: .*\njoin team-2: allowed: rooms\.join has the pattern "team-\*", which matches\n$/);
      const signature = shown.split(".")[2];
      assert.deepEqual(node.output.filter((line) => line.includes(signature)), []);
    });

    it("says that everything is allowed where nobody is asked for a token", async () => {
      const { status, body } = await call(nodes[0], "POST", "/admin/v1/explain", { body: { actions: [{ type: "join", room: "a" }] } });
      assert.deepEqual([status, body.accepted, body.decisions[0].allowed], [200, true, true]);
      assert.match(body.reason, /--auth off/);
    });
  });
}
