//! Which shard of this node has a session or socket: read by every worker without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use signalbox_cluster::{Address, Cluster, NodeTag, ShardId};

/// The addresses that this node answers for: those born here, and those that have moved here from other nodes.
#[derive(Debug)]
pub(crate) struct LocalAddresses {
    pub(crate) node: NodeTag,
    pub(crate) shards: usize,
    moved_in: papaya::HashMap<Address, ShardId, ahash::RandomState>,
    /// Sessions that have left a shard of this node for another one.
    departures: AtomicU64,
}

impl LocalAddresses {
    pub(crate) fn new(node: NodeTag, shards: usize) -> Self {
        Self { node, shards, moved_in: papaya::HashMap::default(), departures: AtomicU64::new(0) }
    }

    /// The shard that knows where an address is: it was born there, or has moved there from another node.
    pub(crate) fn shard_of(&self, address: Address) -> Option<ShardId> {
        if address.node() != self.node {
            return self.moved_in.pin().get(&address).copied();
        }
        (usize::from(address.shard()) < self.shards).then(|| address.shard())
    }

    /// Whether an address names a node that the cluster knows, or has moved here from one that is gone. Anything else of its shape is
    /// just a name: ids of databases have it too.
    pub(crate) fn is_known(&self, address: Address, cluster: &Cluster) -> bool {
        self.shard_of(address).is_some() || cluster.nodes().contains_key(&address.node())
    }

    /// A session leaves a shard of this node for another one: for a moment it is on neither.
    pub(crate) fn note_departure(&self) {
        self.departures.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have left so far.
    pub(crate) fn departures(&self) -> u64 {
        self.departures.load(Ordering::Relaxed)
    }

    /// An address of another node moves to a shard of this one.
    pub(crate) fn move_in(&self, address: Address, shard: ShardId) {
        self.moved_in.pin().insert(address, shard);
    }

    /// An address of another node is over, or has moved on.
    pub(crate) fn remove(&self, address: Address) {
        self.moved_in.pin().remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_where_it_was_born_or_has_moved_to() {
        let addresses = LocalAddresses::new(NodeTag(1), 2);
        assert_eq!(addresses.shard_of(Address::random(NodeTag(1), 1)), Some(1));
        assert_eq!(addresses.shard_of(Address::random(NodeTag(1), 2)), None);
        let foreign = Address::random(NodeTag(2), 7);
        assert_eq!(addresses.shard_of(foreign), None);
        addresses.move_in(foreign, 0);
        assert_eq!(addresses.shard_of(foreign), Some(0));
        addresses.remove(foreign);
        assert_eq!(addresses.shard_of(foreign), None);
    }
}
