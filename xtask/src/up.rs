//! `cargo xtask up`: the topology of docker-compose.yml as processes of this machine, from the same configuration files.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::deploy;
use crate::step::command_step;
use crate::workspace::Workspace;

/// Builds both programs, and becomes `deploy/local/up.py`, which ends with Ctrl-C.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let programs =
        ["build", "--package", "signalbox-gateway", "--package", "signalbox-turn-credentials", "--bins"];
    command_step("programs", "correct what does not compile", &mut workspace.cargo(&programs))?;
    deploy::install_checkers(workspace)?;
    let mut python = deploy::python(workspace);
    let error = python.arg("deploy/local/up.py").exec();
    Err(error).context("cannot run deploy/local/up.py")
}
