// What there is, asked of each node in turn.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { ask, connected, upgraded } from "../lib/clients.mjs";
import { PeerSocket, socketUrl } from "../lib/peer-socket.mjs";
import { hs256, claims } from "../lib/jwt.mjs";
import { ready, startNode, Redis } from "../cluster/setup.mjs";
import { until } from "../lib/wait.mjs";
import { call, get, listAll } from "./setup.mjs";

const websocket = { transports: ["websocket"] };

export function look(nodes) {
  describe("the admin API", () => {
    it("counts the clients of all nodes", async () => {
      const before = await get(nodes[0], "cluster");
      await connected(nodes[1].url, websocket);
      await connected(nodes[2].url, { transports: ["polling"] });
      const peer = new PeerSocket(socketUrl(nodes[2].url, { key: "peerjs", id: "counted", token: "t" }));
      assert.ok(await peer.until(() => peer.messages[0]?.type === "OPEN"));
      for (const node of nodes) {
        const now = await get(node, "cluster");
        assert.deepEqual(
          [now.status, now.nodes, now.websocketClients - before.websocketClients, now.pollingClients - before.pollingClients],
          ["online", 3, 1, 1],
        );
        assert.equal(now.peers - before.peers, 1);
        assert.deepEqual(now.partial, []);
      }
    });

    it("lists the nodes, and finds one by id and by name", async () => {
      const { items, partial } = await get(nodes[1], "nodes");
      assert.deepEqual([items.length, partial], [3, []]);
      assert.deepEqual((await listAll(nodes[2], "nodes", { limit: 1 })).map(({ id }) => id), items.map(({ id }) => id));
      for (const { id, name, shards, startedAt } of items) {
        assert.equal(shards, 2);
        assert.ok(startedAt > Date.now() - 3_600_000 && startedAt <= Date.now(), `${startedAt}`);
        for (const key of [id, name]) assert.equal((await get(nodes[2], `nodes/${key}`)).node.id, id);
      }
      assert.equal((await call(nodes[0], "GET", "/admin/v1/nodes/nobody")).status, 404);
    });

    it("lists rooms and members of all nodes, with their profiles", async () => {
      const sockets = await Promise.all(nodes.map((node) => connected(node.url, websocket)));
      for (const [index, socket] of sockets.entries()) {
        await ask(socket, "join", "look-common", { name: `member ${index}` });
        await ask(socket, "join", `look-own-${index}`, {});
      }
      for (const node of nodes) {
        const { items } = await get(node, "rooms", { prefix: "look-", namespace: "/" });
        assert.deepEqual(
          items.map(({ name, members }) => [name, members]),
          [["look-common", 3], ["look-own-0", 1], ["look-own-1", 1], ["look-own-2", 1]],
        );
        const busiest = await get(node, "rooms", { prefix: "look-", order: "members", limit: 2 });
        assert.deepEqual(busiest.items.map(({ name, members }) => [name, members]), [["look-common", 3], ["look-own-0", 1]]);
        assert.deepEqual([busiest.next, busiest.partial], [undefined, []]);
        const members = await listAll(node, "rooms/look-common/members", { limit: 1 });
        assert.deepEqual(members.map(({ id }) => id), sockets.map(({ id }) => id).sort());
        for (const { id, profile } of members) assert.equal(profile.name, `member ${sockets.findIndex((socket) => socket.id === id)}`);
      }
      const namespaces = await get(nodes[0], "namespaces");
      assert.ok(namespaces.items.find(({ name }) => name === "/").sockets >= 3);
      assert.deepEqual((await get(nodes[0], "rooms/look-nobody/members")).items, []);
      sockets[0].disconnect();
    });

    it("says everything about a socket, also after it has moved", async () => {
      const began = Date.now();
      const socket = await upgraded(nodes[0].url);
      await ask(socket, "join", "look-one", { name: "one" });
      const { items: [row] } = await get(nodes[1], "sockets", { room: "look-one" });
      assert.deepEqual([row.id, row.transport, row.address, row.rooms], [socket.id, "websocket", "127.0.0.1", 1]);
      assert.ok(row.connectedAt >= began - 2_000 && row.connectedAt <= Date.now(), `${row.connectedAt - began}`);
      const details = await get(nodes[2], `sockets/${socket.id}`);
      assert.deepEqual(details.memberships, [{ room: "look-one", profile: { name: "one" } }]);
      assert.equal(details.isMoving, false);
      const { events, bytes, ...limits } = details.rates;
      assert.ok(events > 0 && events < 10 && bytes > events, JSON.stringify(details.rates));
      assert.deepEqual(limits, { eventsPerSecond: 1_000, bytesPerSecond: 10_000_000, joinsPerSecond: 100 });
      // Filters that fit, and some that do not.
      const count = async (parameters) => (await get(nodes[1], "sockets", { room: "look-one", ...parameters })).items.length;
      assert.equal(await count({ address: "127.0.0.1", namespace: "/", node: row.node }), 1);
      for (const other of [{ address: "10.0.0.1" }, { namespace: "/other" }, { subject: "nobody" }]) assert.equal(await count(other), 0);
      socket.disconnect();
      const gone = await call(nodes[0], "GET", `/admin/v1/sockets/${socket.id}`);
      assert.deepEqual([gone.status, gone.body.code, gone.headers["content-type"]], [404, "not-found", "application/problem+json"]);
    });

    it("finds peers wherever they are", async () => {
      const ids = ["look-a", "look-b", "look-b2"];
      const peers = ids.map((id, index) => new PeerSocket(socketUrl(nodes[index].url, { key: "peerjs", id, token: id })));
      for (const peer of peers) assert.ok(await peer.until(() => peer.messages[0]?.type === "OPEN"));
      for (const node of nodes) {
        assert.deepEqual((await listAll(node, "peers", { prefix: "look-", limit: 2 })).map(({ id }) => id), ids);
        assert.equal((await get(node, "peers/look-b", { key: "peerjs" })).id, "look-b");
        assert.equal((await call(node, "GET", "/admin/v1/peers/look-")).status, 404);
      }
    });

    it("says who a client is, by its token", async () => {
      const secret = "a secret of the tests, of more than 32 bytes";
      const redis = await Redis.start();
      const flags = ["--auth", "required", "--jwt-secret", secret];
      const guarded = [await startNode(redis, flags), await startNode(redis, flags)];
      await Promise.all(guarded.map(ready));
      const token = hs256(secret, claims({ sub: "ada", session: "tab", signalbox: { rooms: { join: ["*"], send: ["*"] } } }));
      const operator = hs256(secret, claims({ sub: "ops", signalbox: { admin: ["read"] } }));
      const socket = await connected(guarded[0].url, { ...websocket, auth: { token } });
      const { status, body } = await call(guarded[1], "GET", "/admin/v1/sockets?subject=ada", { token: operator });
      assert.deepEqual([status, body.items.map(({ id, subject }) => [id, subject])], [200, [[socket.id, "ada"]]]);
      const details = await call(guarded[1], "GET", `/admin/v1/sockets/${socket.id}`, { token: operator });
      assert.deepEqual([details.body.principal.subject, details.body.principal.session], ["ada", "tab"]);
      assert.deepEqual(details.body.principal.grants.rooms.join, ["*"]);
      await Promise.all(guarded.map((node) => node.stop()));
    });

    it("tells how much goes through", async () => {
      const socket = await connected(nodes[1].url, websocket);
      for (let count = 0; count < 50; count += 1) await ask(socket, "join", "look-rates", {});
      const { total, nodes: each } = await get(nodes[0], "rates");
      assert.equal(each.length, 3);
      assert.ok(total.receivedMessages > 0 && total.sentBytes > 0 && total.seconds <= 30, JSON.stringify(total));
      // Who has moved to another node is not gone; who has gone is.
      const gone = async () => (await get(nodes[0], "rates")).total.disconnects;
      socket.disconnect();
      await until(async () => (await gone()) > 0, "it has gone");
    });

    it("refuses what cannot be meant, and says what is wrong", async () => {
      for (const [path, parameter] of [
        ["rooms?limit=0", "limit"], ["rooms?limit=1001", "limit"], ["rooms?after=nonsense", "after"],
        ["sockets?address=here", "address"], ["sockets?node=nobody", "node"], ["rooms?limt=3", "limt"], ["rooms?limit=x", "limit"],
        ["rooms?limit=3&limit=4", "limit"], ["rooms?order=size", "order"], ["rooms?order=members&after=WyIvIiwiYSJd", "after"], ["cluster?x=1", "x"], ["nodes?limit=0", "limit"], ["nodes/x?y", "y"], ["sockets/x?room=a", "room"], ["rates?since=1", "since"],
      ]) {
        const { status, body } = await call(nodes[0], "GET", `/admin/v1/${path}`);
        assert.deepEqual([status, body.status, body.parameter], [400, 400, parameter], path);
      }
      const { body: unknown } = await call(nodes[0], "GET", "/admin/v1/rooms?limt=3");
      assert.equal(unknown.detail, 'there is no parameter "limt": those of this route are: namespace, prefix, order, after, limit');
      const posted = await call(nodes[0], "POST", "/admin/v1/emit?volatile=true", { body: { to: { everyone: true }, event: "x" } });
      assert.deepEqual([posted.status, posted.body.parameter], [400, "volatile"]);
      assert.equal((await call(nodes[0], "GET", "/admin/v1/nothing")).status, 404);
      const { status, headers } = await call(nodes[0], "POST", "/admin/v1/rooms");
      assert.deepEqual([status, headers.allow], [405, "GET"]);
    });

    it("describes itself, in three ways and without anything from outside", async () => {
      const { body } = await call(nodes[0], "GET", "/admin/v1/openapi.json");
      assert.match(body.openapi, /^3\.1/);
      const markdown = await call(nodes[0], "GET", "/admin/v1/openapi.md");
      const page = await call(nodes[0], "GET", "/admin/reference");
      for (const path of Object.keys(body.paths)) {
        assert.ok(markdown.body.includes(path) && page.body.includes(path), path);
      }
      assert.match(page.headers["content-security-policy"], /default-src 'none'/);
    });
  });
}
