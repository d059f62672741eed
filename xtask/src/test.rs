//! `cargo xtask test`: what must pass before a change is done, and what CI runs.

use anyhow::Result;

use crate::step::command_step;
use crate::workspace::Workspace;
use crate::{bench, check, containers, prepare};

/// The suite that runs the images; it is no filter.
const CONTAINERS: &str = "containers";

/// All tests, or those whose names contain the filter.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    if filter == Some(CONTAINERS) {
        return containers::run(workspace);
    }
    prepare::run_all(workspace)?;
    if filter.is_none() {
        check::quick(workspace)?;
        bench::check_codecs(workspace)?;
    }
    let examples = ["build", "--quiet", "--package", "signalbox-node", "--examples"];
    command_step("examples", "correct what does not compile", &mut workspace.cargo(&examples))?;

    let mut tests = workspace.cargo(&["nextest", "run", "--workspace"]);
    tests.args(filter);
    command_step("tests", "cargo xtask test NAME runs one of them", &mut tests)?;
    if filter.is_none() {
        let doctests = ["test", "--quiet", "--workspace", "--doc"];
        command_step("doctests", "correct the example it names", &mut workspace.cargo(&doctests))?;
    }
    Ok(())
}
