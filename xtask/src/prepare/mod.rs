//! Brings a machine to where the tests can run: system packages, the clients from npm and PyPI, the test runner, the
//! gateway of the previous format.
//! Each part looks first, and does nothing where nothing changed.

mod javascript;
mod previous;
mod python;
pub(crate) mod system;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::step::{Outcome, run, step, succeeds};
use crate::workspace::Workspace;

/// All parts.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    step("system packages", system::REMEDY, || system::install(workspace))?;
    step("cargo-nextest", "cargo install --locked cargo-nextest", || {
        if succeeds(&mut workspace.cargo(&["nextest", "--version"])) {
            return Ok(Outcome::Skipped("it is installed".to_owned()));
        }
        run(&mut workspace.cargo(&["install", "--quiet", "--locked", "cargo-nextest"]))?;
        Ok(Outcome::Done)
    })?;
    let remedy = "see what npm says; package.json and package-lock.json must agree";
    step("npm packages", remedy, || javascript::install(workspace))?;
    step("vendor directory", "remove services/gateway/tests/js/node_modules and try again", || {
        javascript::fill_vendor_directory(workspace)
    })?;
    step("python packages", "see what pip says; remove target/venv and try again", || {
        python::install(workspace)
    })?;
    step("gateway of the previous format", previous::REMEDY, || previous::build(workspace))
}

/// Whether the stamp says that this was installed last.
fn is_current(stamp: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|last| last == wanted)
}

/// Remembers what was installed.
fn remember(stamp: &Path, wanted: &str) -> Result<()> {
    if let Some(directory) = stamp.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}
