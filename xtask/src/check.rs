//! `cargo xtask check`: everything that can be said about the code without running it.

use anyhow::Result;

use crate::step::{command_step, step};
use crate::workspace::Workspace;
use crate::{arrows, deny, dependencies, fuzz, paths};

/// All checks.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    quick(workspace)?;
    let remedy = "mend the documentation comment it names";
    let mut doc =
        workspace.cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    command_step("doc", remedy, doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    deny::install(workspace)?;
    deny::policies(workspace)?;
    deny::advisories(workspace)
}

/// The checks that need nothing but the toolchain.
pub(crate) fn quick(workspace: &Workspace) -> Result<()> {
    command_step("fmt", "cargo fmt", &mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    // The fuzz targets are a workspace of their own, which the command above does not see.
    if workspace.path(fuzz::MANIFEST).exists() {
        let fmt = ["fmt", "--manifest-path", fuzz::MANIFEST, "--check"];
        command_step(
            "fmt of the fuzz targets",
            "cargo fmt --manifest-path crates/fuzz/Cargo.toml",
            &mut workspace.cargo(&fmt),
        )?;
    }
    step("machine paths", "use a relative path, or a temporary directory", || paths::check(workspace))?;
    let remedy = "remove the dependency, or argue for the arrow in xtask/src/arrows.rs";
    step("dependency arrows", remedy, || arrows::check(workspace))?;
    step("docs/dependencies.md", "add or remove the line", || dependencies::check(workspace))?;
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    command_step("clippy", "mend what it names; cargo clippy --fix mends some", &mut workspace.cargo(&clippy))
}
