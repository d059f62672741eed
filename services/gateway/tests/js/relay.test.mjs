// Two browsers that may use a relay alone: real coturn, signalbox-turn and gateway. TURN_BIN names signalbox-turn.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { freePort, Redis } from "./cluster/setup.mjs";
import { closeAll, onEnd } from "./lib/cleanup.mjs";
import { claims, hs256 } from "./lib/jwt.mjs";
import { until } from "./lib/wait.mjs";

const JWT_SECRET = "tokens are signed with this in tests";
const TURN_SECRET = "a-secret-of-the-tests";
const KEY = "sbt_test";
// They are renewed when a fifth of it is left: that must do for a browser to make an allocation on a busy machine.
const TTL_MS = 10_000;
const LIMIT = { timeout: 85_000 };

after(closeAll);

/** Starts a program that goes on; with `ready`, waits for a line of its output, and gives back what it says. */
async function start(program, args, ready) {
  const child = spawn(program, args, { stdio: ["ignore", ready ? "pipe" : "ignore", "inherit"] });
  onEnd(() => child.kill("SIGKILL"));
  if (!ready) return null;
  for await (const line of createInterface({ input: child.stdout })) {
    const found = ready.exec(line);
    if (found) {
      child.stdout.resume();
      return found[1];
    }
  }
  throw new Error(`${program} did not start`);
}

test("relayed alone, data and video arrive, are counted, and still connect after two lifetimes", LIMIT, async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "signalbox-relay-"));
  onEnd(() => rm(folder, { recursive: true }));
  const redis = await Redis.start();
  const turnPort = await freePort();
  await start("turnserver", [
    "-n", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", String(turnPort), "--realm", "signalbox",
    "--use-auth-secret", `--static-auth-secret=${TURN_SECRET}`, "--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls",
    `--redis-statsdb=ip=127.0.0.1 port=${redis.port} dbname=0 connect_timeout=5`,
    "--userdb", path.join(folder, "users"), "--pidfile", path.join(folder, "pid"), "--log-file", path.join(folder, "log"),
  ]);
  // A server that does not answer yet would be left out of the answers until it is tried again.
  await until(() => new Promise((resolve) => {
    const socket = connect(turnPort, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    onEnd(() => socket.destroy());
  }), "coturn listens");
  const hash = createHash("sha256").update(KEY).digest("hex");
  const service = await start(process.env.TURN_BIN, [
    "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--workers", "1", "--secret", TURN_SECRET, "--ttl", String(TTL_MS),
    "--uri", `turn:127.0.0.1:${turnPort}?transport=udp`, "--api-key", `gateway:issue+read:${hash}`, "--redis-url", redis.url, "--coturn-stats-url", redis.url,
  ], / public=(\S+)/);
  const gateway = await start(process.env.GATEWAY_BIN, [
    "--host", "127.0.0.1", "--port", "0", "--admin-port", "0", "--workers", "2", "--auth", "required", "--jwt-secret", JWT_SECRET,
    "--turn-url", service, "--turn-key", KEY, "--vendor-dir", path.join(import.meta.dirname, "../../../../target/vendor"),
  ], / public=(\S+)/);
  process.env.GATEWAY_URL = gateway;
  const { Browser, ORIGIN } = await import("./chromium.mjs");
  const browser = await Browser.launch();
  onEnd(() => browser.close());

  const usage = async (subject) => {
    const answer = await fetch(`${service}/v1/usage?subject=${subject}`, { headers: { "x-api-key": KEY } });
    return (await answer.json()).bytes;
  };
  // Whoever is to listen to coturn does so by now.
  await until(async () => (await redis.ask("PUBSUB NUMPAT")).startsWith(":1"), "signalbox-turn listens to coturn");

  const open = async (name) => {
    const page = await browser.page();
    await page.route("**/test-page", (route) =>
      route.fulfill({ contentType: "text/html", body: '<script src="/socket.io/socket.io.js"></script><script src="/demo/peerjs.min.js"></script>' }));
    await page.goto(`${ORIGIN}/test-page`);
    const grants = { turn: true, peer: { generated: true, ids: ["*"] }, rooms: { join: ["*"], send: ["*"] } };
    const token = hs256(JWT_SECRET, claims({ sub: name, signalbox: grants }));
    await page.evaluate(async ({ token, name }) => {
      window.socket = io({ auth: { token } });
      const { iceServers } = await socket.emitWithAck("ice-servers");
      window.renewals = 0;
      const config = { iceServers, iceTransportPolicy: "relay" };
      socket.on("ice-servers", ({ iceServers }) => {
        window.renewals += 1;
        config.iceServers = iceServers;
      });
      window.peer = new Peer(name, { host: location.hostname, port: Number(location.port), path: "/", token, config });
      await new Promise((resolve, reject) => { peer.on("open", resolve); peer.on("error", reject); });
      peer.on("connection", (connection) => connection.on("data", (data) => connection.send(`echo ${data}`)));
      const media = await navigator.mediaDevices.getUserMedia({ video: true });
      peer.on("call", (call) => call.answer(media));
      window.media = media;
      window.pair = async (connection) => {
        const stats = [...(await connection.peerConnection.getStats()).values()];
        const selected = stats.find((entry) => entry.type === "candidate-pair" && entry.nominated && entry.state === "succeeded");
        return [selected.localCandidateId, selected.remoteCandidateId].map((id) => stats.find((entry) => entry.id === id).candidateType);
      };
    }, { token, name });
    return page;
  };
  const exchange = (page, to) => page.evaluate(async (to) => {
    const connection = peer.connect(to, { reliable: true });
    await new Promise((resolve, reject) => { connection.on("open", resolve); connection.on("error", reject); setTimeout(() => reject(new Error("no path")), 15000); });
    const echo = new Promise((resolve) => connection.on("data", resolve));
    connection.send("x".repeat(2000));
    return { echo: (await echo).length, pair: await window.pair(connection) };
  }, to);

  const alice = await open("alice");
  const bob = await open("bob");
  assert.deepEqual(await exchange(alice, "bob"), { echo: 2005, pair: ["relay", "relay"] });
  const frames = await alice.evaluate(async () => {
    const call = peer.call("bob", media);
    const stream = await new Promise((resolve) => call.on("stream", resolve));
    const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
    document.body.append(video);
    await video.play();
    while (video.getVideoPlaybackQuality().totalVideoFrames < 10) await new Promise((resolve) => setTimeout(resolve, 50));
    return { width: video.videoWidth, pair: await window.pair(call) };
  });
  assert.ok(frames.width > 0);
  assert.deepEqual(frames.pair, ["relay", "relay"]);

  // Two lifetimes later, in pages that were never loaded anew.
  await until(() => alice.evaluate((before) => window.renewals > before, 2), "three renewals", 4 * TTL_MS);
  await until(() => bob.evaluate((before) => window.renewals > before, 2), "three renewals", 4 * TTL_MS);
  assert.deepEqual(await exchange(alice, "bob"), { echo: 2005, pair: ["relay", "relay"] });

  for (const page of [alice, bob]) await page.evaluate(() => peer.destroy());
  await until(async () => (await usage("alice")) > 4000 && (await usage("bob")) > 4000, "the bytes of both are counted");
  assert.equal(await usage("carol"), 0);
});
