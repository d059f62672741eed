// Key sets from a URL. Starts everything itself; GATEWAY_BIN names the gateway.
import "./auth/jwks.mjs";
