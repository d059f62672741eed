//! Builds the programs, and counts with valgrind's callgrind.

use std::collections::{BTreeMap, BTreeSet};
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
    /// The cases of which it is also told what measuring takes.
    pub(super) measured: &'static [&'static str],
}

/// The functions that do nothing but measure, by a part of their names, and what they do. They are never inlined, so that a profile has
/// them. Beside them a delivery adds to some plain numbers.
const MEASURES: [(&str, &str); 3] = [
    ("metrics", "signalbox_telemetry::histogram::Histogram::observe"),
    ("metrics", "signalbox_node::shard::tables::outboxes::Outboxes::flush_counters"),
    ("traces, which are off", "signalbox_telemetry::traces::span::Span::begin"),
];

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
        let profile = profile(workspace, &program, case).with_context(|| case.to_owned())?;
        let all = summary(&profile).context("callgrind's profile has no summary")?;
        counts.insert(case.to_owned(), all * 1000 / operations);
        if !suite.measured.contains(&case) {
            continue;
        }
        for (what, function) in MEASURES {
            let taken = inclusive(&profile, function)
                .with_context(|| format!("{case}: {function} is not in callgrind's profile"))?;
            *counts.entry(format!("{case}: of it {what}")).or_default() += taken * 1000 / operations;
        }
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

/// What callgrind writes of a case.
fn profile(workspace: &Workspace, program: &Path, case: &str) -> Result<String> {
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
    fs::read_to_string(directory.join(BETWEEN_BOUNDARIES))
        .context("nothing was counted: the program did not pass its boundary twice")
}

/// All instructions of a profile.
fn summary(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("summary: "))?.trim().parse().ok()
}

/// The instructions of a function and of all that it calls, by a part of its name; `None` where nothing calls it.
fn inclusive(profile: &str, function: &str) -> Option<u64> {
    // A name is written once, behind its number. Calls name what they call, and the line behind them says what that took.
    let (mut known, mut is_called, mut taken) = (BTreeSet::new(), false, None);
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        let Some((key, name)) = line.split_once('=') else { continue };
        if matches!(key, "fn" | "cfn") {
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            if name.replace(['<', '>'], "").contains(function) {
                known.insert(number);
            }
            is_called = key == "cfn" && known.contains(number);
        } else if key == "calls" && is_called {
            let cost = lines.next()?.rsplit(' ').next()?.parse::<u64>().ok()?;
            taken = Some(taken.unwrap_or(0) + cost);
            is_called = false;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_takes_is_summed_up_over_its_callers() {
        let profile = "summary: 1000\n\nfn=(1) main\n16 400\ncfn=(2) <a::Histogram>::observe\ncalls=3 50\n16 60\n+2 7\n\
                       cfn=(3) other\ncalls=1 9\n16 500\nfn=(2)\n50 70\nfn=(3)\n9 2\ncfn=(2)\ncalls=1 50\n* 20\n";
        assert_eq!(inclusive(profile, "a::Histogram::observe"), Some(80));
        assert_eq!(inclusive(profile, "main"), None);
        assert_eq!(inclusive(profile, "nobody"), None);
    }

    #[test]
    fn a_profile_is_summed_up() {
        let profile =
            "# callgrind format\nversion: 1\npart: 2\n\nevents: Ir\nsummary: 600018\n\nfn=(1) main\n";
        assert_eq!(summary(profile), Some(600_018));
        assert_eq!(summary("events: Ir\n"), None);
    }
}
