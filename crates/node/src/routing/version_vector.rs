//! The last broadcast of each origin.
//!
//! Two broadcasts of one origin keep their order on the way to one shard of the same node, and between nodes where they go through
//! the same channel (a room's, or that of all). So one number for each origin and channel says which of them have come.

use serde::{Deserialize, Serialize};
use signalbox_cluster::NodeTag;

use super::Origin;

/// The last broadcast of each origin, in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionVector(Vec<(Origin, u64)>);

impl VersionVector {
    /// A broadcast has come.
    pub(crate) fn record(&mut self, origin: Origin, sequence: u64) {
        match self.0.binary_search_by_key(&origin, |(origin, _)| *origin) {
            Ok(index) => self.0[index].1 = sequence,
            Err(index) => self.0.insert(index, (origin, sequence)),
        }
    }

    /// Whether it has come.
    pub(crate) fn has_seen(&self, origin: Origin, sequence: u64) -> bool {
        let index = self.0.binary_search_by_key(&origin, |(origin, _)| *origin);
        index.is_ok_and(|index| sequence <= self.0[index].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Origin, u64)> {
        self.0.iter().copied()
    }

    /// Forgets origins that will not broadcast any more.
    pub(crate) fn retain(&mut self, keeps: impl Fn(NodeTag) -> bool) {
        self.0.retain(|(origin, _)| keeps(origin.node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_origin_counts() {
        let origin = |node, shard| Origin { node: NodeTag(node), shard };
        let mut lasts = VersionVector::default();
        for (node, shard, sequence) in [(2, 0, 5), (1, 1, 3), (1, 0, 9), (1, 1, 4)] {
            lasts.record(origin(node, shard), sequence);
        }
        assert!(lasts.has_seen(origin(1, 1), 4) && !lasts.has_seen(origin(1, 1), 5));
        assert!(lasts.has_seen(origin(2, 0), 1) && !lasts.has_seen(origin(2, 1), 1));
        lasts.retain(|node| node == NodeTag(2));
        assert_eq!(lasts.iter().collect::<Vec<_>>(), [(origin(2, 0), 5)]);
    }
}
