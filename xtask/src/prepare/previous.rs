//! The gateway of the previous format, which the tests put into one cluster with the present one.

use std::fs;

use anyhow::{Context as _, Result, bail};

use super::{is_current, remember};
use crate::step::{Outcome, run, run_quietly, succeeds};
use crate::workspace::Workspace;

/// What to do when this part fails.
pub(super) const REMEDY: &str = "see what is said above; remove target/previous and try again";

/// The last commit whose nodes write the previous format. What nodes say to each other and what stands in Redis has
/// one format up to here, so any later commit would do only as long as it still writes that one.
const COMMIT: &str = "9cf87e25f5c1dd3ddf9ea68e245e3fe283f71bea";

const DIRECTORY: &str = "target/previous";
const PROGRAM: &str = "signalbox-gateway";

/// Builds the program from the history, unless it is there.
pub(super) fn build(workspace: &Workspace) -> Result<Outcome> {
    let directory = workspace.path(DIRECTORY);
    let program = directory.join(PROGRAM);
    let stamp = workspace.stamp("previous");
    if program.exists() && is_current(&stamp, COMMIT) {
        return Ok(Outcome::Skipped("it is built".to_owned()));
    }
    if !succeeds(workspace.program("git").args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")])) {
        bail!("the history lacks commit {COMMIT}: fetch the full history (git fetch --unshallow)");
    }

    // A build that was interrupted goes on where it was: its source is of one commit, which the name of the directory says.
    let source = directory.join(COMMIT);
    let archive = directory.join("source.tar");
    fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
    run_quietly(workspace.program("git").args(["archive", "--output"]).arg(&archive).arg(COMMIT))?;
    run_quietly(workspace.program("tar").arg("-xf").arg(&archive).arg("-C").arg(&source))?;
    let built = source.join("target");
    let mut cargo = workspace.cargo(&["build", "--quiet", "--locked", "--package", PROGRAM, "--target-dir"]);
    run(cargo.arg(&built).current_dir(&source))?;

    fs::copy(built.join("debug").join(PROGRAM), &program)
        .with_context(|| format!("cannot copy {PROGRAM} to {DIRECTORY}"))?;
    // More than a gigabyte that nobody needs any more.
    fs::remove_dir_all(&source).with_context(|| format!("cannot remove {}", source.display()))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    remember(&stamp, COMMIT)?;
    Ok(Outcome::Done)
}
