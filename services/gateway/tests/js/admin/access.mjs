// Who may use the admin API, and who may not: on every route and verb that it describes.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { onEnd } from "../lib/cleanup.mjs";
import { ask, connected, record } from "../lib/clients.mjs";
import { request } from "../lib/http.mjs";
import { claims, hs256 } from "../lib/jwt.mjs";
import { startGateway } from "../lib/peer-servers.mjs";
import { call, operations } from "./setup.mjs";

const SECRET = "a secret of the tests, of more than 32 bytes";
const SCOPES = ["read", "emit", "control"];

/** A token, and the setting for it, as the subcommand makes them. */
function made(name, scopes) {
  const text = execFileSync(process.env.GATEWAY_BIN, ["admin-token", "--name", name, "--scopes", scopes]).toString();
  return { token: /(sba_\S+)/.exec(text)[1], setting: /--admin-token-hash (\S+)/.exec(text)[1] };
}

/** What would have an effect, for every verb that acts. */
function effective() {
  const to = { everyone: true };
  const emission = { to, event: "forbidden" };
  return new Map(Object.entries({
    "POST emit": emission, "POST batch": { events: [emission] }, "POST peers/x/messages": { type: "OFFER", src: "nobody", payload: {} },
    "POST join": { to, rooms: ["forbidden"] }, "POST leave": { to, rooms: ["kept"] }, "POST disconnect": { to, close: true },
    "POST revoke": { subject: "ops", issuedBefore: Math.round(Date.now() / 1000) + 30 }, "PUT log": { level: "trace" }, "POST rebalance": { rate: 1 },
    "POST nodes/x/drain": undefined, "DELETE operations/x": undefined, "DELETE rules": undefined, "POST explain": {},
    "PUT rules": '[[on]]\nevent = "forbidden"\ndo = [{ ack = ["forbidden"] }]\n',
  }).map(([order, body]) => [order.replace(" ", " /admin/v1/"), body]));
}

async function gateway(flags) {
  const node = await startGateway(["--workers", "2", ...flags]);
  onEnd(() => node.stop());
  return node;
}

export function access(nodes) {
  describe("access to the admin API", () => {
    it("is for the holders of tokens, each for its scopes", async () => {
      const tokens = Object.fromEntries(SCOPES.map((scope) => [scope, made(`${scope}er`, scope)]));
      const hashes = SCOPES.flatMap((scope) => ["--admin-token-hash", tokens[scope].setting]);
      const node = await gateway([...hashes, "--auth", "optional", "--jwt-secret", SECRET]);
      const all = await operations(node);
      assert.ok(all.length > 10);
      const jwt = (admin, changed) => hs256(SECRET, claims({ sub: "ops", signalbox: { admin }, ...changed }));
      const stranger = made("stranger", "read+emit+control").token;
      const unknown = [
        undefined, "", "nonsense", stranger, tokens.read.token.slice(0, -1), `${tokens.read.token}A`, tokens.read.setting,
        hs256("another secret, which is as long as that", claims({ signalbox: { admin: SCOPES } })), jwt(SCOPES, { exp: 1 }),
      ];
      // Whoever has no right to it sends what would be done, and nothing is.
      const clients = await Promise.all([0, 1].map(() => connected(node.url, { transports: ["websocket"] })));
      const heard = clients.map((socket) => record(socket, "forbidden"));
      await ask(clients[0], "join", "kept", {});
      const reading = { token: tokens.read.token };
      const { answeredBy } = (await call(node, "GET", "/admin/v1/cluster", reading)).body;
      const asks = async (token) => (await call(node, "GET", "/admin/v1/caller", { token })).body;
      assert.deepEqual(await asks(tokens.read.token), { name: "token reader", scopes: ["read"] });
      assert.deepEqual(await asks(jwt(["read", "control"])), { name: "subject ops", scopes: ["read", "control"] });
      const looked = async (path) => (await call(node, "GET", `/admin/v1/${path}`, reading)).body;
      const state = async () => ({
        sockets: (await looked("sockets")).items.map(({ id }) => id), rooms: await looked("rooms"), rules: await looked("rules"),
        operations: await looked("operations"), status: (await looked(`nodes/${answeredBy}`)).node.status,
      });
      const before = await state();
      assert.deepEqual([before.sockets.length, before.rooms.items.length, before.operations.items.length], [2, 1, 0]);
      const orders = effective();
      const missing = all.filter(({ method, path }) => method !== "GET" && !orders.has(`${method} ${path}`));
      assert.deepEqual(missing, [], "every verb that acts has a body here");
      const denied = (method, path, token) => {
        const sent = orders.get(`${method} ${path}`);
        const at = path.replace("/nodes/x/", `/nodes/${answeredBy}/`);
        if (typeof sent !== "string") return call(node, method, at, { token, body: sent });
        const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
        return request(node.adminUrl, method, at, { headers: { ...authorization, "content-type": "application/toml" }, body: sent });
      };
      for (const { method, path, scope } of all) {
        for (const token of unknown) {
          const { status, body, headers } = await denied(method, path, token);
          assert.deepEqual([status, headers["www-authenticate"]], [401, "Bearer"], `${method} ${path} ${token}: ${JSON.stringify(body)}`);
        }
        for (const other of SCOPES) {
          for (const token of [tokens[other].token, jwt([other])]) {
            const { status, body } = await (other === scope ? call(node, method, path, { token }) : denied(method, path, token));
            const isRefused = status === 401 || status === 403;
            assert.equal(isRefused, other !== scope, `${method} ${path} with ${other}: ${status} ${JSON.stringify(body)}`);
          }
        }
        const { status } = await denied(method, path, jwt([]));
        assert.equal(status, 403, `${method} ${path}`);
      }
      // Others than those that are described are nobody's either.
      for (const [method, path] of [["GET", "/admin/v1/nothing"], ["POST", "/admin/v1/nodes"], ["OPTIONS", "/admin/v1/nodes"]]) {
        assert.equal((await call(node, method, path)).status, 401, `${method} ${path}`);
      }
      // The right tokens, without bodies, have done nothing either but to have the node go by its own rules, which it did before.
      const after = await state();
      assert.deepEqual({ ...after, rules: after.rules.text }, { ...before, rules: before.rules.text });
      assert.deepEqual([heard, clients.every(({ connected }) => connected)], [[[], []], true]);
      assert.equal((await call(node, "GET", "/admin/v1/nodes", { token: jwt(["read"]) })).status, 200, "nobody's token is revoked");
    });

    it("is closed where nobody is asked for a token and the listener is not on loopback", async () => {
      const node = await gateway(["--admin-host", "0.0.0.0"]);
      const address = { adminUrl: node.adminUrl.replace("0.0.0.0", "127.0.0.1") };
      for (const { method, path } of await operations(address)) {
        const { status, body } = await call(address, method, path);
        assert.deepEqual([status, body.code], [401, "admin-closed"], `${method} ${path}`);
      }
    });

    it("is closed to every web page where nobody is asked for a token", async () => {
      const { host } = new URL(nodes[0].adminUrl);
      for (const { method, path } of await operations(nodes[0])) {
        for (const headers of [
          { host: "attacker.example" }, { origin: "https://attacker.example" }, { origin: "null" }, { "sec-fetch-site": "cross-site" },
        ]) {
          const { status } = await call(nodes[0], method, path, { headers });
          assert.equal(status, 403, `${method} ${path} ${JSON.stringify(headers)}`);
        }
      }
      const own = await call(nodes[0], "GET", "/admin/v1/rooms", { headers: { origin: `http://${host}`, "sec-fetch-site": "same-origin" } });
      assert.equal(own.status, 200);
      assert.equal(own.headers["access-control-allow-origin"], undefined);
    });

    it("is not on other listeners", async () => {
      for (const path of ["/admin/v1/nodes", "/admin/v1/openapi.json", "/admin/reference"]) {
        assert.equal((await call({ adminUrl: nodes[0].url }, "GET", path)).status, 404, path);
      }
    });
  });
}
