//! Requests that wait here for an answer of another node, and would be cut off if this one ended.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The GETs that wait here for sessions of other nodes.
#[derive(Debug, Default)]
pub(crate) struct RelayedPolls {
    count: AtomicUsize,
    release: Notify,
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

    /// Asks all polls that wait to have themselves answered. One that comes later is not asked: ask again.
    pub(crate) fn release_all(&self) {
        self.release.notify_waiters();
    }
}

/// One that waits.
pub(crate) struct RelayedPoll<'a>(&'a RelayedPolls);

impl RelayedPoll<'_> {
    /// Resolves when the poll is to be answered.
    pub(crate) async fn released(&self) {
        self.0.release.notified().await;
    }
}

impl Drop for RelayedPoll<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}
