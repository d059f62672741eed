// One HTTP request on a connection of its own, with nothing added: `fetch` would hide the header
// names, follow redirects and decompress.
import { request as nodeRequest } from "node:http";
import { onEnd } from "./cleanup.mjs";
import { within } from "./wait.mjs";

/**
 * Sends a request and returns {status, headers, body, bytes}. `body` is a string or a Buffer. With
 * `signal` the request can be given up, which closes its TCP connection.
 */
export function request(base, method, path, { headers = {}, body, signal } = {}) {
  const target = new URL(base);
  const reply = new Promise((resolve, reject) => {
    const sent = nodeRequest(
      { host: target.hostname, port: target.port, method, path, headers, agent: false, signal },
      (response) => {
        // It has no end.
        if (/event-stream/.test(response.headers["content-type"] ?? "")) {
          resolve({ status: response.statusCode, headers: response.headers, bytes: Buffer.alloc(0), body: "" });
          sent.destroy();
          return;
        }
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const bytes = Buffer.concat(chunks);
          resolve({ status: response.statusCode, headers: response.headers, bytes, body: bytes.toString("utf8") });
        });
      },
    );
    const forget = onEnd(() => sent.destroy());
    sent.on("close", forget);
    sent.on("error", reject);
    // A length announced up front, as browsers do; chunked bodies are asked for by their header.
    if (body !== undefined && headers["transfer-encoding"] === undefined) {
      sent.setHeader("content-length", Buffer.byteLength(body));
    }
    sent.end(body);
  });
  return within(reply, `a reply to ${method} ${path.slice(0, 120)}`);
}
