//! `docs/security.md` names the test that covers each attack: tests that exist, and files that do.

use anyhow::{Context as _, Result, bail};

use crate::step::{Outcome, run_quietly};
use crate::workspace::Workspace;

const PAGE: &str = "docs/security.md";
/// The heading above the tables whose last column has the tests.
const SECTION: &str = "## Attacks";

/// Looks each of them up.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let page =
        std::fs::read_to_string(workspace.path(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let named = named(&page);
    if named.is_empty() {
        bail!("{PAGE} has no test in the last column of the tables below {SECTION:?}");
    }
    let tests = tests(workspace)?;
    // A path from the top, or a file of the tests of clients.
    let is_file = |path: &str| {
        workspace.path(path).exists() || workspace.path("services/gateway/tests/js").join(path).exists()
    };
    let is_there =
        |name: &str| if name.contains('/') { is_file(name) } else { tests.iter().any(|test| test == name) };
    let missing: Vec<String> = named
        .iter()
        .filter(|(_, name)| !is_there(name))
        .map(|(number, name)| format!("{PAGE}:{number}: there is no test {name}"))
        .collect();
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    Ok(Outcome::Done)
}

/// What stands between backticks in the last column, with its line.
fn named(page: &str) -> Vec<(usize, &str)> {
    let lines = page.lines().enumerate().skip_while(|(_, line)| !line.starts_with(SECTION));
    let cells = lines.filter_map(|(number, line)| {
        let row = line.strip_prefix('|')?.trim_end().strip_suffix('|')?;
        Some((number + 1, row.rsplit('|').next()?))
    });
    cells
        .flat_map(|(number, cell)| cell.split('`').skip(1).step_by(2).map(move |name| (number, name)))
        .collect()
}

/// The functions of all Rust files that are tests.
fn tests(workspace: &Workspace) -> Result<Vec<String>> {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"];
    let files = run_quietly(workspace.program("git").args(listing))?;
    let mut names = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        // One whose deletion is not committed yet has none.
        if let Ok(source) = std::fs::read_to_string(workspace.path(file)) {
            names.extend(tests_of(&source).map(str::to_owned));
        }
    }
    Ok(names)
}

/// The functions behind an attribute that makes them tests.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    source.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[") {
            is_test |= ["#[test]", "#[tokio::test", "#[actix_web::test]", "#[actix_rt::test]"]
                .iter()
                .any(|attribute| line.starts_with(attribute));
            return None;
        }
        let was_test = std::mem::take(&mut is_test);
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        was_test.then(|| function.split(['(', '<']).next().unwrap_or(function))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_below_the_heading_names_tests() {
        let page = "| a | `not_this` |\n## Attacks, and more\n\n| attack | test |\n|---|---|\n| `x` | `one`, `two` (`a/b.mjs`) |\nno `table`\n";
        assert_eq!(named(page), [(6, "one"), (6, "two"), (6, "a/b.mjs")]);
    }

    #[test]
    fn only_tests_are_tests() {
        let source = "#[test]\n#[ignore = \"slow\"]\nfn soak() {\n    fn helper() {}\n}\nfn other() {}\n#[tokio::test]\nasync fn later() {}\n";
        assert_eq!(tests_of(source).collect::<Vec<_>>(), ["soak", "later"]);
    }
}
