//! Backpressure: who fills a queue that is crowded is not read on before there is room again.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

use signalbox_cluster::ShardId;

use crate::{shard::mailbox::ShardMessage, transport::Wait};

/// What one that is read on may put in before it waits again, as far as it is known.
pub(super) const SHARE: usize = 64;

/// What clients fill by what they send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Mailbox(ShardId),
    /// Broadcasts that wait to be published to other nodes.
    Publications,
}

/// How much is in a queue, and who waits until that is less.
///
/// While anybody waits, there is something in the queue, or somebody whose turn it is: either ends, and then the next ones have their turn.
/// (What went into a mailbox in its turn is one of these until that is taken out. It is not counted meanwhile, so many at once may make the
/// queue longer than it is to be.)
#[derive(Debug)]
pub(super) struct Backpressure {
    depth: AtomicUsize,
    /// From where on the queue is crowded.
    crowded_at: usize,
    /// Those who are read on: their turn has come and is not over.
    reading: AtomicUsize,
    /// Who waits until it is not crowded any more, in the order in which they came,
    waiting: Mutex<VecDeque<Waiting>>,
    /// and how many that are.
    waiting_count: AtomicUsize,
}

/// What waits for room in a queue.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Somebody who is to be read on.
    Reader(Arc<Turn>, Waker),
    /// Something that goes into a shard's mailbox then.
    Message(ShardId, ShardMessage),
}

/// Is told when a turn is over.
pub(super) trait Turns: Send + Sync {
    fn turn_is_over(&self, queue: Queue);
}

/// A place among those who wait. The turn is over when it is dropped.
pub(crate) struct Turn {
    has_come: AtomicBool,
    queue: Queue,
    turns: Weak<dyn Turns>,
}

impl Turn {
    pub(super) fn new(queue: Queue, turns: Weak<dyn Turns>) -> Self {
        Self { has_come: AtomicBool::new(false), queue, turns }
    }

    pub(super) fn comes(&self, waker: &Waker) {
        self.has_come.store(true, Ordering::Release);
        waker.wake_by_ref();
    }
}

impl Wait for Turn {
    fn is_over(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if *self.has_come.get_mut()
            && let Some(turns) = self.turns.upgrade()
        {
            turns.turn_is_over(self.queue);
        }
    }
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("has_come", &self.has_come).finish_non_exhaustive()
    }
}

impl Backpressure {
    pub(super) fn new(crowded_at: usize) -> Self {
        Self {
            depth: AtomicUsize::new(0),
            crowded_at,
            reading: AtomicUsize::new(0),
            waiting: Mutex::default(),
            waiting_count: AtomicUsize::new(0),
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// Whether those who fill the queue are to wait.
    pub(super) fn is_crowded(&self) -> bool {
        self.depth() >= self.crowded_at
    }

    /// So many more are in the queue.
    pub(super) fn added(&self, count: usize) {
        self.depth.fetch_add(count, Ordering::Relaxed);
    }

    /// So many fewer are. [`Backpressure::released`] is to follow.
    pub(super) fn removed(&self, count: usize) {
        self.depth.fetch_sub(count, Ordering::SeqCst);
    }

    /// Somebody's turn is over. The same is to follow.
    pub(super) fn turn_is_over(&self) {
        self.reading.fetch_sub(1, Ordering::SeqCst);
    }

    /// Somebody waits behind those who wait already. The same is to follow, since there may be room by now.
    pub(super) fn enqueue(&self, waiting: Waiting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
        self.waiting_count.fetch_add(1, Ordering::SeqCst);
    }

    /// Those whose turn has come: as many as there is room for.
    pub(super) fn released(&self) -> Vec<Waiting> {
        let mut released = Vec::new();
        if self.waiting_count.load(Ordering::SeqCst) == 0 {
            return released;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut messages = 0;
        loop {
            let expected = SHARE * (self.reading.load(Ordering::SeqCst) + messages);
            if self.depth.load(Ordering::SeqCst) + expected >= self.crowded_at {
                break;
            }
            let Some(next) = waiting.pop_front() else { break };
            self.waiting_count.fetch_sub(1, Ordering::SeqCst);
            match &next {
                // Nobody waits for this turn any more.
                Waiting::Reader(turn, _) if Arc::strong_count(turn) == 1 => continue,
                Waiting::Reader(..) => {
                    self.reading.fetch_add(1, Ordering::SeqCst);
                }
                Waiting::Message(..) => messages += 1,
            }
            released.push(next);
        }
        released
    }
}
