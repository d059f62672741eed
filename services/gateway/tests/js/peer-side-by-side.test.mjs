// npm `peer` 1.0.2 and the gateway get the same HTTP and WebSocket exchanges (lib/peer-exchanges-*.mjs). Every difference between their
// answers must be on the list in peer-differences.json, and everything on the list must occur.
//
// GATEWAY_URL: a gateway with default flags. GATEWAY_BIN: the binary, started here for the exchanges that need other flags.
// COMPARE=peer plays peer against itself, which shows whether an exchange itself is to blame for a difference.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { asRow, compare, findPlaces, readDifferences } from "./lib/peer-differences.mjs";
import { handshakeExchanges } from "./lib/peer-exchanges-handshake.mjs";
import { httpExchanges } from "./lib/peer-exchanges-http.mjs";
import { relayExchanges } from "./lib/peer-exchanges-relay.mjs";
import { timerExchanges } from "./lib/peer-exchanges-timers.mjs";
import { play } from "./lib/peer-play.mjs";
import { startGateway, startPeer } from "./lib/peer-servers.mjs";

const LIST = fileURLToPath(new URL("peer-differences.json", import.meta.url));
const withItself = process.env.COMPARE === "peer";

// The longest first.
const exchanges = [...timerExchanges, ...handshakeExchanges, ...relayExchanges, ...httpExchanges].map((exchange) => ({
  ...exchange,
  server: exchange.server ?? "default",
}));

/** The flags that a server's name stands for; a remark in parentheses makes it a server of its own. */
const flagsOf = (server) => (server === "default" ? [] : server.replace(/\(.*\)/, "").split(" ").filter(Boolean));

async function startPair(server) {
  const flags = flagsOf(server);
  const second = () => {
    if (withItself) {
      return startPeer(flags);
    }
    return server === "default" ? { url: gatewayUrl(), stop: async () => {} } : startGateway(flags);
  };
  // If one of them does not start, the other is ended with this process.
  const [peer, signalbox] = await Promise.all([startPeer(flags), second()]);
  return { peer, signalbox };
}

function gatewayUrl() {
  assert.ok(process.env.GATEWAY_URL, "GATEWAY_URL is not set: it is the address of a gateway with default flags");
  return process.env.GATEWAY_URL;
}

const rows = withItself ? [] : readDifferences(LIST);
const occurred = new Set();

describe("side by side with npm peer 1.0.2", { concurrency: 64 }, () => {
  // Every exchange begins as soon as its own two servers listen.
  const pairs = new Map();

  before(() => {
    for (const { server } of exchanges) {
      if (!pairs.has(server)) {
        const pair = startPair(server);
        // The exchanges report it.
        pair.catch(() => {});
        pairs.set(server, pair);
      }
    }
  });

  after(async () => {
    const started = await Promise.allSettled(pairs.values());
    await Promise.all(started.flatMap(({ value }) => (value ? [value.peer.stop(), value.signalbox.stop()] : [])));
  });

  for (const exchange of exchanges) {
    it(exchange.name, async () => {
      const { peer, signalbox } = await pairs.get(exchange.server);
      const [theirs, ours] = await Promise.all([play(exchange, peer), play(exchange, signalbox)]);
      const differences = compare(exchange.name, theirs, ours);
      const unlisted = differences.filter((difference) => {
        const places = findPlaces(rows, difference);
        places.forEach((place) => occurred.add(place));
        return places.length === 0;
      });
      assert.deepEqual(unlisted.map(asRow), [], "differences that are not on the list");
    });
  }
});

it("every difference on the list occurs", () => {
  const stale = rows.flatMap((row) => row.where).filter((place) => !occurred.has(place));
  assert.deepEqual(stale.map((place) => place.name), []);
});
