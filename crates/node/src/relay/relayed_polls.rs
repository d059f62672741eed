//! Requests that wait here for an answer of another node, and would be cut off if this one ended.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The GETs that wait here for sessions of other nodes.
#[derive(Debug, Default)]
pub(crate) struct RelayedPolls {
    count: AtomicUsize,
    leave: Notify,
}

impl RelayedPolls {
    /// One more, for as long as the result lives.
    pub(crate) fn enter(&self) -> RelayedPoll<'_> {
        self.count.fetch_add(1, Ordering::AcqRel);
        RelayedPoll(self)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Asks all that wait to have themselves answered. Who comes later is not asked: ask again.
    pub(crate) fn ask_to_leave(&self) {
        self.leave.notify_waiters();
    }
}

/// One that waits.
pub(crate) struct RelayedPoll<'a>(&'a RelayedPolls);

impl RelayedPoll<'_> {
    /// Resolves when it is asked to leave.
    pub(crate) async fn is_to_leave(&self) {
        self.0.leave.notified().await;
    }
}

impl Drop for RelayedPoll<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}
