// One HTTP request, sent exactly as written (the path is not normalised), and the whole answer.

import http from "node:http";

/** Resolves to `{status, headers, body}`. An answer that switches protocols has the status 101 and its connection is dropped. */
export function request(baseUrl, { method = "GET", path = "/", headers = {}, body } = {}) {
  const { hostname, port } = new URL(baseUrl);
  // A connection of its own, which it asks to keep: what a server does to a connection must not reach the next request.
  const agent = new http.Agent({ keepAlive: true });
  const answer = new Promise((resolve, reject) => {
    const outgoing = http.request({ hostname, port, method, path, headers, agent, timeout: 15_000 });
    outgoing.on("error", reject);
    outgoing.on("timeout", () => outgoing.destroy(new Error(`${method} ${path}: no answer`)));
    outgoing.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode, headers: response.headers, body: "" });
    });
    outgoing.on("response", (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() }));
    });
    outgoing.end(body);
  });
  return answer.finally(() => agent.destroy());
}
