// Who may do what: tokens of every kind, and what they grant, by real clients of both protocols. GATEWAY_BIN names the program.
import "./auth/tokens.mjs";
import "./auth/grants.mjs";
import "./auth/expiry.mjs";
import "./auth/explained.mjs";
