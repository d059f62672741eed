//! The modules inside a crate: which may import which. `cargo xtask check` holds this, `cargo xtask floors` shows it.
//!
//! An import is a `use` item or a path in the code. A call of a method is none: what a type does belongs to where it is defined.
//!
//! - [`source`]: reads a crate's modules.
//! - [`graph`]: their imports, and circles among them.
//! - [`rules`]: the floors of a crate, and what a module must not name.

mod graph;
mod rules;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use anyhow::{Context as _, Result, bail};

use self::graph::Graph;
use self::rules::{CIRCLES_FOR_NOW, NODE, Rules};
use crate::step::Outcome;
use crate::workspace::Workspace;

/// Where the crates are that must have no circle.
const CRATES: &str = "crates";

/// Checks every crate.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut found = Vec::new();
    for directory in crates(workspace)? {
        let graph = Graph::new(source::read_crate(workspace.root(), &directory)?);
        let is_node = directory == NODE.directory;
        let circles = graph.circles(|module| is_node && NODE.is_file_by_file(module));
        let is_known = CIRCLES_FOR_NOW.contains(&directory.as_str());
        found.extend(unexpected_circles(&directory, is_known, circles));
        if is_node {
            found.extend(NODE.violations(&graph));
        }
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(Outcome::Done)
}

/// The circles of a crate that is not on the list of known ones. A crate on the list must have one, or be taken off it.
fn unexpected_circles(directory: &str, is_known: bool, circles: Vec<String>) -> Vec<String> {
    match (is_known, circles.is_empty()) {
        (true, true) => vec![format!(
            "{directory} has no circle any more: take it off CIRCLES_FOR_NOW in xtask/src/floors/rules.rs"
        )],
        (true, false) => Vec::new(),
        (false, _) => circles.into_iter().map(|circle| format!("{directory}: {circle}")).collect(),
    }
}

/// The directories of the libraries.
fn crates(workspace: &Workspace) -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(workspace.path(CRATES)).with_context(|| format!("cannot read {CRATES}"))?;
    let mut found = Vec::new();
    for entry in entries {
        let directory = format!("{CRATES}/{}", entry?.file_name().to_string_lossy());
        if workspace.path(&directory).join("src/lib.rs").exists() {
            found.push(directory);
        }
    }
    found.sort();
    Ok(found)
}

/// `cargo xtask floors`: the modules of the node's crate by floor, and what each imports.
pub(crate) fn print(workspace: &Workspace) -> Result<()> {
    let graph = Graph::new(source::read_crate(workspace.root(), NODE.directory)?);
    std::io::stdout().write_all(render(&NODE, &graph).as_bytes()).context("cannot write to stdout")
}

/// The page: floors from the top down, with the modules inside a module below their list.
fn render(rules: &Rules, graph: &Graph) -> String {
    let mut page = format!("{}: a module imports only from floors above its own\n", rules.directory);
    let top = modules_with_imports(graph, &[]);
    for (number, floor) in rules.floors.iter().enumerate() {
        page += &format!("\n{}. {}\n", number + 1, floor.join(", "));
        for module in *floor {
            match top.get(*module) {
                Some(imports) => page += &line(module, imports),
                None => page += &format!("   {module}: not there\n"),
            }
        }
    }
    let unplaced: Vec<_> = top.iter().filter(|(module, _)| rules.floor(module).is_none()).collect();
    if !unplaced.is_empty() {
        page += "\non no floor\n";
        page.extend(unplaced.into_iter().map(|(module, imports)| line(module, imports)));
    }
    for ban in rules.bans {
        page += &format!("\ninside {}\n", ban.module);
        let path: Vec<String> = ban.module.split("::").map(str::to_owned).collect();
        let inside = modules_with_imports(graph, &path);
        page.extend(inside.iter().map(|(module, imports)| line(module, imports)));
    }
    page
}

fn line(module: &str, imports: &BTreeSet<String>) -> String {
    let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
    format!("   {module}: {}\n", if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") })
}

/// The modules inside this one, each with those of its neighbours that it imports; `..` is the parent's own code.
fn modules_with_imports(graph: &Graph, parent: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let children = graph.modules.iter().find(|module| module.path == parent).map(|module| &module.children);
    let mut found: BTreeMap<String, BTreeSet<String>> =
        children.into_iter().flatten().map(|child| (child.clone(), BTreeSet::new())).collect();
    for (from, to) in graph.level(parent) {
        if let Some(imports) = from.and_then(|from| found.get_mut(&from)) {
            imports.extend(to.into_keys().map(|to| to.unwrap_or_else(|| "..".to_owned())));
        }
    }
    found
}
