//! Everything one client process counted in one phase.

use serde::{Deserialize, Serialize};

use super::{Heard, Latency};

/// Counts of a phase; those of several processes add up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Sessions that are open at the end.
    pub(crate) connections: u64,
    /// Sessions that were opened in it.
    pub(crate) connects: u64,
    /// Connections that the server closed or refused.
    pub(crate) closed: u64,
    /// Messages that were sent.
    pub(crate) messages: u64,
    /// How often they must be heard: a message to a room of 100 is heard by 99.
    pub(crate) expected: u64,
    /// How often they were heard, duplicates aside.
    pub(crate) delivered: u64,
    /// Heard again by the same client.
    pub(crate) duplicates: u64,
    /// Heard by a client they were not for.
    pub(crate) misdirected: u64,
    /// Acknowledgements and announcements that had to come, and that came.
    pub(crate) answers_expected: u64,
    pub(crate) answers: u64,
    /// Answers that were refusals.
    pub(crate) refused: u64,
    /// How long after it was due the latest message was sent, in microseconds: more than a few milliseconds mean that
    /// the generator was too slow, and not the server.
    pub(crate) lag: u64,
    pub(crate) latency: Latency,
}

impl Tally {
    /// Counts a message that was heard; whether it was for the first time.
    pub(crate) fn count(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::First => self.delivered += 1,
            Heard::Again => self.duplicates += 1,
            Heard::Wrongly => self.misdirected += 1,
        }
        heard == Heard::First
    }

    /// Whether everything came that had to.
    pub(crate) fn is_complete(&self) -> bool {
        self.delivered >= self.expected && self.answers >= self.answers_expected
    }

    /// Adds what another process counted in the same phase.
    pub(crate) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.connects += other.connects;
        self.closed += other.closed;
        self.messages += other.messages;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.misdirected += other.misdirected;
        self.answers_expected += other.answers_expected;
        self.answers += other.answers;
        self.refused += other.refused;
        self.lag = self.lag.max(other.lag);
        self.latency.add(&other.latency);
    }
}
