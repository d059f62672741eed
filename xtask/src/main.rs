//! What a contributor runs, as `cargo xtask COMMAND`.
//!
//! - [`mod@test`], [`check`], [`soak`], [`fuzz`], [`mod@bench`], [`docs`]: the commands, each a list of steps.
//! - [`deploy`]: checks chart, manifests, images and proxies' configurations, and writes what follows from the chart's values.
//! - [`pictures`]: draws the dashboards from a recorded run.
//! - [`containers`]: builds the image, runs the compose file's topology, and breaks it; [`up`]: the same topology as processes.
//! - [`prepare`]: brings a machine to where the tests can run.
//! - [`arrows`], [`floors`], [`paths`], [`dependencies`], [`policies`], [`project`], [`deny`]: what `check` checks beyond fmt and clippy.
//! - [`step`], [`workspace`]: a step with its duration and its remedy; the checkout and its tools.

mod arrows;
mod bench;
mod check;
mod containers;
mod deny;
mod dependencies;
mod deploy;
mod docs;
mod floors;
mod fuzz;
mod named_tests;
mod paths;
mod pictures;
mod policies;
mod prepare;
mod project;
mod soak;
mod step;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What a contributor runs")]
enum Task {
    /// Prepare the machine, check format, dependencies and lints, and run all tests. With a filter: only the tests it names.
    Test {
        /// Part of the names of the tests to run; `containers` is a suite of its own.
        filter: Option<String>,
    },
    /// Run every check that does not run the code.
    Check {
        /// Only what needs nothing but the toolchain: it takes seconds.
        #[arg(long)]
        quick: bool,
    },
    /// Run the long tests, which are ignored otherwise.
    Soak {
        /// Part of the names of the tests to run.
        name: Option<String>,
    },
    /// Run the fuzz targets, each for a while.
    Fuzz {
        /// The one target to run.
        target: Option<String>,
        /// How long each target runs, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Count the instructions of codecs and the fan-out, and compare them with the record.
    Bench {
        /// Write the new counts to the record.
        #[arg(long)]
        accept: bool,
    },
    /// Write the pages in docs/ that follow from the code.
    Docs,
    /// Draw the dashboards as docs/images/grafana-*.svg.
    Pictures {
        /// Record another run first, which takes six minutes; otherwise they are drawn from the one that is recorded.
        #[arg(long)]
        record: bool,
    },
    /// Check the chart, the manifests, the images and the configurations of proxies. With a filter: only the checks it names.
    Deploy {
        /// Part of the names of the checks to run.
        filter: Option<String>,
    },
    /// Start what docker-compose.yml starts as processes of this machine, until Ctrl-C.
    Up,
    /// Show the modules of the node's crate floor by floor, and what each imports.
    Floors,
    /// Install and fetch what the tests need, and nothing else.
    Prepare,
}

fn main() -> ExitCode {
    let task = Task::parse();
    let outcome = Workspace::locate().and_then(|workspace| match task {
        Task::Test { filter } => test::run(&workspace, filter.as_deref()),
        Task::Check { quick: true } => check::quick(&workspace),
        Task::Check { quick: false } => check::run(&workspace),
        Task::Soak { name } => soak::run(&workspace, name.as_deref()),
        Task::Fuzz { target, seconds } => fuzz::run_targets(&workspace, target.as_deref(), seconds),
        Task::Bench { accept } => bench::run(&workspace, accept),
        Task::Docs => docs::run(&workspace),
        Task::Pictures { record } => pictures::run(&workspace, record),
        Task::Deploy { filter } => deploy::run(&workspace, filter.as_deref()),
        Task::Up => up::run(&workspace),
        Task::Floors => floors::print(&workspace),
        Task::Prepare => prepare::run_all(&workspace),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
