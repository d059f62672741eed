//! Connections that are closed from anywhere.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::Context,
};

use futures_util::task::AtomicWaker;

/// Has an HTTP connection closed, from anywhere.
#[derive(Debug, Default)]
pub(crate) struct Hangup {
    is_due: AtomicBool,
    waker: AtomicWaker,
}

impl Hangup {
    pub(crate) fn hang_up(&self) {
        self.is_due.store(true, Relaxed);
        self.waker.wake();
    }

    /// Whether the connection is to be closed.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Relaxed)
    }

    /// Whether the connection is to be closed; else its task is woken when it is.
    pub(crate) fn poll_due(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_due.load(Relaxed)
    }
}
