//! `cargo xtask docs`: the pages in docs/ that follow from the code, and what follows from the chart's values.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::deploy;
use crate::step::{Outcome, command_step, run_quietly, step};
use crate::workspace::Workspace;

/// The pages, and the programs that print them, with their argument.
const PAGES: [(&str, &str, Option<&str>); 3] = [
    ("docs/configuration.md", "signalbox-gateway", Some("--print-reference")),
    ("docs/turn-configuration.md", "signalbox-turn", Some("--print-reference")),
    ("docs/metrics.md", "metrics-page", None),
];

/// The part of cargo's message about something it built that is needed here.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// Writes all pages.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step("the chart's schema and README", "correct helm/signalbox/values.yaml", || deploy::write(workspace))?;
    let dashboards = ["deploy/grafana/build.py"];
    let mut python = workspace.program("python3");
    command_step("deploy/grafana/dashboards", "install Python 3", python.args(dashboards))?;
    let programs = build(workspace)?;
    PAGES.iter().try_for_each(|(page, name, argument)| {
        step(page, "see what the program says", || {
            let program =
                programs.iter().find(|program| program.file_stem().is_some_and(|stem| stem == *name));
            let program = program.with_context(|| format!("cargo built no {name}"))?;
            let mut print = workspace.program(&program.to_string_lossy());
            let text = run_quietly(print.args(argument))?;
            std::fs::write(workspace.path(page), text).with_context(|| format!("cannot write {page}"))?;
            Ok(Outcome::Done)
        })
    })
}

/// Builds the programs all at once, as the tests build them: for one package alone cargo would choose other features, and build most of the
/// libraries again.
fn build(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let what = ["--workspace", "--bins", "--example", "metrics-page"];
    let arguments = ["build", "--quiet", "--message-format=json-render-diagnostics"];
    let mut programs = Vec::new();
    step("the programs that print pages", "correct what does not compile", || {
        let messages = run_quietly(workspace.cargo(&arguments).args(what))?;
        let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
        programs = artifacts.filter_map(|artifact| artifact.executable).collect();
        Ok(Outcome::Done)
    })?;
    Ok(programs)
}
