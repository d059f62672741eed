// Tokens in a cluster. Starts everything itself; GATEWAY_BIN names the gateway.
import "./auth/moves.mjs";
import "./auth/revocation.mjs";
