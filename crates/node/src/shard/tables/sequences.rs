//! The numbers of broadcasts: how many began here, and the last one that was received of each origin.

use crate::routing::{Broadcast, Origin, VersionVector};

/// The numbers of broadcasts, but for those in rooms that began on other nodes: these are each room's own.
pub(in crate::shard) struct Sequences {
    /// Where this shard's broadcasts come from.
    here: Origin,
    /// Broadcasts that began here.
    begun: u64,
    /// The last broadcast received of each shard of this node.
    pub(in crate::shard) of_shards: Box<[u64]>,
    /// The last broadcast of each shard of any node that goes on the channel of all between nodes.
    pub(in crate::shard) on_all: VersionVector,
}

impl Sequences {
    /// `shards` is how many the node has.
    pub(in crate::shard) fn new(here: Origin, shards: usize) -> Self {
        Self { here, begun: 0, of_shards: vec![0; shards].into(), on_all: VersionVector::default() }
    }

    /// Numbers a broadcast that begins here.
    pub(in crate::shard) fn next(&mut self) -> (Origin, u64) {
        self.begun += 1;
        (self.here, self.begun)
    }

    /// A broadcast has reached this shard, `in_room` or on the channel of all. Whether it is one of another node's in a room, whose
    /// number the room is to keep.
    #[must_use]
    pub(in crate::shard) fn record(&mut self, broadcast: &Broadcast, in_room: bool) -> bool {
        let Broadcast { origin, sequence, .. } = *broadcast;
        let is_of_here = origin.node == self.here.node;
        if is_of_here && let Some(received) = self.of_shards.get_mut(usize::from(origin.shard)) {
            *received = sequence;
        }
        if !in_room {
            // One of this node goes on the channel of all too, where the source of a session that moves here has yet to receive it.
            self.on_all.record(origin, sequence);
        }
        in_room && !is_of_here
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signalbox_cluster::NodeTag;
    use signalbox_socketio::Message;

    use super::*;
    use crate::routing::Audience;

    const HERE: Origin = Origin { node: NodeTag(1), shard: 1 };
    const NEIGHBOUR: Origin = Origin { node: NodeTag(1), shard: 0 };
    const ELSEWHERE: Origin = Origin { node: NodeTag(2), shard: 0 };

    fn broadcast(origin: Origin, sequence: u64) -> Broadcast {
        let to = Audience {
            namespace: "/".into(),
            rooms: Vec::new(),
            except: Vec::new(),
            except_rooms: Vec::new(),
        };
        let message = Message::disconnect("/");
        Broadcast {
            to: Arc::new(to),
            message,
            volatile: false,
            origin,
            sequence,
            published: None,
            trace: None,
        }
    }

    #[test]
    fn a_room_keeps_the_numbers_of_other_nodes_and_the_shard_all_others() {
        let mut sequences = Sequences::new(HERE, 2);
        assert_eq!((sequences.next(), sequences.next()), ((HERE, 1), (HERE, 2)));
        assert!(!sequences.record(&broadcast(NEIGHBOUR, 5), true));
        assert!(!sequences.record(&broadcast(HERE, 2), false));
        assert!(sequences.record(&broadcast(ELSEWHERE, 7), true));
        assert!(!sequences.record(&broadcast(ELSEWHERE, 8), false));
        assert_eq!(*sequences.of_shards, [5, 2]);
        assert!(sequences.on_all.has_seen(HERE, 2) && sequences.on_all.has_seen(ELSEWHERE, 8));
        assert!(!sequences.on_all.has_seen(NEIGHBOUR, 1) && !sequences.on_all.has_seen(ELSEWHERE, 9));
    }
}
