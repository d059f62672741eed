// Hashes off the main thread. In: ArrayBuffers in order, then null. Out: the checksum in hexadecimal.

import { Sha256 } from "./sha256.js";

const hash = new Sha256();

self.onmessage = ({ data }) => {
  if (data !== null) hash.update(new Uint8Array(data));
  else self.postMessage(hash.digest());
};
