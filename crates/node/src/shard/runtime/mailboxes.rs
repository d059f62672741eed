//! The shards' mailboxes: how anything reaches the one thread that owns a session.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

use signalbox_cluster::ShardId;
use signalbox_telemetry::Metrics;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{shard::mailbox::ShardMessage, transport::Wait};

/// A mailbox that is filled to this part is crowded: whoever fills it is not read on. It is far from full, so that those who come
/// meanwhile find room, and what they bring does not wait for long.
const CROWDED_PART: usize = 16;
/// What one that is read on may put in before it waits again, as far as it is known.
const SHARE: usize = 256;

/// One shard's mailbox, from outside.
///
/// The channel itself has no bound; those who put something in keep the bound. Sessions that fill it are not read on, in turns, before
/// it is full. What may be refused is refused once it is full. What may not (an answer, a change of a room, a session that moves)
/// results only from requests that were admitted while it was not full, so its number is bounded.
#[derive(Debug)]
struct Mailbox {
    sender: UnboundedSender<ShardMessage>,
    depth: AtomicUsize,
    /// Who waits until it is not crowded any more, in the order in which they came,
    waiting: Mutex<VecDeque<Waiting>>,
    /// and how many that are.
    waiting_count: AtomicUsize,
}

#[derive(Debug)]
enum Waiting {
    Reader(Arc<Turn>, Waker),
    Message(ShardId, ShardMessage),
}

/// A place among those who wait for a mailbox.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicBool);

impl Wait for Turn {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A shard is too far behind to take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// All mailboxes of a node.
pub(crate) struct Mailboxes {
    mailboxes: Vec<Mailbox>,
    limit: usize,
    metrics: Metrics,
}

impl Mailboxes {
    pub(crate) fn new(
        shards: usize,
        limit: usize,
        metrics: Metrics,
    ) -> (Self, Vec<UnboundedReceiver<ShardMessage>>) {
        let (mailboxes, receivers) = (0..shards)
            .map(|_| {
                let (sender, receiver) = unbounded_channel();
                let mailbox = Mailbox {
                    sender,
                    depth: AtomicUsize::new(0),
                    waiting: Mutex::default(),
                    waiting_count: AtomicUsize::new(0),
                };
                (mailbox, receiver)
            })
            .unzip();
        (Self { mailboxes, limit, metrics }, receivers)
    }

    pub(crate) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// All shards.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.mailboxes.len()).map(|shard| shard as ShardId)
    }

    /// Puts something in that may not be refused.
    pub(crate) fn push(&self, shard: ShardId, message: ShardMessage) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
            mailbox.depth.fetch_add(1, Ordering::Relaxed);
            // The receiver is gone only when the node has stopped.
            let _ = mailbox.sender.send(message);
        }
    }

    /// Puts a request in, unless the mailbox is full or there is no such shard.
    pub(crate) fn request(&self, shard: ShardId, message: ShardMessage) -> Result<(), Busy> {
        if usize::from(shard) >= self.mailboxes.len() || self.is_full(shard) {
            self.metrics.mailbox_refused.inc();
            return Err(Busy);
        }
        self.push(shard, message);
        Ok(())
    }

    /// Puts a broadcast in, or drops it when the mailbox is full.
    pub(crate) fn broadcast(&self, shard: ShardId, message: ShardMessage) -> bool {
        let fits = !self.is_full(shard);
        if fits {
            self.push(shard, message);
        } else {
            self.metrics.mailbox_dropped.inc();
        }
        fits
    }

    pub(crate) fn depth(&self, shard: ShardId) -> Option<usize> {
        Some(self.mailboxes.get(usize::from(shard))?.depth.load(Ordering::Relaxed))
    }

    pub(crate) fn is_full(&self, shard: ShardId) -> bool {
        self.depth(shard).is_none_or(|depth| depth >= self.limit)
    }

    /// Whether those who fill the mailbox are to wait.
    pub(crate) fn is_crowded(&self, shard: ShardId) -> bool {
        self.depth(shard).is_some_and(|depth| depth >= self.crowded_at())
    }

    fn crowded_at(&self) -> usize {
        self.limit / CROWDED_PART
    }

    /// Waits behind those who wait already; `waker` is woken when the turn has come.
    pub(crate) fn wait(&self, shard: ShardId, waker: Waker) -> Arc<Turn> {
        let turn = Arc::new(Turn::default());
        self.metrics.reads_paused.inc();
        self.enqueue(shard, Waiting::Reader(turn.clone(), waker));
        turn
    }

    /// Puts something into `to`'s mailbox once `shard`'s is not crowded any more.
    pub(crate) fn push_in_turn(&self, shard: ShardId, to: ShardId, message: ShardMessage) {
        self.metrics.reads_paused.inc();
        self.enqueue(shard, Waiting::Message(to, message));
    }

    fn enqueue(&self, shard: ShardId, waiting: Waiting) {
        let Some(mailbox) = self.mailboxes.get(usize::from(shard)) else {
            self.release(waiting);
            return;
        };
        mailbox.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
        mailbox.waiting_count.fetch_add(1, Ordering::SeqCst);
        // Its shard may have come to the end of what it had before anybody waited.
        self.release_waiting(shard);
    }

    fn release(&self, waiting: Waiting) {
        match waiting {
            Waiting::Reader(turn, waker) => {
                turn.0.store(true, Ordering::Release);
                waker.wake();
            }
            Waiting::Message(to, message) => self.push(to, message),
        }
    }

    /// The turn of as many as there is room for has come.
    fn release_waiting(&self, shard: ShardId) {
        let Some(mailbox) = self.mailboxes.get(usize::from(shard)) else { return };
        if mailbox.waiting_count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let room = self.crowded_at().saturating_sub(mailbox.depth.load(Ordering::SeqCst));
        let count = room.div_ceil(SHARE);
        let released: Vec<Waiting> = {
            let mut waiting = mailbox.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let count = count.min(waiting.len());
            mailbox.waiting_count.fetch_sub(count, Ordering::SeqCst);
            waiting.drain(..count).collect()
        };
        released.into_iter().for_each(|waiting| self.release(waiting));
    }

    /// The shard has taken `count` messages out.
    pub(crate) fn taken(&self, shard: ShardId, count: usize) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
            mailbox.depth.fetch_sub(count, Ordering::SeqCst);
            self.release_waiting(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_fill_a_mailbox_have_their_turns_in_order() {
        let (mailboxes, _receivers) = Mailboxes::new(1, CROWDED_PART * SHARE, Metrics::new());
        (0..SHARE).for_each(|_| mailboxes.push(0, ShardMessage::Stop));
        assert!(mailboxes.is_crowded(0) && !mailboxes.is_full(0));
        let turns: Vec<_> = (0..3).map(|_| mailboxes.wait(0, Waker::noop().clone())).collect();
        mailboxes.push_in_turn(0, 0, ShardMessage::Stop);
        let have_come = || turns.iter().filter(|turn| turn.is_over()).count();
        assert_eq!(have_come(), 0);
        mailboxes.taken(0, 10);
        assert!(turns[0].is_over() && have_come() == 1);
        (0..10).for_each(|_| mailboxes.push(0, ShardMessage::Stop));
        mailboxes.taken(0, 0);
        assert_eq!(have_come(), 1);
        mailboxes.taken(0, SHARE);
        assert_eq!(have_come(), 2);
        mailboxes.taken(0, 0);
        assert_eq!((have_come(), mailboxes.depth(0)), (3, Some(0)));
        mailboxes.taken(0, 0);
        assert_eq!(mailboxes.depth(0), Some(1), "what waited is in");
        assert!(mailboxes.wait(0, Waker::noop().clone()).is_over(), "there is nothing to wait for");
    }
}
