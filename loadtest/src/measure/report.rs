//! The results of a run.

use serde::{Deserialize, Serialize};

use super::latency::Percentiles;
use super::{Tally, Usage};

/// A run of one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    /// Everything the run was asked for.
    pub(crate) options: serde_json::Value,
    /// Memory of the servers before the first connection, in KiB.
    pub(crate) rss_before: Option<u64>,
    pub(crate) phases: Vec<PhaseReport>,
}

/// One phase of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PhaseReport {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) connections: u64,
    pub(crate) connects: u64,
    pub(crate) closed: u64,
    pub(crate) messages: u64,
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) misdirected: u64,
    pub(crate) answers_expected: u64,
    pub(crate) answers: u64,
    #[serde(default)]
    pub(crate) refused: u64,
    /// How late the generator was at worst, in microseconds.
    pub(crate) lag: u64,
    /// Microseconds, from when a message was due.
    pub(crate) latency: Option<Percentiles>,
    /// The same by the second in which they were due.
    pub(crate) series: Vec<(f64, Percentiles)>,
    /// Of the servers, in this phase alone; `rss` is at its end.
    pub(crate) usage: Option<Usage>,
    pub(crate) cost_per_delivery: Option<Cost>,
    pub(crate) cost_per_connect: Option<Cost>,
    /// KiB at the end of the phase, beyond what the servers had before the first connection.
    pub(crate) memory_per_connection: Option<f64>,
    /// Processor time of the servers, as a share of one core.
    pub(crate) load: Option<f64>,
}

/// Processor time of the servers for one thing, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) total: f64,
}

impl Cost {
    fn of(usage: Usage, things: u64) -> Option<Self> {
        let each = |milliseconds: u64| milliseconds as f64 * 1_000.0 / things as f64;
        (things > 0).then(|| Self {
            user: each(usage.user),
            system: each(usage.system),
            total: each(usage.user + usage.system),
        })
    }
}

impl PhaseReport {
    pub(crate) fn new(
        name: String,
        seconds: f64,
        tally: &Tally,
        usage: Option<Usage>,
        rss_before: Option<u64>,
    ) -> Self {
        let beyond = |usage: Usage| usage.rss as f64 - rss_before.unwrap_or_default() as f64;
        Self {
            name,
            seconds,
            connections: tally.connections,
            connects: tally.connects,
            closed: tally.closed,
            messages: tally.messages,
            expected: tally.expected,
            delivered: tally.delivered,
            lost: tally.expected.saturating_sub(tally.delivered),
            duplicates: tally.duplicates,
            misdirected: tally.misdirected,
            answers_expected: tally.answers_expected,
            answers: tally.answers,
            refused: tally.refused,
            lag: tally.lag,
            latency: tally.latency.percentiles(),
            series: tally.latency.series(),
            usage,
            cost_per_delivery: usage.and_then(|usage| Cost::of(usage, tally.delivered)),
            cost_per_connect: usage.and_then(|usage| Cost::of(usage, tally.connects)),
            memory_per_connection: usage
                .filter(|_| tally.connections > 0)
                .map(|usage| beyond(usage) / tally.connections as f64),
            load: usage.map(|usage| (usage.user + usage.system) as f64 / 1_000.0 / seconds),
        }
    }
}

impl Report {
    /// The phase of this name.
    pub(crate) fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// Whether nothing was lost, doubled, misdirected or closed.
    pub(crate) fn is_clean(&self) -> bool {
        self.phases.iter().all(|phase| {
            let strange = phase.lost + phase.duplicates + phase.misdirected + phase.closed;
            strange == 0 && phase.answers == phase.answers_expected
        })
    }
}
