//! `cargo xtask deploy`: chart, manifests, images, compose file and proxies' configurations, each judged by the program or the schema that
//! its format belongs to. The checks are written with pytest, in `deploy/checks`; the programs come from PyPI and npm.

use std::fs;

use anyhow::{Context as _, Result};

use super::check_generated;
use crate::step::{Outcome, command_step, run_quietly, step, succeeds};
use crate::workspace::Workspace;

const CHECKS: &str = "deploy/checks";
const ENVIRONMENT: &str = "target/deploy/venv";

/// Installs the checkers, and runs all checks, or those whose names contain the filter.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    step("generated files of the chart", "cargo xtask docs", || check_generated(workspace))?;
    let remedy = "see what npm and pip say; they are needed, with node and python3";
    step("checkers", remedy, || install(workspace))?;
    let python = workspace.path(ENVIRONMENT).join("bin/python");
    let mut pytest = workspace.program(&python.to_string_lossy());
    // No caches beside the sources.
    pytest.args(["-B", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", CHECKS]);
    if let Some(filter) = filter {
        pytest.args(["-k", filter]);
    }
    command_step("deployment", "correct what it names; cargo xtask deploy NAME runs one of them", &mut pytest)
}

/// Brings what the two lists name, when they are not those installed last. A check whose program neither of them has is skipped, and says so.
fn install(workspace: &Workspace) -> Result<Outcome> {
    let requirements = format!("{CHECKS}/requirements.txt");
    let mut wanted = String::new();
    for file in [requirements.as_str(), "deploy/checks/package-lock.json"] {
        wanted += &fs::read_to_string(workspace.path(file)).with_context(|| format!("cannot read {file}"))?;
    }
    let stamp = workspace.stamp("deploy-checkers");
    let python = workspace.path(ENVIRONMENT).join("bin/python");
    let is_installed = succeeds(workspace.program(&python.to_string_lossy()).arg("--version"));
    if is_installed && fs::read_to_string(&stamp).is_ok_and(|last| last == wanted) {
        return Ok(Outcome::Skipped("nothing changed".to_owned()));
    }
    run_quietly(workspace.program("python3").args(["-m", "venv", "--clear", ENVIRONMENT]))?;
    let pip =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", &requirements];
    run_quietly(workspace.program(&python.to_string_lossy()).args(pip))?;
    let mut npm = workspace.program("npm");
    npm.current_dir(workspace.path(CHECKS)).env("NPM_CONFIG_UPDATE_NOTIFIER", "false");
    // One of the packages asks for others beside it, hundreds of megabytes, which its programs do not need.
    npm.args(["ci", "--legacy-peer-deps", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]);
    run_quietly(&mut npm)?;
    let unpack = ["deploy/checks/unpack.py", "target/deploy/bin"];
    run_quietly(workspace.program(&python.to_string_lossy()).args(unpack))?;
    if let Some(directory) = stamp.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Outcome::Done)
}
