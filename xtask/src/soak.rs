//! `cargo xtask soak`: the tests that take long, and are ignored otherwise.

use anyhow::Result;

use crate::prepare;
use crate::step::command_step;
use crate::workspace::Workspace;

/// Optimized: these tests are about sizes and times.
const PROFILE: &str = "soak";

/// All long tests, or those whose names contain the given one.
pub(crate) fn run(workspace: &Workspace, name: Option<&str>) -> Result<()> {
    prepare::run_all(workspace)?;
    let examples = ["build", "--quiet", "--profile", PROFILE, "--package", "signalbox-node", "--examples"];
    command_step("examples", "correct what does not compile", &mut workspace.cargo(&examples))?;
    let mut tests = workspace.cargo(&["nextest", "run", "--workspace", "--profile", "soak"]);
    tests.args(["--cargo-profile", PROFILE]);
    tests.args(["--run-ignored", "only"]);
    // A name that finds nothing is a slip; that there is no long test at all is not.
    match name {
        Some(name) => tests.arg(name),
        None => tests.arg("--no-tests=pass"),
    };
    command_step("soak", "cargo xtask soak NAME runs one of them", &mut tests)
}
