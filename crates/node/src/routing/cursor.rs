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

    /// What the session is to be told of a change: nothing if it was told already. It counts as told from then on.
    ///
    /// Of a node's own changes the number says all. Two nodes number what differed in a snapshot differently, behind the number of
    /// its version; such a difference may hold what the session was told one by one.
    ///
    /// A node that has missed changes tells the next one of a member as a difference to what it knew. To the session, a member may
    /// have left and come back meanwhile: what updates it for others is its coming for this one, and the other way round.
    pub(crate) fn news(
        &mut self,
        here: NodeTag,
        room: &RoomName,
        number: u128,
        change: &Change,
    ) -> Option<Change> {
        let is_here = self.node == here;
        let news = || Some(change.clone());
        let Some(seen) = self.rooms.iter_mut().find(|seen| seen.room == *room) else { return news() };
        if is_here {
            return news().filter(|_| number > seen.last_change);
        }
        if number >> VERSION_BITS <= seen.last_change >> VERSION_BITS {
            return None;
        }
        let about = change.record().socket;
        let Some(index) = seen.changes.iter().position(|(socket, _)| *socket == about) else { return news() };
        let (_, known) = seen.changes.swap_remove(index);
        if known == digest(change) {
            return None;
        }
        Some(match (known, change) {
            (None, Change::Updated(record)) => Change::Joined(record.clone()),
            (Some(_), Change::Joined(record)) => Change::Updated(record.clone()),
            (_, change) => change.clone(),
        })
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
        let mut received = |number, change| seen.news(here, &name, number, &change).is_none();
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
        assert!(seen.news(NodeTag(1), &name, 0x5_0001, &change).is_none());
        assert!(seen.news(NodeTag(1), &name, 0x5_0002, &change).is_some());
    }

    #[test]
    fn a_member_that_came_back_is_not_only_updated() {
        let name = RoomName { namespace: "/".into(), name: "room".into() };
        let record = |socket, profile: &str| {
            let socket = Address::from_bytes([socket; 15]);
            Arc::new(Record { socket, profile: profile.into(), joined: None, updated: None, left: None })
        };
        let (a, b) = (record(1, "old"), record(2, "old"));
        // There the client was told that A has gone and B has come.
        let changes = vec![(a.socket, None), (b.socket, digest(&Change::Joined(b.clone())))];
        let (broadcasts, last_change) = (VersionVector::default(), 5 << VERSION_BITS);
        let room = RoomCursor { room: name.clone(), broadcasts, last_change, changes };
        let (sequences, on_all) = (Vec::new(), VersionVector::default());
        let mut seen = DeliveryCursor { node: NodeTag(2), sequences, on_all, rooms: vec![room] };
        let mut news = |version: u128, change| seen.news(NodeTag(1), &name, version << VERSION_BITS, &change);
        // This node has missed both.
        let (a, b) = (record(1, "new"), record(2, "new"));
        assert!(matches!(news(7, Change::Updated(a.clone())), Some(Change::Joined(_))));
        assert!(matches!(news(8, Change::Joined(b)), Some(Change::Updated(_))));
        assert!(matches!(news(9, Change::Updated(a)), Some(Change::Updated(_))));
    }
}
