//! The lines of JSON between the coordinator and its workers.

use serde::{Deserialize, Serialize};

use crate::measure::Tally;
use crate::measure::progress::Progress;
use crate::scenario::Scenario;

/// The first line a worker is given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    pub(super) worker: usize,
    pub(super) workers: usize,
}

/// Every line after that: the phase may begin.
pub(super) const GO: &str = "go";

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// It is ready for this phase and waits.
    At(String),
    Progress(Progress),
    /// The phase has ended.
    Done(Box<Tally>),
    /// All phases have.
    Finished,
    Failed(String),
}
