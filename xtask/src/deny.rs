//! cargo-deny: licences, bans and sources of what we depend on, and the advisories about it.

use std::io::Read as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::step::{Outcome, run, run_quietly, step, succeeds};
use crate::workspace::Workspace;

/// How long fetching the advisory database may take.
const ADVISORIES_DEADLINE: Duration = Duration::from_secs(120);

/// Whether cargo-deny is installed.
fn is_installed(workspace: &Workspace) -> bool {
    succeeds(&mut workspace.cargo(&["deny", "--version"]))
}

/// Installs cargo-deny where it is missing; that takes minutes.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    step("cargo-deny", "cargo install --locked cargo-deny", || {
        if is_installed(workspace) {
            return Ok(Outcome::Skipped("it is installed".to_owned()));
        }
        run(&mut workspace.cargo(&["install", "--quiet", "--locked", "cargo-deny"]))?;
        Ok(Outcome::Done)
    })
}

/// Licences, bans and sources again, so that [`crate::policies`] and cargo-deny cannot disagree unnoticed.
pub(crate) fn policies(workspace: &Workspace) -> Result<()> {
    let remedy =
        "choose another dependency, or change deny.toml and say why; cargo deny check shows the details";
    step("cargo deny check", remedy, || {
        // Warnings, of which duplicate versions make many, are left out.
        let policies = ["deny", "--log-level", "error", "check", "licenses", "bans", "sources"];
        run_quietly(&mut workspace.cargo(&policies))?;
        Ok(Outcome::Done)
    })
}

/// Known vulnerabilities. The database is a Git repository that cannot be reached from everywhere.
pub(crate) fn advisories(workspace: &Workspace) -> Result<()> {
    step("advisories", "cargo update -p CRATE, or another crate", || {
        let mut child = workspace
            .cargo(&["deny", "--log-level", "error", "check", "advisories"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run cargo deny")?;
        let mut stderr = child.stderr.take().context("cargo deny has no stderr")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut report = String::new();
            // What cannot be read cannot be reported; the exit status decides.
            let _ = stderr.read_to_string(&mut report);
            // The receiver is gone when the deadline has passed.
            let _ = sender.send(report);
        });
        let Ok(report) = receiver.recv_timeout(ADVISORIES_DEADLINE) else {
            child.kill()?;
            child.wait()?;
            return Ok(Outcome::Skipped("the advisory database did not arrive in time".to_owned()));
        };
        let status = child.wait()?;
        if status.success() {
            return Ok(Outcome::Done);
        }
        if is_unreachable(&report) {
            return Ok(Outcome::Skipped("the advisory database cannot be reached".to_owned()));
        }
        bail!("{}", report.trim());
    })
}

fn is_unreachable(report: &str) -> bool {
    report.contains("failed to fetch advisory database")
}
