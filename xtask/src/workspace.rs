//! The checkout, its packages, and the tools run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::step::run_quietly;

/// Variables that `cargo run` sets for this program. Build scripts of other packages watch some of them, and would run again
/// for no reason if they were passed on.
const OF_THIS_PROGRAM: [&str; 6] =
    ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"];

/// The checkout this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The parent of this crate's directory.
    pub(crate) fn locate() -> Result<Self> {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
        let root = Path::new(&here).parent().context("this crate must lie in a workspace")?;
        Ok(Self { root: root.to_owned() })
    }

    /// A path in the checkout.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The checkout itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file in which xtask keeps something between runs, such as what was installed last.
    pub(crate) fn stamp(&self, name: &str) -> PathBuf {
        self.path("target/xtask").join(name)
    }

    /// A program to be run in the root of the checkout.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.root);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if OF_THIS_PROGRAM.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&variable);
            }
        }
        command
    }

    /// cargo with these arguments.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.program("cargo");
        command.args(arguments);
        command
    }

    /// The packages of the workspace and everything they need on this platform.
    pub(crate) fn graph(&self) -> Result<Graph> {
        let version = run_quietly(self.program("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not say which platform it runs on")?;
        let arguments = ["metadata", "--format-version", "1", "--filter-platform", host];
        let json = run_quietly(&mut self.cargo(&arguments))?;
        Graph::from_metadata(&json)
    }
}

/// The packages and their dependencies.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// By cargo's package id.
    pub(crate) packages: BTreeMap<String, Package>,
}

/// One package of the graph.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Whether it belongs to the workspace.
    pub(crate) is_member: bool,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One edge of the graph.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// Cargo's id of the package it points to.
    pub(crate) id: String,
    /// Whether only tests, examples and benches need it.
    pub(crate) is_dev_only: bool,
}

impl Graph {
    fn from_metadata(json: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(json).context("cannot read cargo's metadata")?;
        let mut graph = Self::default();
        for package in metadata.packages {
            let is_member = metadata.workspace_members.contains(&package.id);
            let package_here = Package { name: package.name, is_member, dependencies: Vec::new() };
            graph.packages.insert(package.id, package_here);
        }
        for node in metadata.resolve.nodes {
            let Some(package) = graph.packages.get_mut(&node.id) else { continue };
            package.dependencies.extend(node.deps.into_iter().map(|dependency| Dependency {
                id: dependency.pkg,
                is_dev_only: dependency.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev")),
            }));
        }
        Ok(graph)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}
