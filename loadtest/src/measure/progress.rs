//! One line on the terminal that says how far a run is.

use std::io::{IsTerminal as _, Write as _};

use serde::{Deserialize, Serialize};

use super::Tally;

/// How far one client process is in a phase.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
}

impl Progress {
    pub(crate) fn new(tally: &Tally, connections: u64) -> Self {
        let Tally { messages, expected, delivered, .. } = *tally;
        Self { connections, messages, expected, delivered }
    }
}

/// Rewrites the line; writes nothing where nobody watches.
pub(crate) struct ProgressLine {
    shown: bool,
}

impl ProgressLine {
    pub(crate) fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal() }
    }

    pub(crate) fn show(&self, phase: &str, processes: &[Progress]) {
        if self.shown {
            let sum = |of: fn(&Progress) -> u64| processes.iter().map(of).sum::<u64>();
            let (connections, messages) = (sum(|p| p.connections), sum(|p| p.messages));
            let (expected, delivered) = (sum(|p| p.expected), sum(|p| p.delivered));
            self.write(&format!(
                "{phase}: {connections} connections, {messages} messages, {delivered} of {expected} delivered"
            ));
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.shown {
            self.write("");
        }
    }

    fn write(&self, text: &str) {
        // A terminal that is gone is no reason to fail.
        let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
    }
}
