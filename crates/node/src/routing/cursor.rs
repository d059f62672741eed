//! What a session received before its transfer, so that the destination delivers nothing twice.

use std::{hash::Hasher as _, time::Instant};

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, NodeTag, RoomName, command::Change};

use super::{Broadcast, VersionVector};

/// The part of a change's id that tells apart what differed in one snapshot.
const VERSION_BITS: u32 = 16;

/// What a session received before its transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryCursor {
    /// The node it was on.
    pub(crate) node: NodeTag,
    /// The last broadcast of each shard there.
    pub(crate) sequences: Vec<u64>,
    /// The last ones of other nodes on the channel of all.
    pub(crate) on_all: VersionVector,
    /// The same of each of its rooms.
    pub(crate) rooms: Vec<RoomCursor>,
}

/// What a session received in one of its rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoomCursor {
    pub(crate) room: RoomName,
    /// The last broadcasts of other nodes.
    pub(crate) broadcasts: VersionVector,
    /// The number of the last change.
    pub(crate) last_change: u128,
    /// What changed last about whom while the session was about to move: the digest of the record, `None` for one that left.
    pub(crate) changes: Vec<(Address, Option<u64>)>,
}

/// A cursor that the destination keeps for a while after the transfer.
pub(crate) struct DedupWindow {
    pub(crate) cursor: DeliveryCursor,
    pub(crate) until: Instant,
}

impl DeliveryCursor {
    fn room(&self, name: &RoomName) -> Option<&RoomCursor> {
        self.rooms.iter().find(|seen| seen.room == *name)
    }

    /// Whether the session has received this.
    pub(crate) fn has_seen(&self, broadcast: &Broadcast) -> bool {
        let Broadcast { origin, sequence, .. } = *broadcast;
        if origin.node == self.node {
            return self.sequences.get(usize::from(origin.shard)).is_some_and(|last| sequence <= *last);
        }
        match broadcast.to.channel() {
            None => self.on_all.has_seen(origin, sequence),
            Some(name) => self.room(&name).is_some_and(|seen| seen.broadcasts.has_seen(origin, sequence)),
        }
    }

    /// Whether the session has received a change. It counts as received from then on.
    ///
    /// For changes of its own node the number decides. Two nodes number the differences of a snapshot differently, behind the number
    /// of its version; such a difference may hold changes that the session has received one by one.
    pub(crate) fn was_told(&mut self, here: NodeTag, room: &RoomName, number: u128, change: &Change) -> bool {
        let is_here = self.node == here;
        let Some(seen) = self.rooms.iter_mut().find(|seen| seen.room == *room) else { return false };
        if is_here {
            return number <= seen.last_change;
        }
        if number >> VERSION_BITS <= seen.last_change >> VERSION_BITS {
            return true;
        }
        let about = change.record().socket;
        let Some(index) = seen.changes.iter().position(|(socket, _)| *socket == about) else { return false };
        let (_, known) = seen.changes.swap_remove(index);
        known == digest(change)
    }
}

/// A digest that differs between records; `None` for none. FNV-1a, the same on every node.
pub(crate) fn digest(change: &Change) -> Option<u64> {
    let record = match change {
        Change::Joined(record) | Change::Updated(record) => record,
        Change::Left(_) => return None,
    };
    let bytes = postcard::to_stdvec(&**record).unwrap_or_default();
    let mut hasher = FnvHasher::default();
    hasher.write(&bytes);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signalbox_cluster::Record;

    use super::*;

    #[test]
    fn a_difference_of_another_node_is_news_only_in_part() {
        let (here, there) = (NodeTag(1), NodeTag(2));
        let name = RoomName { namespace: "/".into(), name: "room".into() };
        let number = |version: u128, part: u128| version << VERSION_BITS | part;
        let record = |socket, profile: &str| {
            let socket = Address::from_bytes([socket; 15]);
            Arc::new(Record { socket, profile: profile.into(), joined: None, updated: None, left: None })
        };
        let (a, b, c) = (record(1, "a"), record(2, "b"), record(3, "c"));
        let joined = |record: &Arc<Record>| Change::Joined(record.clone());
        let left = |record: &Arc<Record>| Change::Left(record.clone());
        // There the client learned that B has come and C has gone, up to version 5.
        let room = RoomCursor {
            room: name.clone(),
            broadcasts: VersionVector::default(),
            last_change: number(5, 0),
            changes: vec![(b.socket, digest(&joined(&b))), (c.socket, None)],
        };
        let (sequences, on_all) = (Vec::new(), VersionVector::default());
        let mut seen = DeliveryCursor { node: there, sequences, on_all, rooms: vec![room] };
        let mut received = |number, change| seen.was_told(here, &name, number, &change);
        // The version that was received, whatever its part.
        assert!(received(number(5, 3), joined(&a)));
        // A difference up to version 7: A is news, B and C are not.
        assert!(!received(number(7, 0), joined(&a)));
        assert!(received(number(7, 1), joined(&b)));
        assert!(received(number(7, 2), left(&c)));
        // From then on they change as anybody.
        assert!(!received(number(8, 0), left(&b)));
        assert!(!received(number(9, 0), joined(&b)));
    }

    #[test]
    fn on_the_same_node_the_number_decides() {
        let name = RoomName { namespace: "/".into(), name: "room".into() };
        let record = Record {
            socket: Address::from_bytes([1; 15]),
            profile: "{}".into(),
            joined: None,
            updated: None,
            left: None,
        };
        let change = Change::Joined(Arc::new(record));
        let (broadcasts, changes) = (VersionVector::default(), Vec::new());
        let room = RoomCursor { room: name.clone(), broadcasts, last_change: 0x5_0001, changes };
        let (sequences, on_all) = (Vec::new(), VersionVector::default());
        let mut seen = DeliveryCursor { node: NodeTag(1), sequences, on_all, rooms: vec![room] };
        assert!(seen.was_told(NodeTag(1), &name, 0x5_0001, &change));
        assert!(!seen.was_told(NodeTag(1), &name, 0x5_0002, &change));
    }
}
