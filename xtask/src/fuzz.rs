//! `cargo xtask fuzz`: the fuzz targets, each for a while.

use anyhow::{Result, bail};

use crate::step::{Outcome, command_step, run, run_quietly, step, succeeds};
use crate::workspace::Workspace;

const DIRECTORY: &str = "crates/fuzz";
/// The targets' own workspace.
pub(crate) const MANIFEST: &str = "crates/fuzz/Cargo.toml";

/// Runs all targets, or the one with this name, each for this many seconds.
pub(crate) fn run_targets(workspace: &Workspace, only: Option<&str>, seconds: u32) -> Result<()> {
    if !workspace.path(MANIFEST).exists() {
        bail!("there are no fuzz targets: {MANIFEST} is missing");
    }
    step("cargo-fuzz", "cargo install --locked cargo-fuzz", || {
        if succeeds(&mut workspace.cargo(&["fuzz", "--version"])) {
            return Ok(Outcome::Skipped("it is installed".to_owned()));
        }
        run(&mut workspace.cargo(&["install", "--quiet", "--locked", "cargo-fuzz"]))?;
        Ok(Outcome::Done)
    })?;
    let listed = run_quietly(&mut workspace.cargo(&["fuzz", "list", "--fuzz-dir", DIRECTORY]))?;
    let targets: Vec<&str> =
        listed.split_whitespace().filter(|name| only.is_none_or(|o| o == *name)).collect();
    if targets.is_empty() {
        bail!("no such fuzz target; there are: {}", listed.split_whitespace().collect::<Vec<_>>().join(", "));
    }
    let time = format!("-max_total_time={seconds}");
    for target in targets {
        let mut command = workspace.cargo(&["fuzz", "run", "--fuzz-dir", DIRECTORY, target, "--", &time]);
        // Sanitizers need an unstable flag, which a stable compiler accepts with this variable.
        command.env("RUSTC_BOOTSTRAP", "1");
        let remedy = format!("the input is in {DIRECTORY}/artifacts/{target}; keep it as a test");
        command_step(&format!("fuzz {target}"), &remedy, &mut command)?;
    }
    Ok(())
}
