//! The command line.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::compare::Compare;
use crate::measure::{Report, markdown, svg};
use crate::run::{Output, Worker, coordinator};
use crate::scenario::Scenario;

/// Load tests for servers that speak Socket.IO or PeerServer.
///
/// Messages are due at fixed times, whatever the server does, and latency counts from then. Everything that must be
/// heard is known, so loss and duplicates are exact. With --pid the processor time and memory of the server are read
/// from /proc, and its cost per delivery and per connection are told. The tables go to stdout, as Markdown.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Scenario(Box<Scenario>),
    /// Compare the gateway with other servers: the same scenarios in turns, one table.
    Compare(Compare),
    /// A client process; started by the other commands.
    #[command(hide = true)]
    Worker,
}

pub(crate) fn main() -> Result<()> {
    match CommandLine::parse().command {
        Command::Scenario(scenario) => show(&coordinator::run(&scenario)?, scenario.output()),
        Command::Compare(compare) => compare.run(),
        Command::Worker => Worker::serve(),
    }
}

/// A scenario with its options, as they stand on a command line behind `loadtest`.
pub(crate) fn parse(arguments: &[String]) -> Result<Scenario> {
    let name = std::iter::once("loadtest".to_owned());
    match CommandLine::try_parse_from(name.chain(arguments.iter().cloned()))?.command {
        Command::Scenario(scenario) => Ok(*scenario),
        _ => bail!("{arguments:?} is no scenario"),
    }
}

fn show(report: &Report, output: &Output) -> Result<()> {
    if let Some(path) = &output.json {
        std::fs::write(path, serde_json::to_string_pretty(report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &output.svg {
        match svg::write(report) {
            Some(picture) => {
                std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?
            }
            None => writeln!(std::io::stderr(), "loadtest: no latencies, so no plot")?,
        }
    }
    std::io::stdout().write_all(markdown::write(report).as_bytes())?;
    ensure!(
        !output.strict || report.is_clean(),
        "not everything arrived once and where it should (--strict)"
    );
    Ok(())
}
