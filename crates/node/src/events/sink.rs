//! Where events go that somebody has to get all of.

use std::sync::atomic::{AtomicU64, Ordering};

use signalbox_admin::events::Event;
use tokio::sync::mpsc;

/// Where they go.
pub(super) struct Sink {
    kinds: u32,
    queue: mpsc::Sender<Event>,
    /// Events that did not fit into the queue.
    lost: AtomicU64,
}

impl Sink {
    /// The kinds that are wanted, a bit each.
    pub(super) fn kinds(&self) -> u32 {
        self.kinds
    }

    pub(super) fn offer(&self, event: &Event) {
        if self.kinds & event.kind.bit() != 0 && self.queue.try_send(event.clone()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// For these kinds, a bit each.
    pub(super) fn new(kinds: u32, queue: mpsc::Sender<Event>) -> Self {
        Self { kinds, queue, lost: AtomicU64::new(0) }
    }

    /// How many did not fit into the queue since this was asked last.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}
