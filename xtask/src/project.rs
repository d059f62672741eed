//! What each new crate and each new page of the documentation needs, and is easily forgotten.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::step::Outcome;
use crate::workspace::Workspace;

/// Where the published crates are.
const CRATES: [&str; 2] = ["crates", "services"];
/// A workspace of its own, which is not published.
const NOT_PUBLISHED: &str = "fuzz";
/// What a crate has from the workspace, so that crates cannot differ.
const METADATA: [&str; 8] =
    ["version", "edition", "license", "repository", "homepage", "readme", "keywords", "categories"];
/// The table of contents of the documentation's site.
const CONTENTS: &str = "docs/SUMMARY.md";

/// Checks the manifests, and that no page is left out of the table of contents.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut problems = Vec::new();
    for directory in CRATES {
        for name in entries(&workspace.path(directory))?.iter().filter(|name| *name != NOT_PUBLISHED) {
            let file = format!("{directory}/{name}/Cargo.toml");
            let Ok(manifest) = fs::read_to_string(workspace.path(&file)) else { continue };
            let missing = missing_metadata(&manifest);
            problems.extend(missing.iter().map(|key| format!("{file} lacks {key}.workspace = true")));
        }
    }
    let contents =
        fs::read_to_string(workspace.path(CONTENTS)).with_context(|| format!("cannot read {CONTENTS}"))?;
    let pages = entries(&workspace.path("docs"))?;
    problems
        .extend(left_out(&contents, &pages).iter().map(|page| format!("{CONTENTS} does not name {page}")));
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(Outcome::Done)
}

fn entries(directory: &Path) -> Result<Vec<String>> {
    let reason = || format!("cannot list {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(reason)? {
        names.push(entry.with_context(reason)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn missing_metadata(manifest: &str) -> Vec<&'static str> {
    let has = |key: &str| manifest.lines().any(|line| line == format!("{key}.workspace = true"));
    METADATA.into_iter().filter(|key| !has(key)).collect()
}

fn left_out<'a>(contents: &str, pages: &'a [String]) -> Vec<&'a str> {
    let is_page = |page: &&String| page.ends_with(".md") && !CONTENTS.ends_with(&format!("/{page}"));
    pages
        .iter()
        .filter(is_page)
        .filter(|page| !contents.contains(&format!("({page})")))
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_lacks_is_named() {
        let whole = METADATA.map(|key| format!("{key}.workspace = true\n")).concat();
        assert!(missing_metadata(&whole).is_empty());
        let without = whole.replace("repository.workspace", "#repository.workspace");
        assert_eq!(missing_metadata(&without), ["repository"]);
    }

    #[test]
    fn a_page_that_is_left_out_is_named() {
        let pages = ["SUMMARY.md", "a.md", "b.md", "images"].map(str::to_owned);
        assert_eq!(left_out("- [A](a.md)\n", &pages), ["b.md"]);
    }
}
