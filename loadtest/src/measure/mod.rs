//! What is counted, and how it is told.
//!
//! - [`ledger`]: who must hear which message, and who did.
//! - [`latency`]: histograms, as a whole and over time.
//! - [`tally`]: everything one client process counted in one phase.
//! - [`usage`]: processor time and memory of the servers, from `/proc`.
//! - [`report`]: the results of a run; [`markdown`], [`svg`] and [`progress`] show them.

pub(crate) mod latency;
pub(crate) mod ledger;
pub(crate) mod markdown;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod svg;
pub(crate) mod tally;
pub(crate) mod usage;

pub(crate) use latency::Latency;
pub(crate) use ledger::{Heard, Hearers, Ledger};
pub(crate) use report::{PhaseReport, Report};
pub(crate) use tally::Tally;
pub(crate) use usage::Usage;
