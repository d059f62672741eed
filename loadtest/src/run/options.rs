//! What every scenario takes.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::net::Sources;
use crate::protocol::{Dialect, Stamp, Target};

/// What the clients do alike in all scenarios.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Load {
    /// A server, such as http://127.0.0.1:9000; clients are spread over several.
    #[arg(long = "target", required = true, value_name = "URL", help_heading = "Load")]
    pub(crate) targets: Vec<Target>,

    /// What the events of the server are called.
    #[arg(long, value_enum, default_value = "gateway", help_heading = "Load")]
    pub(crate) dialect: Dialect,

    /// Client processes; each has a thread and its own limit of open files.
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Load")]
    pub(crate) processes: usize,

    /// Loopback addresses to connect from, 127.0.0.1 and those that follow; only for targets on this machine.
    #[arg(long, default_value_t = 4, value_name = "N", help_heading = "Load")]
    pub(crate) sources: u8,

    /// Connections a process opens at the same time while it sets up.
    #[arg(long, default_value_t = 64, value_name = "N", help_heading = "Load")]
    pub(crate) window: usize,

    /// Seconds without any progress after which what is still missing counts as lost.
    #[arg(long, default_value = "5", value_name = "SECONDS", help_heading = "Load")]
    pub(crate) patience: Seconds,

    /// Bytes of data in a message, as a JSON string; at least 36.
    #[arg(long, default_value_t = 64, value_name = "BYTES", help_heading = "Load")]
    pub(crate) payload: usize,
}

impl Load {
    /// What clap cannot check.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.payload < Stamp::MINIMUM {
            bail!(
                "--payload {} has no room for the time of sending (at least {})",
                self.payload,
                Stamp::MINIMUM
            );
        }
        if self.processes == 0 || self.window == 0 {
            bail!("--processes and --window must be at least 1");
        }
        Ok(())
    }

    /// The addresses of one client process.
    pub(crate) fn sources(&self) -> Sources {
        Sources::new(self.sources)
    }
}

/// What becomes of the results.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub(crate) struct Output {
    /// Process id of a server, to read its processor time and memory; several are added up.
    #[arg(long = "pid", value_name = "PID", help_heading = "Results")]
    pub(crate) pids: Vec<u32>,

    /// Write the results as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) json: Option<PathBuf>,

    /// Fail if anything was lost, doubled or misdirected, or the server closed a connection.
    #[arg(long, help_heading = "Results")]
    pub(crate) strict: bool,

    /// Plot latency over time.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) svg: Option<PathBuf>,
}

/// A time in seconds, with or without a fraction.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(crate) struct Seconds(f64);

impl Seconds {
    pub(crate) fn new(seconds: f64) -> Self {
        Self(seconds)
    }

    pub(crate) fn get(self) -> f64 {
        self.0
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

/// How often a second something happens.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("not a rate between 0.001 and 10000000 a second".to_owned()),
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Self(seconds)),
            _ => Err("not a number of seconds between 0 and 86400".to_owned()),
        }
    }
}
