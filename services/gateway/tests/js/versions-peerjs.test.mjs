// The tutorials' pages and the duplicated tab in Chromium, with peerjs of many versions. The gateway was started with --path /peerjs.

import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { npmPackage, succeed } from "./lib/packages.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));

for (const version of ["1.2.0", "1.3.2", "1.4.7", "1.5.5", "2.0.0-beta.3"]) {
  test(`peerjs ${version}`, async (t) => {
    const bundle = path.join(await npmPackage(t, "peerjs", version), "dist/peerjs.min.js");
    const env = { ...process.env, PEERJS: bundle };
    // It is a test of its own, not a part of this one.
    delete env.NODE_TEST_CONTEXT;
    await succeed("node", ["--test", path.join(here, "tutorial.test.mjs")], { env });
  });
}
