//! `cargo xtask docs`: the pages in docs/ that follow from the code, and what follows from the chart's values.

use anyhow::{Context as _, Result};

use crate::deploy;
use crate::step::{Outcome, run_quietly, step};
use crate::workspace::Workspace;

/// The pages, each with the program that prints it.
const REFERENCES: [(&str, &str, &str); 2] = [
    ("docs/configuration.md", "signalbox-gateway", "signalbox-gateway"),
    ("docs/turn-configuration.md", "signalbox-turn-credentials", "signalbox-turn"),
];

/// Writes all pages.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step("the chart's schema and README", "correct helm/signalbox/values.yaml", || deploy::write(workspace))?;
    for (page, package, program) in REFERENCES {
        step(page, "correct what does not compile", || {
            let print = ["run", "--quiet", "--package", package, "--bin", program, "--", "--print-reference"];
            let text = run_quietly(&mut workspace.cargo(&print))?;
            std::fs::write(workspace.path(page), text).with_context(|| format!("cannot write {page}"))?;
            Ok(Outcome::Done)
        })?;
    }
    Ok(())
}
