//! Addresses of shards and connections, and the numbers of requests.

use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, NodeTag, ShardId};

/// A shard of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) node: NodeTag,
    pub(crate) shard: ShardId,
}

impl Location {
    /// Where a session or socket was born.
    pub(crate) fn birth(address: Address) -> Self {
        Self { node: address.node(), shard: address.shard() }
    }
}

/// A WebSocket that wants to become a session's transport, and the shard it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionRef {
    pub(crate) node: NodeTag,
    pub(crate) shard: ShardId,
    pub(crate) key: u32,
    /// Tells it from an earlier one with the same key.
    pub(crate) number: u64,
}

impl ConnectionRef {
    /// The shard it is on.
    pub(crate) fn location(self) -> Location {
        Location { node: self.node, shard: self.shard }
    }
}

/// The number of a request, unlike any other's on any node: the node where the request landed, and a counter there.
pub(crate) fn request_number(node: NodeTag, counter: u64) -> u64 {
    u64::from(node.0) << 32 | counter & 0xFFFF_FFFF
}

/// The node where a request landed.
pub(crate) fn node_of_request(number: u64) -> NodeTag {
    NodeTag((number >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_number_names_its_node() {
        let number = request_number(NodeTag(0xABCD_0123), u64::MAX);
        assert_eq!(node_of_request(number), NodeTag(0xABCD_0123));
    }
}
