//! `cargo xtask docs`: the pages in docs/ that follow from the code, and what follows from the chart's values.

use anyhow::{Context as _, Result};

use crate::deploy;
use crate::step::{Outcome, command_step, run_quietly, step};
use crate::workspace::Workspace;

/// The pages, and the programs that print them.
const PAGES: [(&str, &[&str]); 3] = [
    ("docs/configuration.md", &["--package", "signalbox-gateway", "--", "--print-reference"]),
    (
        "docs/turn-configuration.md",
        &["--package", "signalbox-turn-credentials", "--bin", "signalbox-turn", "--", "--print-reference"],
    ),
    ("docs/metrics.md", &["--package", "signalbox-telemetry", "--example", "metrics-page"]),
];

/// Writes all pages.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step("the chart's schema and README", "correct helm/signalbox/values.yaml", || deploy::write(workspace))?;
    let dashboards = ["deploy/grafana/build.py"];
    let mut python = workspace.program("python3");
    command_step("deploy/grafana/dashboards", "install Python 3", python.args(dashboards))?;
    PAGES.iter().try_for_each(|(page, program)| {
        step(page, "correct what does not compile", || {
            let text = run_quietly(workspace.cargo(&["run", "--quiet"]).args(*program))?;
            std::fs::write(workspace.path(page), text).with_context(|| format!("cannot write {page}"))?;
            Ok(Outcome::Done)
        })
    })
}
