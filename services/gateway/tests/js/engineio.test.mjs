// Engine.IO as bytes: the handshake, every refusal with its exact code and body, the errors inside a
// session, the upgrade dance, heartbeat directions, compression and limits. Nothing here uses a client
// library, so that what the library would forgive is seen. Default settings of the server.
//
// REFERENCE=1 runs the same file against the npm server.
import "./engineio/handshake.mjs";
import "./engineio/origin.mjs";
import "./engineio/polling.mjs";
import "./engineio/packets.mjs";
import "./engineio/upgrade.mjs";
