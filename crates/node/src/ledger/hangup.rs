//! Connections that are closed from anywhere.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// Has an HTTP connection closed, from anywhere, and knows when it went on last.
#[derive(Debug, Default)]
pub(crate) struct Hangup {
    is_due: AtomicBool,
    waker: AtomicWaker,
    /// When its client took something of an answer last, in milliseconds of the ledger.
    moved_at: AtomicU64,
}

impl Hangup {
    pub(crate) fn hang_up(&self) {
        self.is_due.store(true, Relaxed);
        self.waker.wake();
    }

    /// Its client has taken something of an answer, at this time of the ledger.
    pub(crate) fn moved(&self, now: u64) {
        self.moved_at.store(now, Relaxed);
    }

    pub(super) fn moved_at(&self) -> u64 {
        self.moved_at.load(Relaxed)
    }

    /// Waits until the connection is to be closed; for the task that has it.
    pub(crate) async fn due(&self) {
        poll_fn(|cx| if self.poll_due(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Whether the connection is to be closed; else its task is woken when it is.
    pub(crate) fn poll_due(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_due.load(Relaxed)
    }
}
