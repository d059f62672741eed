// One client's fault is its own: a connection that is reset, a request that is given up, a reader that does
// not read, a batch without end, a record without bound. Each test is the smallest that shows the harm to
// somebody else; gauges are read where a client cannot see it. Most start a gateway with flags that make the
// fault small and certain (GATEWAY_BIN).
import "./resilience/resets.mjs";
import "./resilience/requests.mjs";
import "./resilience/waiting.mjs";
import "./resilience/turns.mjs";
import "./resilience/bounds.mjs";
import "./resilience/json.mjs";
