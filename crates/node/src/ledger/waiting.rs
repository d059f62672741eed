//! Those who wait until there is room, in lanes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::{Mutex, Notify};

/// Whoever waits is told when so many bytes are released.
const WORTH_TELLING: usize = 1024;

/// Where somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For addresses that hold little.
    Light,
    /// For all others.
    Heavy,
}

/// Those who wait for room.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    light: Queue,
    heavy: Queue,
    pub(super) released: Notify,
    /// When it was looked whether some address holds much, in milliseconds of the ledger; 0 for never.
    pub(super) looked_at: AtomicU64,
    pub(super) is_burdened: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) count: AtomicUsize,
    /// Whoever has it is the first.
    pub(super) turn: Mutex<()>,
}

impl Waiting {
    pub(super) fn queue(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Light => &self.light,
            Lane::Heavy => &self.heavy,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.light.count.load(Relaxed) + self.heavy.count.load(Relaxed) == 0
    }

    /// So many bytes are not held any more.
    pub(super) fn release(&self, bytes: usize) {
        if bytes >= WORTH_TELLING && !self.is_empty() {
            self.released.notify_waiters();
        }
    }
}
