//! `cargo xtask check`: every check that does not run the code.

use anyhow::Result;

use crate::step::{command_step, step};
use crate::workspace::Workspace;
use crate::{arrows, bench, deny, dependencies, deploy, floors, fuzz, named_tests, paths, policies, project};

/// A server that the load test compares with.
const PEER_MANIFEST: &str = "loadtest/peers/socketioxide/Cargo.toml";
/// A client of the tests.
const CLIENT_MANIFEST: &str = "services/gateway/tests/rust-client/Cargo.toml";

/// All checks.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    quick(workspace)?;
    let remedy = "correct the documentation comment it names";
    let mut doc =
        workspace.cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    command_step("doc", remedy, doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    bench::check_codecs(workspace)?;
    bench::check_fanout(workspace)?;
    deploy::run(workspace, None)?;
    deny::install(workspace)?;
    deny::policies(workspace)?;
    deny::advisories(workspace)
}

/// The checks that need nothing but the toolchain.
pub(crate) fn quick(workspace: &Workspace) -> Result<()> {
    command_step("fmt", "cargo fmt", &mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    // `--all` does not reach these: each is a workspace of its own.
    for manifest in [fuzz::MANIFEST, PEER_MANIFEST, CLIENT_MANIFEST] {
        if workspace.path(manifest).exists() {
            command_step(
                &format!("fmt of {manifest}"),
                &format!("cargo fmt --manifest-path {manifest}"),
                &mut workspace.cargo(&["fmt", "--manifest-path", manifest, "--check"]),
            )?;
        }
    }
    step("machine paths", "use a relative path, or a temporary directory", || paths::check(workspace))?;
    let remedy = "remove the dependency, or explain why it is needed in xtask/src/arrows.rs";
    step("dependencies between crates", remedy, || arrows::check(workspace))?;
    let remedy = "import from above, or explain another floor in xtask/src/floors/rules.rs; cargo xtask floors shows them all";
    step("module floors", remedy, || floors::check(workspace))?;
    step("docs/dependencies.md", "add or remove the line", || dependencies::check(workspace))?;
    let remedy = "add the lines that other crates have, and the page's line to docs/SUMMARY.md";
    step("new crates and pages", remedy, || project::check(workspace))?;
    let remedy = "name a test that exists in the last column, or the file that has it";
    step("tests that docs/security.md names", remedy, || named_tests::check(workspace))?;
    step("generated files of the chart", "cargo xtask docs", || deploy::check_generated(workspace))?;
    let remedy = "choose another dependency, or change deny.toml and say why";
    step("licences, bans, sources", remedy, || policies::check(workspace))?;
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    command_step(
        "clippy",
        "correct what it names; cargo clippy --fix corrects some",
        &mut workspace.cargo(&clippy),
    )
}
