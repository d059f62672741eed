//! `docs/dependencies.md` says why each direct dependency is there: all of them, and none that is gone.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use crate::step::Outcome;
use crate::workspace::Workspace;

const PAGE: &str = "docs/dependencies.md";

/// Compares the page with the workspace's Cargo.toml.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let read = |file: &str| {
        std::fs::read_to_string(workspace.path(file)).with_context(|| format!("cannot read {file}"))
    };
    let differences = differences(&read("Cargo.toml")?, &read(PAGE)?)?;
    if !differences.is_empty() {
        bail!("{}", differences.join("\n"));
    }
    Ok(Outcome::Done)
}

fn differences(manifest: &str, page: &str) -> Result<Vec<String>> {
    let declared = declared(manifest)?;
    let explained = explained(page);
    let missing =
        declared.difference(&explained).map(|name| format!("{PAGE} does not say why {name} is there"));
    let gone =
        explained.difference(&declared).map(|name| format!("{PAGE} has {name}, which nobody depends on"));
    Ok(missing.chain(gone).collect())
}

/// What `[workspace.dependencies]` declares, our own crates aside.
fn declared(manifest: &str) -> Result<BTreeSet<String>> {
    let manifest: Table = manifest.parse().context("Cargo.toml is not valid TOML")?;
    let dependencies = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let dependencies =
        dependencies.and_then(Value::as_table).context("Cargo.toml has no workspace.dependencies")?;
    let is_ours = |dependency: &Value| dependency.get("path").is_some();
    Ok(dependencies.iter().filter(|(_, value)| !is_ours(value)).map(|(name, _)| name.clone()).collect())
}

/// What the lines of the page begin with: "- `name`: why".
fn explained(page: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.strip_prefix("- `")?.split_once("`: ")?.0.to_owned());
    page.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_stale_line_are_both_found() {
        let manifest =
            "[workspace.dependencies]\nown = { path = \"crates/own\" }\nbytes = \"1\"\nslab = \"0.4\"\n";
        let page = "# Dependencies\n\n- `bytes`: shared buffers\n- `rand`: ids\n";
        let expected = [
            "docs/dependencies.md does not say why slab is there",
            "docs/dependencies.md has rand, which nobody depends on",
        ];
        assert_eq!(differences(manifest, page).unwrap(), expected);
        let complete = "- `bytes`: shared buffers\n- `slab`: timers\n";
        assert!(differences(manifest, complete).unwrap().is_empty());
    }
}
