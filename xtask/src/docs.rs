//! `cargo xtask docs`: the pages in docs/ that follow from the code, and what follows from the chart's values.

use anyhow::{Context as _, Result};

use crate::deploy;
use crate::step::{Outcome, run_quietly, step};
use crate::workspace::Workspace;

/// The page, and the flag of the gateway that prints it.
const CONFIGURATION: (&str, &str) = ("docs/configuration.md", "--print-reference");

/// Writes all pages.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step("the chart's schema and README", "correct helm/signalbox/values.yaml", || deploy::write(workspace))?;
    let (page, flag) = CONFIGURATION;
    step(page, "correct what does not compile", || {
        let gateway = ["run", "--quiet", "--package", "signalbox-gateway", "--", flag];
        let text = run_quietly(&mut workspace.cargo(&gateway))?;
        std::fs::write(workspace.path(page), text).with_context(|| format!("cannot write {page}"))?;
        Ok(Outcome::Done)
    })
}
