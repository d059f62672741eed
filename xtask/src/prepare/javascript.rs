//! The unmodified clients from npm, for Node.js and, as bundles, for browsers.

use std::fs;

use anyhow::{Context as _, Result};

use super::{is_current, remember};
use crate::step::{Outcome, run_quietly};
use crate::workspace::Workspace;

const TESTS: &str = "services/gateway/tests/js";
const VENDOR: &str = "target/vendor";

/// The bundles that browsers load, which the gateway serves from its vendor directory.
const BUNDLES: [&str; 7] = [
    "socket.io-client/dist/socket.io.js",
    "socket.io-client/dist/socket.io.js.map",
    "socket.io-client/dist/socket.io.min.js",
    "socket.io-client/dist/socket.io.min.js.map",
    "socket.io-client/dist/socket.io.esm.min.js",
    "socket.io-client/dist/socket.io.esm.min.js.map",
    "peerjs/dist/peerjs.min.js",
];

/// `npm ci`, when the lock file is not the one installed last.
pub(super) fn install(workspace: &Workspace) -> Result<Outcome> {
    let directory = workspace.path(TESTS);
    let modules = directory.join("node_modules");
    let read = |name: &str| {
        fs::read_to_string(directory.join(name)).with_context(|| format!("cannot read {TESTS}/{name}"))
    };
    let wanted = format!("{}{}", read("package.json")?, read("package-lock.json")?);
    let stamp = workspace.stamp("npm-ci");

    let is_link = modules.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    if is_link {
        // npm would empty the directory it points to, which belongs to somebody else.
        fs::remove_file(&modules).context("cannot remove the link node_modules")?;
    }
    if modules.is_dir() && is_current(&stamp, &wanted) {
        return Ok(Outcome::Skipped("nothing changed".to_owned()));
    }
    let mut npm = workspace.program("npm");
    npm.current_dir(&directory).env("NPM_CONFIG_UPDATE_NOTIFIER", "false");
    run_quietly(npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]))?;
    remember(&stamp, &wanted)?;
    Ok(Outcome::Done)
}

/// Copies the bundles.
pub(super) fn fill_vendor_directory(workspace: &Workspace) -> Result<Outcome> {
    let vendor = workspace.path(VENDOR);
    fs::create_dir_all(&vendor).with_context(|| format!("cannot make {VENDOR}"))?;
    for bundle in BUNDLES {
        let source = workspace.path(TESTS).join("node_modules").join(bundle);
        let name = source.file_name().with_context(|| format!("{bundle} has no file name"))?;
        fs::copy(&source, vendor.join(name)).with_context(|| format!("cannot copy {bundle}"))?;
    }
    Ok(Outcome::Done)
}
