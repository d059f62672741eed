//! Takes what a cluster delivers, in the place of shards.

use bytes::Bytes;
use parking_lot::Mutex;
use signalbox_cluster::{BusDelivery, ClusterEvent, Delivery, DeliverySink, Owner, ShardId};

/// Everything that a cluster has delivered, in order; a test looks at it, and takes out what it has seen.
#[derive(Debug, Default)]
pub struct Mailboxes {
    /// For shards: answers, changes of rooms, peer messages.
    pub deliveries: Mutex<Vec<Delivery>>,
    /// Broadcasts of other nodes, encoded.
    pub broadcasts: Mutex<Vec<Bytes>>,
    /// Messages of other nodes, encoded.
    pub node_messages: Mutex<Vec<Bytes>>,
    /// What happened to the cluster.
    pub events: Mutex<Vec<ClusterEvent>>,
}

impl DeliverySink for Mailboxes {
    fn deliver(&self, _: ShardId, delivery: Delivery) {
        self.deliveries.lock().push(delivery);
    }

    fn offer(&self, shard: ShardId, delivery: Delivery) -> bool {
        self.deliver(shard, delivery);
        true
    }

    fn is_congested(&self, _: ShardId) -> bool {
        false
    }

    fn deliver_broadcast(&self, broadcast: BusDelivery) {
        self.broadcasts.lock().push(broadcast.payload);
    }

    fn deliver_node_message(&self, _: Owner, payload: Bytes) {
        self.node_messages.lock().push(payload);
    }

    fn observe(&self, event: ClusterEvent) {
        self.events.lock().push(event);
    }
}
