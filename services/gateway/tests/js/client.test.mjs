// The unmodified socket.io-client against the gateway's built-in vocabulary: every transport, text and
// binary, acknowledgements, refusals, broken networks, the limit, and who hears what about a room.
import "./client/connecting.mjs";
import "./client/messages.mjs";
import "./client/refusals.mjs";
import "./client/rooms.mjs";
import "./client/network.mjs";
import "./client/chat.mjs";
