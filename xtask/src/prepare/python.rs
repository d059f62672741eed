//! The clients from PyPI, in an environment of their own.

use std::fs;

use anyhow::Result;

use super::{is_current, remember};
use crate::step::{Outcome, run_quietly};
use crate::workspace::Workspace;

const REQUIREMENTS: &str = "services/gateway/tests/js/python/requirements.txt";
const ENVIRONMENT: &str = "target/venv";

/// Makes the environment anew, when the requirements are not those installed last.
pub(super) fn install(workspace: &Workspace) -> Result<Outcome> {
    let Ok(wanted) = fs::read_to_string(workspace.path(REQUIREMENTS)) else {
        return Ok(Outcome::Skipped(format!("there is no {REQUIREMENTS}")));
    };
    let stamp = workspace.stamp("python-requirements");
    let interpreter = workspace.path(ENVIRONMENT).join("bin/python");
    if interpreter.exists() && is_current(&stamp, &wanted) {
        return Ok(Outcome::Skipped("nothing changed".to_owned()));
    }
    run_quietly(workspace.program("python3").args(["-m", "venv", "--clear", ENVIRONMENT]))?;
    let mut pip = workspace.program(&interpreter.to_string_lossy());
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        REQUIREMENTS,
    ]);
    run_quietly(&mut pip)?;
    remember(&stamp, &wanted)?;
    Ok(Outcome::Done)
}
