// Clients of a cluster, and what each of them knows.
import { ask, connected, record } from "../lib/clients.mjs";
import { PeerSocket, socketUrl } from "../lib/peer-socket.mjs";
import { until } from "../lib/wait.mjs";

const options = { transports: ["websocket"] };

/** A member of a room, and the others as it sees them: its view is made of what it was told alone. */
export async function member(node, room, name) {
  const socket = await connected(node.url, options);
  const one = { socket, id: socket.id, name, view: new Map() };
  const note = ({ id, room, ...profile }) => one.view.set(id, profile.name);
  one.strange = [];
  one.farewells = [];
  socket.on("joined", (member) => {
    if (one.view.has(member.id)) one.strange.push(`joined again: ${member.name}`);
    note(member);
  });
  socket.on("left", ({ id, name }) => {
    if (!one.view.delete(id)) one.strange.push(`left without having been there: ${name}`);
    one.farewells.push(name);
  });
  one.messages = record(socket, "message");
  one.closed = false;
  socket.on("disconnect", (reason) => (one.closed = reason));
  const { members } = await ask(socket, "join", room, { name });
  members.forEach((member) => one.view.set(member.id, member.name));
  return one;
}

/** Whether a member sees exactly these others. */
export const sees = (one, ...names) => [...one.view.values()].sort().join() === names.sort().join();

/** A PeerServer client, and how its claim was answered. */
export async function peer(node, id, token = id) {
  const socket = new PeerSocket(socketUrl(node.url, { key: "peerjs", id, token }));
  await until(() => socket.messages.length > 0 || socket.closed, "an answer to the claim");
  return { socket, answer: socket.messages[0]?.type };
}
