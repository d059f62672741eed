// What the parts of auth.test.mjs share: gateways that ask for tokens, and how each protocol is shown one.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import { closeAll, onEnd } from "../lib/cleanup.mjs";
import { client, connected } from "../lib/clients.mjs";
import { claims, es256, keyPair } from "../lib/jwt.mjs";
import { startGateway } from "../lib/peer-servers.mjs";
import { PeerSocket, socketUrl } from "../lib/peer-socket.mjs";
import { PollingSession } from "../lib/polling.mjs";
import { within } from "../lib/wait.mjs";
import { RawSocket } from "../lib/websocket.mjs";

export const SECRET = "a secret of the tests, of more than 32 bytes";
export const AUDIENCE = "signalbox-tests";
export const pair = keyPair("one");
export const WEBSOCKET = { transports: ["websocket"] };
export const everything = { namespaces: ["*"], rooms: { join: ["*"], send: ["*"] }, peer: { ids: ["*"], generated: true, discover: true }, users: true };

after(closeAll);

const folder = await mkdtemp(path.join(tmpdir(), "signalbox-auth-"));
onEnd(() => rm(folder, { recursive: true, force: true }));

/** A file with this content; its path. */
export async function file(name, content) {
  const at = path.join(folder, name);
  await writeFile(at, content);
  return at;
}

/** A gateway of the test's own. */
export async function gateway(...flags) {
  const server = await startGateway(["--workers", "1", ...flags]);
  onEnd(() => server.stop());
  return server;
}

export const keySet = (...pairs) => JSON.stringify({ keys: pairs.map(({ jwk }) => jwk) });

/** A gateway that requires tokens signed with `pair`. */
export async function required(...flags) {
  const jwks = await file(`jwks-${Math.random()}.json`, keySet(pair));
  return gateway("--auth", "required", "--jwks", jwks, "--jwt-audience", AUDIENCE, ...flags);
}

/** A good token with these claims changed. */
export const token = (changed = {}) => es256(pair, claims({ aud: AUDIENCE, ...changed }));

/** A token with these grants. */
export const granted = (signalbox, changed = {}) => token({ signalbox, ...changed });

/** A socket.io-client that shows a token as `auth.token`. */
export const io = (server, shown, options = {}) => connected(server.url, { ...WEBSOCKET, auth: { token: shown }, ...options });

/** What a socket.io-client is told that is not let in: the message, and the code. */
export async function ioRefusal(url, options) {
  const socket = client(url, { ...WEBSOCKET, ...options });
  const answered = new Promise((resolve, reject) => {
    socket.once("connect_error", resolve);
    socket.once("connect", () => reject(new Error("it was let in")));
  });
  const error = await within(answered, "a refusal");
  socket.disconnect();
  return { message: error.message, code: error.data?.code };
}

/** A raw PeerServer client that shows a token; it has been answered. */
export async function peer(server, id, shown, key = "peerjs") {
  const socket = new PeerSocket(socketUrl(server.url, { key, id, token: shown }));
  onEnd(() => socket.terminate());
  await socket.until(() => socket.texts.length > 0 || socket.closed);
  return socket;
}

/** The first word that a PeerServer client hears; "closed" where there is none. */
export async function peerAnswer(server, id, shown, key) {
  const socket = await peer(server, id, shown, key);
  const [first] = socket.messages;
  return first === undefined ? "closed" : first.payload === undefined ? first.type : `${first.type}: ${first.payload.msg}`;
}

/** A session that polls `home` with this token, and a WebSocket to `other` that it moves to when that is sent a 5. */
export async function aboutToMove(home, other, shown) {
  const session = await PollingSession.open(home.url);
  await session.post(`40${JSON.stringify({ token: shown })}`);
  const answer = await session.poll((packet) => packet.startsWith("4"), "the answer to CONNECT");
  if (!answer.startsWith("40{")) throw new Error(answer);
  const socket = await RawSocket.connect(other.url, `/socket.io/?EIO=4&transport=websocket&sid=${session.sid}`);
  onEnd(() => socket.ws.terminate());
  socket.send("2probe");
  if ((await socket.next("the answer")) !== "3probe") throw new Error("no probe");
  return socket;
}
