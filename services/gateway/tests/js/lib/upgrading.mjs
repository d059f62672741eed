// Sessions that move, and clients with default options that join a room and talk in it while they upgrade from polling to WebSocket.
import assert from "node:assert/strict";
import { ask, client, connected } from "./clients.mjs";
import { request } from "./http.mjs";
import { TcpProxy } from "./proxy.mjs";
import { nextEvent, until } from "./wait.mjs";
import { RawSocket } from "./websocket.mjs";

/** Moves a session that polls to a WebSocket on a node: resolves once it lives there. */
export async function moveTo(node, session) {
  const socket = await RawSocket.connect(node.url, `/socket.io/?EIO=4&transport=websocket&sid=${session.sid}`);
  socket.send("2probe");
  assert.equal(await socket.next("the answer to the probe"), "3probe");
  socket.send("5");
  const transport = async () => {
    const { status, body } = await request(node.adminUrl, "GET", `/admin/v1/sockets/${session.socketId}`);
    return status === 200 && JSON.parse(body).transport;
  };
  await until(async () => (await transport()) === "websocket", "the session has moved");
  return socket;
}

/**
 * Nothing that anybody says is lost, doubled or reordered, in either direction. `url` may be a balancer's: then every request
 * goes to another node. `anchorUrl` is where somebody sits who listens and talks all the time.
 */
export async function upgradeWhileTalking(url, { clients: count = 25, messages = 60, anchorUrl = url } = {}) {
  const room = `upgrading ${Math.random()}`;
  // A network with some delay makes the upgrade take many messages' time.
  const proxy = await TcpProxy.start(url, { delay: 15 });

  const anchor = await connected(anchorUrl, { transports: ["websocket"] });
  assert.equal((await ask(anchor, "join", room)).ok, true);
  const fromClients = new Map();
  anchor.on("message", (number, { from }) => fromClients.set(from, [...(fromClients.get(from) ?? []), number]));
  let talking = true;
  let said = 0;
  const talk = (async () => {
    while (talking) {
      assert.equal((await ask(anchor, "message", room, ++said)).ok, true);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();

  const transports = [];
  const clients = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = client(proxy.url);
      // On a busy machine it may come before the namespace's CONNECT.
      const upgrade = nextEvent(socket.io.engine, "upgrade");
      upgrade.catch(() => {});
      const heard = [];
      const ended = new Promise((_, reject) => socket.once("disconnect", (reason) => reject(new Error(`disconnected: ${reason}`))));
      ended.catch(() => {});
      socket.on("message", (number, { from }) => from === anchor.id && heard.push(number));
      await nextEvent(socket, "connect");
      transports.push(socket.io.engine.transport.name);
      const joined = ask(socket, "join", room, { upgrading: true });
      joined.catch(() => {});
      const replies = [];
      for (let number = 0; number < messages; number++) {
        // Spread over the whole upgrade; every third carries an attachment.
        const reply = ask(socket, "message", room, number % 3 === 0 ? [number, Buffer.from([number])] : number);
        reply.catch(() => {});
        replies.push(reply);
        if (number % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 3));
      }
      assert.equal((await Promise.race([joined, ended])).ok, true);
      for (const reply of await Promise.race([Promise.all(replies), ended])) assert.equal(reply.ok, true);
      await Promise.race([upgrade, ended]);
      return { socket, heard };
    }),
  );
  assert.ok(transports.some((name) => name === "polling"), "clients began before their upgrades");
  talking = false;
  await talk;
  await ask(anchor, "message", room, ++said);
  await until(() => clients.every(({ heard }) => heard.at(-1) === said), "everyone hears the last message").catch((error) => {
    const missing = clients.filter(({ heard }) => heard.at(-1) !== said).map(({ socket, heard }) => [socket.id, socket.connected, heard.length, heard[0], heard.at(-1)]);
    throw new Error(`${error.message} (${said}): ${JSON.stringify(missing)}`);
  });
  await until(() => clients.every(({ socket }) => fromClients.get(socket.id)?.length >= messages), "everything is heard");

  for (const { socket, heard } of clients) {
    // From the join to the end without a gap: the join fell somewhere into the anchor's talk.
    assert.deepEqual(heard, Array.from({ length: heard.length }, (_, i) => said - heard.length + 1 + i));
    const numbers = fromClients.get(socket.id).map((value) => {
      if (!Array.isArray(value)) return value;
      assert.deepEqual(value[1], Buffer.from([value[0]]));
      return value[0];
    });
    assert.deepEqual(numbers, Array.from({ length: messages }, (_, number) => number));
    assert.equal(socket.io.engine.transport.name, "websocket");
  }
  for (const { socket } of clients) socket.disconnect();
  anchor.disconnect();
  await proxy.stop();
}
