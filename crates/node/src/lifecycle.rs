//! Whether a node drains or stops, and how many of its WebSockets are still open.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Shared by everything on a node.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    is_draining: AtomicBool,
    is_stopping: AtomicBool,
    open_connections: AtomicUsize,
}

impl Lifecycle {
    /// The node is about to end: it is not ready any more, though it serves on.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// The node takes no new clients.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// The node will not have its clients for long.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_draining() || self.is_stopping()
    }

    pub(crate) fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub(crate) fn start_stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    pub(crate) fn connection_opened(&self) {
        self.open_connections.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn connection_closed(&self) {
        self.open_connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// WebSockets that are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.open_connections.load(Ordering::Acquire)
    }
}
