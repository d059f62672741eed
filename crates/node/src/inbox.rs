//! The shards' inboxes: how anything reaches the one thread that owns a session.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use signalbox_cluster::{BusDelivery, Delivery, DeliverySink, Owner, ShardId};
use signalbox_telemetry::Metrics;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{mailbox::ShardMessage, mailbox::TransferMessage, node::NodeShared, wire::BusMessage};

/// One shard's inbox, from outside.
///
/// The channel itself has no bound; the bound is kept by those who put something in. What may be refused is refused once the
/// inbox is full. What may not (an answer, a change of a room, a session that moves) has a cause that was admitted while it was
/// not full, so there is only so much of it.
#[derive(Debug)]
struct Inbox {
    sender: UnboundedSender<ShardMessage>,
    depth: AtomicUsize,
}

/// A shard is too far behind to take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// All inboxes of a node.
pub(crate) struct Inboxes {
    inboxes: Vec<Inbox>,
    limit: usize,
    metrics: Metrics,
    /// The node they belong to, once there is one.
    node: OnceLock<Weak<NodeShared>>,
}

impl Inboxes {
    pub(crate) fn new(
        shards: usize,
        limit: usize,
        metrics: Metrics,
    ) -> (Self, Vec<UnboundedReceiver<ShardMessage>>) {
        let (inboxes, receivers) = (0..shards)
            .map(|_| {
                let (sender, receiver) = unbounded_channel();
                (Inbox { sender, depth: AtomicUsize::new(0) }, receiver)
            })
            .unzip();
        (Self { inboxes, limit, metrics, node: OnceLock::new() }, receivers)
    }

    /// Tells the inboxes whose they are.
    pub(crate) fn belong_to(&self, node: Weak<NodeShared>) {
        let _ = self.node.set(node);
    }

    /// The node they belong to.
    pub(crate) fn node(&self) -> Option<Arc<NodeShared>> {
        self.node.get()?.upgrade()
    }

    pub(crate) fn len(&self) -> usize {
        self.inboxes.len()
    }

    /// Puts something in that may not be refused.
    pub(crate) fn push(&self, shard: ShardId, message: ShardMessage) {
        if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
            inbox.depth.fetch_add(1, Ordering::Relaxed);
            // The receiver is gone only when the node has stopped.
            let _ = inbox.sender.send(message);
        }
    }

    /// Puts a request in, unless the inbox is full or there is no such shard.
    pub(crate) fn request(&self, shard: ShardId, message: ShardMessage) -> Result<(), Busy> {
        if usize::from(shard) >= self.inboxes.len() || self.is_full(shard) {
            self.metrics.inbox_refused.inc();
            return Err(Busy);
        }
        self.push(shard, message);
        Ok(())
    }

    /// Puts a broadcast in, or drops it when the inbox is full.
    pub(crate) fn broadcast(&self, shard: ShardId, message: ShardMessage) -> bool {
        let fits = !self.is_full(shard);
        if fits {
            self.push(shard, message);
        } else {
            self.metrics.inbox_dropped.inc();
        }
        fits
    }

    pub(crate) fn is_full(&self, shard: ShardId) -> bool {
        self.inboxes
            .get(usize::from(shard))
            .is_none_or(|inbox| inbox.depth.load(Ordering::Relaxed) >= self.limit)
    }

    /// The shard has taken `count` messages out.
    pub(crate) fn taken(&self, shard: ShardId, count: usize) {
        if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
            inbox.depth.fetch_sub(count, Ordering::Relaxed);
        }
    }
}

impl DeliverySink for Inboxes {
    fn deliver(&self, shard: ShardId, delivery: Delivery) {
        self.push(shard, ShardMessage::Cluster(delivery));
    }

    fn offer(&self, shard: ShardId, delivery: Delivery) -> bool {
        self.broadcast(shard, ShardMessage::Cluster(delivery))
    }

    fn is_congested(&self, shard: ShardId) -> bool {
        self.is_full(shard)
    }

    fn deliver_broadcast(&self, heard: BusDelivery) {
        match BusMessage::decode(heard.from.tag, &heard.payload) {
            Ok(BusMessage::Broadcast(broadcast)) => {
                let tell = |shard| {
                    self.broadcast(shard, ShardMessage::Broadcast(broadcast.clone()));
                };
                match heard.route {
                    Some(route) => route.shards().for_each(tell),
                    None => (0..self.len()).map(|shard| shard as ShardId).for_each(tell),
                }
            }
            Ok(BusMessage::Marker(marker)) => {
                if self.node().is_some_and(|node| node.tag == marker.source.node) {
                    let step = TransferMessage::MarkerHeard { marker, is_current: heard.is_current };
                    self.push(marker.source.shard, ShardMessage::Move(step));
                }
            }
            Err(_) => self.metrics.bus_refused.inc(),
        }
    }

    fn deliver_node_message(&self, _: Owner, payload: Bytes) {
        if let Some(node) = self.node() {
            node.told(&payload);
        }
    }
}
