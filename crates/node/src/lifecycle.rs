//! Whether a node drains or stops, and how many of its WebSockets are still open.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Nobody can stop what the node does: it serves, or ends.
const FIXED: u8 = 0;
/// It drains for an operator, who may stop that.
const CANCELLABLE: u8 = 1;
/// The operator has.
const CANCELLED: u8 = 2;
/// An operator wants it to drain, and its program has yet to learn that.
const REQUESTED: u8 = 3;

/// Shared by everything on a node.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    is_draining: AtomicBool,
    is_stopping: AtomicBool,
    open_connections: AtomicUsize,
    /// Whether its drain can be stopped.
    drain: AtomicU8,
    /// The program wants to know when it is.
    heeds_cancel: AtomicBool,
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

    /// It is to drain for an operator; `false` if it is leaving already.
    pub(crate) fn request_drain(&self) -> bool {
        !self.is_leaving() && self.swap_drain(FIXED, REQUESTED)
    }

    /// The program learns that it is to drain; `false` if it is not, or not any more.
    pub(crate) fn take_drain_request(&self) -> bool {
        self.swap_drain(REQUESTED, CANCELLABLE)
    }

    /// The operator wants no drain any more that the program has not learned of; `false` if it has.
    pub(crate) fn withdraw_drain(&self) -> bool {
        self.swap_drain(REQUESTED, FIXED)
    }

    /// Nothing has come of a drain that an operator wants.
    pub(crate) fn give_up_drain(&self) {
        let _ = self.withdraw_drain() || self.swap_drain(CANCELLABLE, FIXED);
    }

    /// Whether the operator has stopped the drain, and the program has yet to go on.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.drain.load(Ordering::Acquire) == CANCELLED
    }

    /// The program goes on when a drain is stopped. One that does not say so cannot be told.
    pub(crate) fn heed_cancel(&self) {
        self.heeds_cancel.store(true, Ordering::Release);
    }

    /// The operator stops the drain; `false` if that cannot be stopped, or not any more.
    pub(crate) fn cancel_drain(&self) -> bool {
        self.heeds_cancel.load(Ordering::Acquire) && self.swap_drain(CANCELLABLE, CANCELLED)
    }

    /// The drain cannot be stopped from now on; `false` if it has been.
    pub(crate) fn commit_drain(&self) -> bool {
        self.withdraw_drain()
            || self.swap_drain(CANCELLABLE, FIXED)
            || self.drain.load(Ordering::Acquire) == FIXED
    }

    /// A stopped drain is over: the node serves as before.
    pub(crate) fn resume(&self) {
        self.is_draining.store(false, Ordering::Release);
        self.is_stopping.store(false, Ordering::Release);
        self.drain.store(FIXED, Ordering::Release);
    }

    fn swap_drain(&self, from: u8, to: u8) -> bool {
        self.drain.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_stopped_as_long_as_it_can_be() {
        let lifecycle = Lifecycle::default();
        assert!(!lifecycle.cancel_drain(), "nobody drains");
        assert!(lifecycle.request_drain() && lifecycle.take_drain_request());
        assert!(!lifecycle.cancel_drain(), "the program would not know");
        lifecycle.resume();
        lifecycle.heed_cancel();
        assert!(lifecycle.request_drain() && !lifecycle.request_drain() && lifecycle.take_drain_request());
        lifecycle.start_draining();
        assert!(lifecycle.cancel_drain() && !lifecycle.commit_drain() && lifecycle.is_cancelled());
        lifecycle.resume();
        assert!(!lifecycle.is_leaving() && !lifecycle.is_cancelled());
        assert!(lifecycle.request_drain() && lifecycle.take_drain_request() && lifecycle.commit_drain());
        assert!(!lifecycle.cancel_drain() && lifecycle.commit_drain());
        // What the program has not learned of is withdrawn, and it never does.
        assert!(lifecycle.request_drain() && !lifecycle.cancel_drain() && lifecycle.withdraw_drain());
        assert!(!lifecycle.take_drain_request() && lifecycle.request_drain() && lifecycle.commit_drain());
        // A signal's cannot be.
        let lifecycle = Lifecycle::default();
        lifecycle.start_draining();
        assert!(!lifecycle.request_drain() && !lifecycle.cancel_drain() && lifecycle.commit_drain());
    }
}
