//! Several servers, the same scenarios in turns, one table.
//!
//! - [`servers`]: what is compared, and how it is started on a processor of its own.
//! - [`measurements`]: which scenario is run against whom.
//! - [`rows`]: what of it stands in the table, with its target.
//! - [`table`]: medians, ratios, Markdown.

mod machine;
mod measurements;
mod rows;
mod servers;
mod table;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::measure::Report;
use crate::run::coordinator;
use machine::Machine;
use measurements::{Measurement, Sizes};
use servers::{Contestant, Programs};

/// Microseconds that the generator may be late. More is not the server's doing.
const SUSPICIOUS_LAG: u64 = 20_000;

/// Options of `compare`.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Rounds; the table has the medians.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,

    /// One round of short measurements, to see that everything works; its figures mean little.
    #[arg(long, conflicts_with_all = ["rounds", "idle", "idle_many"])]
    quick: bool,

    /// Connections of the measurement `idle`.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    idle: usize,

    /// Connections of the measurement `idle-many`; a process may have few more files open.
    #[arg(long, default_value_t = 19_500, value_name = "N")]
    idle_many: usize,

    /// Only these measurements.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Measurement>,

    /// Leave these out.
    #[arg(long, value_enum, value_name = "NAME")]
    without: Vec<Contestant>,

    /// The processor that servers run on, alone.
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    server_cpu: usize,

    /// The processor of the clients.
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    client_cpu: usize,

    /// Where the programs are [default: beside this one].
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,

    /// Where `socketio.mjs` and `peer.mjs` are, with their node_modules.
    #[arg(long, default_value = "loadtest/peers/node", value_name = "DIRECTORY")]
    scripts: PathBuf,

    /// Add the rounds that an earlier comparison wrote with --json; with --rounds 0 the table is of these alone.
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,

    /// Write the table and every result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One measurement of one server.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    round: usize,
    measurement: Measurement,
    contestant: Contestant,
    /// The command line that does the same, with the addresses of then.
    arguments: Vec<String>,
    /// Clients that the gateway cut off.
    evictions: Option<u64>,
    report: Report,
}

#[derive(Serialize)]
struct Results<'a> {
    machine: Machine,
    rounds: usize,
    rows: Vec<table::Row>,
    runs: &'a [Run],
}

/// What is read back of [`Results`].
#[derive(Deserialize)]
struct Earlier {
    runs: Vec<Run>,
}

impl Compare {
    /// Measures everything, and prints the table.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            self.server_cpu != self.client_cpu,
            "servers and clients need a processor each (--server-cpu, --client-cpu)"
        );
        servers::pin(self.client_cpu)?;
        let machine = Machine::read();
        let programs = Programs::find(self.programs.clone(), self.scripts.clone())?;
        let rounds = if self.quick { 1 } else { self.rounds };
        let sizes = if self.quick { Sizes::quick() } else { Sizes::full(self.idle, self.idle_many) };
        let plan = self.plan();
        for (_, contestant) in &plan {
            programs.check(*contestant)?;
        }
        let total = plan.len() * rounds;
        let mut runs = self.earlier()?;
        let (known, first) = (runs.len(), runs.iter().map(|run| run.round).max().unwrap_or_default());
        for round in 1..=rounds {
            for &(measurement, contestant) in &plan {
                let mut stderr = std::io::stderr();
                writeln!(stderr, "[{}/{total}] {measurement}: {contestant}", runs.len() + 1 - known)?;
                let run = self.measure(first + round, measurement, contestant, &sizes, &programs);
                let run = run.with_context(|| format!("{measurement} of {contestant}"))?;
                let lag = run.report.phases.iter().map(|phase| phase.lag).max().unwrap_or_default();
                if lag > SUSPICIOUS_LAG {
                    let lag = lag / 1_000;
                    writeln!(
                        stderr,
                        "  the generator was {lag} ms late: something else ran on its processor"
                    )?;
                }
                runs.push(run);
            }
        }
        self.show(machine, &sizes, &runs)
    }

    /// The rounds that were measured before, numbered on.
    fn earlier(&self) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        for path in &self.with {
            let read = || -> Result<Earlier> { Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?) };
            let earlier = read().with_context(|| format!("cannot read {}", path.display()))?;
            let first = runs.iter().map(|run| run.round).max().unwrap_or_default();
            runs.extend(earlier.runs.into_iter().map(|run| Run { round: first + run.round, ..run }));
        }
        Ok(runs)
    }

    /// Who is measured how, in an order that has the contestants of a measurement follow each other.
    fn plan(&self) -> Vec<(Measurement, Contestant)> {
        let measurements = Measurement::all().filter(|one| self.only.is_empty() || self.only.contains(one));
        let of = |measurement: Measurement| {
            measurement.contestants().iter().map(move |contestant| (measurement, *contestant))
        };
        measurements.flat_map(of).filter(|(_, contestant)| !self.without.contains(contestant)).collect()
    }

    fn measure(
        &self,
        round: usize,
        measurement: Measurement,
        contestant: Contestant,
        sizes: &Sizes,
        programs: &Programs,
    ) -> Result<Run> {
        let count = measurement.servers(contestant);
        let how = (count, measurement.workers(), measurement.announces());
        let servers = servers::Group::start(programs, contestant, how, self.server_cpu)?;
        // The server's threads have been started on its processor; this one goes back to the clients'.
        servers::pin(self.client_cpu)?;
        let arguments = measurement.arguments(contestant, sizes, &servers);
        let scenario = crate::cli::parse(&arguments)?;
        let mut report = coordinator::run(&scenario)?;
        for phase in &mut report.phases {
            // What nobody will plot need not be kept.
            phase.series.clear();
        }
        let evictions = servers.metric("signalbox_evictions_total");
        Ok(Run { round, measurement, contestant, arguments, evictions, report })
    }

    fn show(&self, machine: Machine, sizes: &Sizes, runs: &[Run]) -> Result<()> {
        let rows = table::rows(runs, sizes);
        let rounds = runs.iter().map(|run| run.round).max().unwrap_or_default();
        let phases = || runs.iter().flat_map(|run| &run.report.phases);
        let expected: u64 = phases().map(|phase| phase.expected).sum();
        let wrong: u64 = phases().map(|phase| phase.lost + phase.duplicates + phase.misdirected).sum();
        let markdown = format!(
            "{machine}, medians of {rounds} rounds of `loadtest compare`\n\n{}\nOf {expected} deliveries, {wrong} were lost, doubled or misdirected.\n",
            table::markdown(&rows)
        );
        if let Some(path) = &self.json {
            let results = Results { machine, rounds, rows, runs };
            std::fs::write(path, serde_json::to_string_pretty(&results)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(std::io::stdout().write_all(markdown.as_bytes())?)
    }
}
