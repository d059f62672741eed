//! The shards' mailboxes: how anything reaches the one thread that owns a session. And what is on its way out of the node, to others.

use std::{sync::Arc, task::Waker};

use bytes::Bytes;
use signalbox_cluster::ShardId;
use signalbox_telemetry::Metrics;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::backpressure::{Backpressure, Queue, Turn, Turns, Waiting};
use crate::shard::mailbox::ShardMessage;

/// A mailbox that is filled to this part is crowded: whoever fills it is not read on. It is far from full, so that those who come
/// meanwhile find room, and what they bring does not wait for long.
const CROWDED_PART: usize = 16;
/// So many broadcasts to other nodes wait to be published before whoever makes more of them is not read on.
const PUBLICATIONS: usize = 512;
/// So many bytes count as another one: nobody is charged for what waits there.
const PUBLICATION_BYTES: usize = 4096;

/// One shard's mailbox, from outside.
///
/// The channel itself has no bound; those who put something in keep the bound. Sessions that fill it are not read on, in turns, before
/// it is full. What may be refused is refused once it is full. What may not (an answer, a change of a room, a session that moves)
/// results only from requests that were admitted while it was not full, so its number is bounded.
#[derive(Debug)]
struct Mailbox {
    sender: UnboundedSender<ShardMessage>,
    backpressure: Backpressure,
}

/// A shard is too far behind to take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// All mailboxes of a node, and the broadcasts that leave it.
pub(crate) struct Mailboxes {
    mailboxes: Vec<Mailbox>,
    limit: usize,
    publications: Backpressure,
    metrics: Metrics,
}

/// A broadcast that is counted until it is published, or dropped.
struct Publication {
    payload: Bytes,
    /// As how many.
    count: usize,
    mailboxes: Arc<Mailboxes>,
}

impl AsRef<[u8]> for Publication {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.mailboxes.publications.removed(self.count);
        self.mailboxes.release(Queue::Publications);
    }
}

impl Turns for Mailboxes {
    fn turn_is_over(&self, queue: Queue) {
        if let Some(backpressure) = self.backpressure(queue) {
            backpressure.turn_is_over();
        }
        self.release(queue);
    }
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
                (Mailbox { sender, backpressure: Backpressure::new((limit / CROWDED_PART).max(1)) }, receiver)
            })
            .unzip();
        (Self { mailboxes, limit, publications: Backpressure::new(PUBLICATIONS), metrics }, receivers)
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
            mailbox.backpressure.added(1);
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
        Some(self.mailboxes.get(usize::from(shard))?.backpressure.depth())
    }

    pub(crate) fn is_full(&self, shard: ShardId) -> bool {
        self.depth(shard).is_none_or(|depth| depth >= self.limit)
    }

    /// Whether those who fill the queue are to wait.
    pub(crate) fn is_crowded(&self, queue: Queue) -> bool {
        self.backpressure(queue).is_some_and(Backpressure::is_crowded)
    }

    /// Counts a broadcast until it is published, or dropped.
    pub(crate) fn publication(self: &Arc<Self>, payload: Bytes) -> Bytes {
        let count = 1 + payload.len() / PUBLICATION_BYTES;
        self.publications.added(count);
        Bytes::from_owner(Publication { payload, count, mailboxes: self.clone() })
    }

    /// Waits behind those who wait already; `waker` is woken when the turn has come. It lasts until the result is dropped.
    pub(crate) fn wait(self: &Arc<Self>, queue: Queue, waker: Waker) -> Arc<Turn> {
        let turns: Arc<dyn Turns> = self.clone();
        let turn = Arc::new(Turn::new(queue, Arc::downgrade(&turns)));
        self.enqueue(queue, Waiting::Reader(turn.clone(), waker));
        turn
    }

    /// Puts something into `to`'s mailbox once the queue is not crowded any more.
    pub(crate) fn push_in_turn(&self, queue: Queue, to: ShardId, message: ShardMessage) {
        self.enqueue(queue, Waiting::Message(to, message));
    }

    /// The shard has taken `count` messages out.
    pub(crate) fn taken(&self, shard: ShardId, count: usize) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
            mailbox.backpressure.removed(count);
        }
        // One of them may have been somebody's turn, in whatever queue.
        self.shards().map(Queue::Mailbox).for_each(|queue| self.release(queue));
        self.release(Queue::Publications);
    }

    fn backpressure(&self, queue: Queue) -> Option<&Backpressure> {
        match queue {
            Queue::Mailbox(shard) => self.mailboxes.get(usize::from(shard)).map(|it| &it.backpressure),
            Queue::Publications => Some(&self.publications),
        }
    }

    fn enqueue(&self, queue: Queue, waiting: Waiting) {
        self.metrics.reads_paused.inc();
        match self.backpressure(queue) {
            Some(backpressure) => {
                backpressure.enqueue(waiting);
                self.release(queue);
            }
            None => self.go_on(waiting),
        }
    }

    /// The turn of those who wait has come, as many as there is room for.
    fn release(&self, queue: Queue) {
        let released = self.backpressure(queue).map(Backpressure::released).unwrap_or_default();
        released.into_iter().for_each(|waiting| self.go_on(waiting));
    }

    fn go_on(&self, waiting: Waiting) {
        match waiting {
            Waiting::Reader(turn, waker) => turn.comes(&waker),
            Waiting::Message(to, message) => self.push(to, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::backpressure::SHARE, *};
    use crate::transport::Wait as _;

    const FIRST: Queue = Queue::Mailbox(0);

    fn mailboxes(crowded_at: usize) -> (Arc<Mailboxes>, Vec<UnboundedReceiver<ShardMessage>>) {
        let (mailboxes, receivers) = Mailboxes::new(1, CROWDED_PART * crowded_at, Metrics::new());
        (Arc::new(mailboxes), receivers)
    }

    fn wait(mailboxes: &Arc<Mailboxes>, queue: Queue, count: usize) -> Vec<Arc<Turn>> {
        (0..count).map(|_| mailboxes.wait(queue, Waker::noop().clone())).collect()
    }

    fn have_come(turns: &[Arc<Turn>]) -> Vec<bool> {
        turns.iter().map(|turn| turn.is_over()).collect()
    }

    #[test]
    fn those_who_fill_a_mailbox_have_their_turns_in_order() {
        let (mailboxes, _receivers) = mailboxes(2 * SHARE);
        (0..2 * SHARE).for_each(|_| mailboxes.push(0, ShardMessage::Stop));
        assert!(mailboxes.is_crowded(FIRST) && !mailboxes.is_full(0));
        let mut turns = wait(&mailboxes, FIRST, 4);
        mailboxes.push_in_turn(FIRST, 0, ShardMessage::Stop);
        assert_eq!(have_come(&turns), [false; 4]);
        mailboxes.taken(0, 10);
        assert_eq!(have_come(&turns), [true, false, false, false]);
        // There is no more room while somebody has its turn.
        mailboxes.taken(0, SHARE - 10);
        assert_eq!(have_come(&turns), [true, false, false, false]);
        mailboxes.taken(0, SHARE);
        assert_eq!(have_come(&turns), [true, true, false, false]);
        // One turn after the other is over, and somebody has gone who waited.
        turns.remove(2);
        turns.remove(0);
        assert_eq!((have_come(&turns), mailboxes.depth(0)), (vec![true, true], Some(0)));
        turns.remove(0);
        assert_eq!(mailboxes.depth(0), Some(1), "what waited is in");
        let last = wait(&mailboxes, FIRST, 20);
        mailboxes.taken(0, 1);
        drop(turns);
        assert_eq!(have_come(&last).into_iter().filter(|it| *it).count(), 2);
    }

    #[test]
    fn nobody_waits_for_an_empty_queue() {
        let (mailboxes, _receivers) = mailboxes(2 * SHARE);
        (0..2 * SHARE).for_each(|_| mailboxes.push(0, ShardMessage::Stop));
        let mut turns = wait(&mailboxes, FIRST, 300);
        // Each second one has gone meanwhile.
        let mut index = 0;
        turns.retain(|_| {
            index += 1;
            index % 2 == 0
        });
        mailboxes.taken(0, 2 * SHARE);
        let mut seen = 0;
        while let Some(at) = turns.iter().position(|turn| turn.is_over()) {
            turns.remove(at);
            seen += 1;
        }
        assert_eq!((seen, turns.len()), (150, 0));
    }

    #[test]
    fn who_publishes_more_than_the_store_takes_waits_until_it_has() {
        let (mailboxes, _receivers) = mailboxes(SHARE);
        let publish = || mailboxes.publication(Bytes::from_static(b"said"));
        let mut under_way: Vec<Bytes> = (0..PUBLICATIONS).map(|_| publish()).collect();
        assert!(mailboxes.is_crowded(Queue::Publications) && !mailboxes.is_crowded(FIRST));
        let turns = wait(&mailboxes, Queue::Publications, 2);
        // One that others share is published when the last of them is.
        let shared = under_way[0].clone();
        under_way.remove(0);
        assert_eq!((have_come(&turns), &shared[..]), (vec![false, false], &b"said"[..]));
        drop(shared);
        assert_eq!(have_come(&turns), [true, false]);
        drop(under_way);
        assert_eq!(have_come(&turns), [true, true]);
        let large = mailboxes.publication(vec![0; PUBLICATIONS * PUBLICATION_BYTES].into());
        assert!(mailboxes.is_crowded(Queue::Publications));
        drop(large);
        // What waits for one queue and goes into another has its turn there.
        let crowd: Vec<Bytes> = (0..PUBLICATIONS).map(|_| publish()).collect();
        for _ in 0..100 {
            mailboxes.push_in_turn(Queue::Publications, 0, ShardMessage::Stop);
        }
        drop((crowd, turns));
        let mut taken = 0;
        while let Some(depth @ 1..) = mailboxes.depth(0) {
            mailboxes.taken(0, depth);
            taken += depth;
        }
        assert_eq!(taken, 100);
    }
}
