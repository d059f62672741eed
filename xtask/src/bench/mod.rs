//! `cargo xtask bench`: the instructions that codecs and the fan-out take, counted by callgrind and compared with the record.
//! Unlike times, counts do not depend on how busy the machine is. A change of more than 2 % fails until it is accepted.
//!
//! - [`callgrind`]: builds the programs and counts.
//! - [`record`]: the file with the counts, and what has changed since.

mod callgrind;
mod record;

use anyhow::{Context as _, Result, bail};

use self::{
    callgrind::Suite,
    record::{Record, Verdict},
};
use crate::step::{Outcome, say, step};
use crate::workspace::Workspace;

const RECORD: &str = "loadtest/benches/counts.toml";
const REMEDY: &str = "make it as cheap as it was, or accept the change: cargo xtask bench --accept";

/// Builds in seconds.
const CODECS: Suite =
    Suite { name: "codecs", target: &["--package", "signalbox-benches", "--bin", "codecs"], measured: &[] };
/// Needs the whole node, optimized.
const FANOUT: Suite = Suite {
    name: "fanout",
    target: &["--package", "signalbox-node", "--bench", "fanout"],
    measured: &["fanout: deliver to 1 other member"],
};

/// Counts all suites and compares them with the record; with `accept`, writes the record instead.
pub(crate) fn run(workspace: &Workspace, accept: bool) -> Result<()> {
    if !accept {
        return compare(workspace, &[CODECS, FANOUT], true);
    }
    step("count instructions", "see what the program says", || {
        let mut record = Record::new(callgrind::tools(workspace)?);
        for suite in [CODECS, FANOUT] {
            let counted = callgrind::count(workspace, &suite)?;
            // Nobody can accept these.
            let beyond = record::beyond_bounds(&counted);
            if !beyond.is_empty() {
                bail!("{}", beyond.join("\n"));
            }
            record.add(suite.name, counted);
        }
        std::fs::write(workspace.path(RECORD), record.render()?)
            .with_context(|| format!("cannot write {RECORD}"))?;
        Ok(Outcome::Done)
    })
}

/// Compares the codecs, which is quick enough for every test run.
pub(crate) fn check_codecs(workspace: &Workspace) -> Result<()> {
    compare(workspace, &[CODECS], false)
}

/// Compares the fan-out, which takes minutes to build.
pub(crate) fn check_fanout(workspace: &Workspace) -> Result<()> {
    compare(workspace, &[FANOUT], false)
}

fn compare(workspace: &Workspace, suites: &[Suite], show_all: bool) -> Result<()> {
    let names: Vec<&str> = suites.iter().map(|suite| suite.name).collect();
    step(&format!("instructions of {}", names.join(" and ")), REMEDY, || {
        let tools = callgrind::tools(workspace)?;
        let text = std::fs::read_to_string(workspace.path(RECORD))
            .with_context(|| format!("cannot read {RECORD}"))?;
        let record = Record::parse(&text).with_context(|| format!("cannot read {RECORD}"))?;
        let mut changes = Vec::new();
        for suite in suites {
            let counted = callgrind::count(workspace, suite)?;
            changes.extend(record::beyond_bounds(&counted));
            for verdict in record.judge(suite.name, &counted) {
                match verdict {
                    Verdict::Same(line) if show_all => say(&line),
                    Verdict::Same(_) => {}
                    Verdict::Changed(line) => changes.push(line),
                }
            }
        }
        if changes.is_empty() {
            return Ok(Outcome::Done);
        }
        changes.extend(record.other_tools(&tools));
        bail!("instructions for 1,000 operations:\n{}", changes.join("\n"));
    })
}
