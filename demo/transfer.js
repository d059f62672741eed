// One file over one PeerJS data connection ("raw", reliable): binary pieces in order, then {"sha256": ...} as text.
// The receiver answers {"verified": true or false}; closing the connection earlier cancels.

const PIECE = 64 * 1024; // what every browser accepts as one data channel message
const READ = 16 * PIECE;
const HIGH_WATER = 4 * 1024 * 1024; // stop reading the file while this much waits in the data channel
const LOW_WATER = 1024 * 1024;
const FOLD = 256; // pieces that become one Blob, which the browser may keep on disk

/** An incremental SHA-256 in a worker. */
export class Checksum {
  #worker = new Worker(new URL("./sha256-worker.js", import.meta.url), { type: "module" });

  /** `buffer` is copied. */
  update(buffer) {
    this.#worker.postMessage(buffer);
  }

  digest() {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }) => { this.stop(); resolve(data); };
      this.#worker.onerror = () => reject(new Error("the checksum could not be computed"));
      this.#worker.postMessage(null);
    });
  }

  stop() {
    this.#worker.terminate();
  }
}

/** Sends `file`; resolves to whether the receiver found the checksum right. */
export async function sendFile(file, connection, onProgress) {
  const closed = new Promise((_, reject) => {
    connection.on("close", () => reject(new Error("the connection was closed")));
    connection.on("error", (error) => reject(error));
  });
  closed.catch(() => {}); // reported through the races below
  const verdict = new Promise((resolve) => connection.on("data", (text) => resolve(JSON.parse(text).verified === true)));
  const checksum = new Checksum();
  try {
    await Promise.race([closed, new Promise((resolve) => (connection.open ? resolve() : connection.on("open", resolve)))]);
    for (let at = 0; at < file.size; at += READ) {
      const bytes = await file.slice(at, at + READ).arrayBuffer();
      checksum.update(bytes);
      for (let piece = 0; piece < bytes.byteLength; piece += PIECE) {
        if (!connection.open) await closed;
        if (connection.dataChannel.bufferedAmount > HIGH_WATER) await Promise.race([closed, drained(connection.dataChannel)]);
        connection.send(new Uint8Array(bytes, piece, Math.min(PIECE, bytes.byteLength - piece)));
      }
      onProgress(Math.min(at + READ, file.size));
    }
    connection.send(JSON.stringify({ sha256: await checksum.digest() }));
    return await Promise.race([closed, verdict]);
  } finally {
    checksum.stop();
    connection.close();
  }
}

/**
 * Receives a file of `size` bytes; resolves to {blob, sha256, expected}. The blob has no type of the sender's: opened as a page, it would be one
 * of this origin.
 */
export function receiveFile({ size }, connection, onProgress) {
  const checksum = new Checksum();
  const parts = [];
  let pieces = [];
  let done = 0;
  const fold = () => { parts.push(new Blob(pieces)); pieces = []; };

  return new Promise((resolve, reject) => {
    const fail = (text) => { checksum.stop(); connection.close(); reject(new Error(text)); };
    connection.on("close", () => fail("the sender went away"));
    connection.on("error", () => fail("the connection broke"));
    const piece = (data) => {
      done += data.byteLength;
      if (done > size) return fail("more came than was announced");
      checksum.update(data);
      pieces.push(data);
      if (pieces.length >= FOLD) fold();
      onProgress(done);
    };
    const end = async (text) => {
      const expected = String(JSON.parse(text).sha256);
      const sha256 = await checksum.digest();
      connection.send(JSON.stringify({ verified: sha256 === expected && done === size }));
      fold();
      resolve({ blob: new Blob(parts, { type: "application/octet-stream" }), sha256, expected });
    };
    connection.on("data", (data) => {
      if (typeof data === "string") end(data).catch(() => fail("the end of the file was not understood"));
      else piece(data);
    });
  });
}

function drained(channel) {
  channel.bufferedAmountLowThreshold = LOW_WATER;
  return new Promise((resolve) => channel.addEventListener("bufferedamountlow", resolve, { once: true }));
}
