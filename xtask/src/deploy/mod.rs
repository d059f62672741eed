//! What puts the project on machines: the chart's generated files, and the checks of chart, manifests, images and proxies.
//!
//! - [`mod@values`]: reads the commented `values.yaml` of the chart.
//! - [`schema`], [`page`]: the `values.schema.json` and the README that follow from it.
//! - [`settings`]: every setting of both programs has its place in those values.
//! - [`checks`]: `cargo xtask deploy`, which has the tools that the formats belong to judge everything.

mod checks;
mod page;
mod schema;
mod settings;
mod values;

use anyhow::{Context as _, Result, bail};

pub(crate) use self::checks::{install_checkers, python, run};
use self::values::Value;
use crate::step::Outcome;
use crate::workspace::Workspace;

const VALUES: &str = "helm/signalbox/values.yaml";
const SCHEMA: &str = "helm/signalbox/values.schema.json";
const PAGE: &str = "helm/signalbox/README.md";

/// Writes the chart's schema and README.
pub(crate) fn write(workspace: &Workspace) -> Result<Outcome> {
    for (file, text) in generated(workspace)? {
        std::fs::write(workspace.path(file), text).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(Outcome::Done)
}

/// Checks that the chart's schema and README are those that follow from its values, and that no setting is missing there.
pub(crate) fn check_generated(workspace: &Workspace) -> Result<Outcome> {
    for (file, text) in generated(workspace)? {
        if read(workspace, file)? != text {
            bail!("{file} is not what follows from {VALUES}");
        }
    }
    let mut problems = Vec::new();
    for program in &settings::PROGRAMS {
        let reference = read(workspace, program.reference)?;
        problems.extend(settings::problems(&values(workspace)?, program, &reference));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(Outcome::Done)
}

fn generated(workspace: &Workspace) -> Result<[(&'static str, String); 2]> {
    let values = values(workspace)?;
    Ok([(SCHEMA, schema::render(&values)?), (PAGE, page::render(&values))])
}

fn values(workspace: &Workspace) -> Result<Vec<Value>> {
    values::parse(&read(workspace, VALUES)?).with_context(|| format!("cannot read {VALUES}"))
}

fn read(workspace: &Workspace, file: &str) -> Result<String> {
    std::fs::read_to_string(workspace.path(file)).with_context(|| format!("cannot read {file}"))
}
