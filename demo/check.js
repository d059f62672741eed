// A check of the link to one person: data goes there and back in every serialization PeerJS has.
// Everybody answers such a connection (label "echo") by sending back whatever comes.

import { state } from "./state.js";

const ECHO_TIMEOUT_MS = 10000;
const SAMPLE = { text: "grüße 信号", numbers: [0, -1, 3.5, 2 ** 40], nested: { yes: true, no: null } };
const SAMPLES = { "binary": SAMPLE, "binary-utf8": SAMPLE, "json": SAMPLE, "raw": JSON.stringify(SAMPLE) };

export function answerEchoes(peering) {
  peering.addEventListener("connection", ({ detail: { connection } }) => {
    if (connection.label === "echo") connection.on("data", (data) => connection.send(data));
  });
}

/** Resolves to {serialization: milliseconds there and back, or "failed"}. */
export async function checkLink(peering, peerId) {
  const results = {};
  for (const [serialization, sample] of Object.entries(SAMPLES)) {
    results[serialization] = await roundTrip(peering, peerId, serialization, sample).catch(() => "failed");
  }
  state.checks[peerId] = results;
  return results;
}

function roundTrip(peering, peerId, serialization, sample) {
  const connection = peering.open && peering.peer.connect(peerId, { label: "echo", serialization, reliable: true });
  if (!connection) return Promise.reject(new Error("the gateway is out of reach"));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no answer")), ECHO_TIMEOUT_MS);
    let sentAt;
    connection.on("open", () => { sentAt = performance.now(); connection.send(sample); });
    connection.on("error", reject);
    connection.on("data", (echo) => {
      clearTimeout(timer);
      const same = JSON.stringify(echo) === JSON.stringify(sample);
      if (same) resolve(Math.max(1, Math.round(performance.now() - sentAt)));
      else reject(new Error("something else came back"));
    });
  }).finally(() => connection.close());
}
