//! Programs that come from the operating system. On Debian, as root, what is missing is installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::{Outcome, run_quietly, say, succeeds};
use crate::workspace::Workspace;

/// What to do when this part fails.
pub(crate) const REMEDY: &str = "install what is named above, then run this again";

/// The oldest Node.js that the tests run on.
const OLDEST_NODE: u32 = 20;

/// A program the tests need.
struct Tool {
    name: &'static str,
    /// Debian's packages of it.
    packages: &'static [&'static str],
    is_there: fn(&Workspace) -> bool,
}

const TOOLS: [Tool; 10] = [
    Tool {
        name: "Node.js 20 or newer",
        packages: &["nodejs"],
        is_there: |workspace| node_version(workspace).is_some_and(|version| version >= OLDEST_NODE),
    },
    Tool {
        name: "npm",
        packages: &["npm"],
        is_there: |workspace| succeeds(workspace.program("npm").arg("--version")),
    },
    Tool {
        name: "Chromium",
        // Without a font, pages have no text on their screenshots.
        packages: &["chromium", "fonts-liberation"],
        is_there: |workspace| succeeds(workspace.program("chromium").arg("--version")),
    },
    Tool {
        name: "Python 3 with venv",
        packages: &["python3", "python3-venv"],
        is_there: |workspace| succeeds(workspace.program("python3").args(["-c", "import ensurepip, venv"])),
    },
    Tool {
        name: "Redis 7 or newer",
        packages: &["redis-server"],
        is_there: |workspace| succeeds(workspace.program("redis-server").arg("--version")),
    },
    Tool {
        name: "HAProxy",
        packages: &["haproxy"],
        is_there: |workspace| succeeds(workspace.program("haproxy").arg("-v")),
    },
    Tool {
        name: "coturn",
        packages: &["coturn"],
        // It has no flag that does nothing but answer.
        is_there: |workspace| {
            succeeds(workspace.program("sh").args(["-c", "command -v turnserver turnutils_uclient"]))
        },
    },
    Tool {
        name: "nginx with its stream module",
        // The module is for connections that are passed on as they are.
        packages: &["nginx-light", "libnginx-mod-stream"],
        is_there: |workspace| {
            succeeds(workspace.program("nginx").arg("-v"))
                && Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").exists()
        },
    },
    Tool {
        name: "Prometheus",
        packages: &["prometheus"],
        is_there: |workspace| succeeds(workspace.program("promtool").arg("--version")),
    },
    Tool {
        name: "valgrind",
        packages: &["valgrind"],
        is_there: |workspace| succeeds(workspace.program("valgrind").arg("--version")),
    },
];

/// What the container tests need beside [`TOOLS`].
const CONTAINER_TOOLS: [Tool; 2] = [
    Tool {
        name: "podman with a network",
        packages: &["podman", "runc", "netavark", "aardvark-dns", "iptables", "iproute2", "uidmap"],
        is_there: |workspace| {
            succeeds(workspace.program("podman").arg("--version"))
                && succeeds(workspace.program("runc").arg("--version"))
                && succeeds(workspace.program("iptables").arg("--version"))
                && succeeds(workspace.program("ip").arg("-V"))
                && Path::new("/usr/lib/podman/netavark").exists()
        },
    },
    Tool {
        name: "mmdebstrap",
        packages: &["mmdebstrap"],
        is_there: |workspace| succeeds(workspace.program("mmdebstrap").arg("--version")),
    },
];

/// Looks for each program, and installs what is missing where that is possible.
pub(super) fn install(workspace: &Workspace) -> Result<Outcome> {
    install_tools(workspace, &TOOLS)
}

/// The same for the container tests.
pub(crate) fn install_for_containers(workspace: &Workspace) -> Result<Outcome> {
    install_tools(workspace, &CONTAINER_TOOLS)
}

fn install_tools(workspace: &Workspace, tools: &'static [Tool]) -> Result<Outcome> {
    let missing = missing(workspace, tools);
    if missing.is_empty() {
        return Ok(Outcome::Skipped("all are installed".to_owned()));
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.name).collect();
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    if !can_install(workspace) {
        bail!(
            "missing: {}\non Debian: sudo apt-get install --no-install-recommends {}",
            names.join(", "),
            packages.join(" ")
        );
    }
    say(&format!("installing {}", packages.join(" ")));
    // The lists of packages may be absent or old, which shows in the attempt to use them.
    if run_quietly(&mut apt(workspace, &install_arguments(&packages))).is_err() {
        run_quietly(&mut apt(workspace, &["update"]))?;
        run_quietly(&mut apt(workspace, &install_arguments(&packages)))?;
    }
    let still_missing: Vec<&str> = self::missing(workspace, tools).iter().map(|tool| tool.name).collect();
    if !still_missing.is_empty() {
        bail!("still missing after installing {}: {}", packages.join(" "), still_missing.join(", "));
    }
    Ok(Outcome::Done)
}

fn missing(workspace: &Workspace, tools: &'static [Tool]) -> Vec<&'static Tool> {
    tools.iter().filter(|tool| !(tool.is_there)(workspace)).collect()
}

/// The major version, as in `v20.11.1`.
fn node_version(workspace: &Workspace) -> Option<u32> {
    let version = run_quietly(workspace.program("node").arg("--version")).ok()?;
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn can_install(workspace: &Workspace) -> bool {
    let is_root = run_quietly(workspace.program("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    is_root && Path::new("/etc/debian_version").exists()
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    [&["install", "-y", "--no-install-recommends"], packages].concat()
}

fn apt(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = workspace.program("apt-get");
    // Nothing may ask a question, and no daemon may be started by its package.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command
}
