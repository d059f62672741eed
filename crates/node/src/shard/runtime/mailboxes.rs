//! The shards' mailboxes: how anything reaches the one thread that owns a session.

use std::sync::atomic::{AtomicUsize, Ordering};

use signalbox_cluster::ShardId;
use signalbox_telemetry::Metrics;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::shard::mailbox::ShardMessage;

/// One shard's mailbox, from outside.
///
/// The channel itself has no bound; those who put something in keep the bound. What may be refused is refused once the mailbox is
/// full. What may not (an answer, a change of a room, a session that moves) results only from requests that were admitted while it
/// was not full, so its number is bounded.
#[derive(Debug)]
struct Mailbox {
    sender: UnboundedSender<ShardMessage>,
    depth: AtomicUsize,
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
                (Mailbox { sender, depth: AtomicUsize::new(0) }, receiver)
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

    pub(crate) fn is_full(&self, shard: ShardId) -> bool {
        self.mailboxes
            .get(usize::from(shard))
            .is_none_or(|mailbox| mailbox.depth.load(Ordering::Relaxed) >= self.limit)
    }

    /// The shard has taken `count` messages out.
    pub(crate) fn taken(&self, shard: ShardId, count: usize) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(shard)) {
            mailbox.depth.fetch_sub(count, Ordering::Relaxed);
        }
    }
}
