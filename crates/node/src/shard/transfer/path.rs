//! Where a session moves.

use crate::routing::Location;

/// Between two shards of one node, or two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard) enum Path {
    /// To another shard of its node: what both ends send each other stays in this process.
    SameNode,
    OtherNode,
}

impl Path {
    pub(in crate::shard) fn between(one: Location, other: Location) -> Self {
        if one.node == other.node { Self::SameNode } else { Self::OtherNode }
    }
}
