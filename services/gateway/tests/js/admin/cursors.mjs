// Lists are read page by page while clients come and go: what stays is listed once.
import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { ask, connected } from "../lib/clients.mjs";
import { listAll } from "./setup.mjs";

const SOCKETS = Number(process.env.ADMIN_SOCKETS ?? 12);
const ROOMS = Number(process.env.ADMIN_ROOMS ?? 10);
const websocket = { transports: ["websocket"] };

export function cursors(nodes) {
  describe("lists of the admin API", () => {
    it("have everything that stays once, while members come and go", { timeout: 600_000 }, async () => {
      const sockets = [];
      for (let count = 0; count < SOCKETS; count += 1) sockets.push(await connected(nodes[count % 3].url, websocket));
      // Each room has two members, on two nodes.
      const stable = new Set();
      await Promise.all(sockets.map(async (socket, index) => {
        for (let count = 0; count < ROOMS; count += 1) {
          const room = `stays-${Math.floor(index / 2)}-${count}`;
          stable.add(room);
          await ask(socket, "join", room, {});
        }
        await ask(socket, "join", "stays", {});
      }));
      assert.equal(stable.size, (SOCKETS * ROOMS) / 2);

      let isOver = false;
      const churn = nodes.map(async (node, index) => {
        for (let round = 0; !isOver; round += 1) {
          const socket = await connected(node.url, websocket);
          for (const room of [`stays-${round % SOCKETS}-${index}!`, `stay-${round}`, "stays"]) await ask(socket, "join", room, {});
          socket.disconnect();
        }
      });
      const ids = sockets.map(({ id }) => id).sort();
      const check = (name, listed, expected) => {
        assert.equal(new Set(listed).size, listed.length, `${name}: something twice`);
        const missing = expected.filter((one) => !listed.includes(one));
        assert.deepEqual(missing, [], `${name}: left out`);
      };
      for (const node of nodes) {
        const limit = Math.max(7, Math.floor(stable.size / 20));
        const rooms = await listAll(node, "rooms", { prefix: "stay", limit });
        check("rooms", rooms.map(({ name }) => name), [...stable]);
        for (const { name, members } of rooms) if (stable.has(name)) assert.equal(members, 2, name);
        check("members", (await listAll(node, "rooms/stays/members", { limit })).map(({ id }) => id), ids);
        check("sockets", (await listAll(node, "sockets", { room: "stays", limit })).map(({ id }) => id), ids);
      }
      isOver = true;
      await Promise.all(churn);
      sockets.forEach((socket) => socket.disconnect());
    });
  });
}
