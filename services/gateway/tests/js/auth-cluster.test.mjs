// Tokens in a cluster. Starts everything itself; GATEWAY_BIN names the gateway.
import "./auth/revocation.mjs";
