//! Builds the programs, and counts with valgrind's callgrind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::step::{run_quietly, succeeds};
use crate::workspace::Workspace;

/// A program that lists its cases as lines of operations, tab and name, and runs the case that its argument names.
pub(super) struct Suite {
    /// Its table in the record.
    pub(super) name: &'static str,
    /// What cargo builds for it.
    pub(super) target: &'static [&'static str],
}

/// Instructions for 1,000 operations, by case.
pub(super) type Counts = BTreeMap<String, u64>;

/// The program calls this function before what is to be counted, and after it.
const BOUNDARY: &str = "--dump-before=*::boundary";
/// Where callgrind writes the second of its files, which is from the first boundary to the second.
const BETWEEN_BOUNDARIES: &str = "out.2";
/// A thread cache of the allocator that is never full. Otherwise a count would depend on the layout of the heap, which varies
/// when several threads allocate.
const MALLOC: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=60000");

/// The versions that the counts depend on beside our code.
pub(super) fn tools(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    if !succeeds(workspace.program("valgrind").arg("--version")) {
        bail!("valgrind is missing: cargo xtask prepare installs it");
    }
    let mut tools = BTreeMap::new();
    for (name, program, argument) in [
        ("compiler", "rustc", "--version"),
        ("libc", "getconf", "GNU_LIBC_VERSION"),
        ("valgrind", "valgrind", "--version"),
        ("machine", "uname", "-m"),
    ] {
        // Some systems lack one of these programs; its version is then empty.
        let version = run_quietly(workspace.program(program).arg(argument)).unwrap_or_default();
        tools.insert(name.to_owned(), version.trim().to_owned());
    }
    Ok(tools)
}

/// Builds a suite and counts each of its cases.
pub(super) fn count(workspace: &Workspace, suite: &Suite) -> Result<Counts> {
    let program = build(workspace, suite)?;
    let listed = run_quietly(&mut workspace.program(&program.to_string_lossy()))?;
    let mut counts = Counts::new();
    for line in listed.lines() {
        let (operations, case) = line.split_once('\t').context("a case is operations, tab, name")?;
        let operations: u64 = operations.parse().with_context(|| format!("not a number: {operations}"))?;
        let counted = count_case(workspace, &program, case).with_context(|| case.to_owned())?;
        counts.insert(case.to_owned(), counted * 1000 / operations);
    }
    Ok(counts)
}

/// The program, optimized as a release and with the names of its functions.
fn build(workspace: &Workspace, suite: &Suite) -> Result<PathBuf> {
    let arguments = ["build", "--quiet", "--profile", "bench", "--message-format=json-render-diagnostics"];
    let messages = run_quietly(workspace.cargo(&arguments).args(suite.target))?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let program = artifacts.filter_map(|artifact| artifact.executable).next_back();
    program.with_context(|| format!("cargo built no program for {}", suite.name))
}

/// The part of cargo's message about something it built that is needed here.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

fn count_case(workspace: &Workspace, program: &Path, case: &str) -> Result<u64> {
    let directory = workspace.stamp("callgrind");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;

    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(directory.join("out"));
    let mut valgrind = workspace.program("valgrind");
    // The caller's environment must not change what the program does.
    valgrind.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env(MALLOC.0, MALLOC.1);
    valgrind.args(["--tool=callgrind", BOUNDARY]).arg(out_file).arg(program).arg(case);
    run_quietly(&mut valgrind)?;
    let profile = fs::read_to_string(directory.join(BETWEEN_BOUNDARIES))
        .context("nothing was counted: the program did not pass its boundary twice")?;
    summary(&profile).context("callgrind's profile has no summary")
}

/// All instructions of a profile.
fn summary(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("summary: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_summed_up() {
        let profile =
            "# callgrind format\nversion: 1\npart: 2\n\nevents: Ir\nsummary: 600018\n\nfn=(1) main\n";
        assert_eq!(summary(profile), Some(600_018));
        assert_eq!(summary("events: Ir\n"), None);
    }
}
