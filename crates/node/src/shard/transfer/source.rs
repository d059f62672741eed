//! The source's side of a transfer: the shard where the session lives. A state machine without I/O.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_admin::Profile;
use signalbox_cluster::{Address, NodeTag, Record, RoomName, SubjectList};
use signalbox_socketio::Joined;

use super::path::Path;
use crate::{
    policy::{Principal, SessionClient},
    routing::{ConnectionRef, VersionVector},
    session::{RoomKey, Socket},
};

/// How long the destination may take to get ready. On another node, its joins of rooms may have to wait for three seconds.
pub(in crate::shard) const PREPARE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what the destination has received on the channel of all may be on its way here. What has not come by then was missed
/// here, or published before this node was there.
pub(in crate::shard) const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// A session that is to move away.
#[derive(Debug)]
pub(in crate::shard) struct SourceTransfer {
    pub(in crate::shard) connection: ConnectionRef,
    pub(in crate::shard) path: Path,
    pub(in crate::shard) started: Instant,
    state: SourceState,
    /// What has changed in which rooms since the transfer began: per member the digest of its last change, `None` if it left.
    pub(in crate::shard) changes: Vec<(RoomKey, Address, Option<u64>)>,
}

#[derive(Debug)]
enum SourceState {
    /// The destination subscribes. Once it is ready, `ahead` is what it had received on the channel of all before it began to buffer.
    Preparing { markers_missing: usize, ahead: Option<VersionVector> },
    /// What the client has sent is being published, so that nothing it sends from its new node can overtake it.
    Flushing,
}

/// What the source does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard) enum SourceStep {
    /// Wait.
    Wait,
    /// Have everything published that the client has sent.
    Flush,
    /// Send the session.
    SendSession,
}

impl SourceTransfer {
    /// The transfer begins. `markers` is the number of ways on which broadcasts come from where the destination receives them: the
    /// shards of the node, or the session's rooms.
    pub(in crate::shard) fn prepare(
        now: Instant,
        path: Path,
        connection: ConnectionRef,
        markers: usize,
    ) -> Self {
        let state = SourceState::Preparing { markers_missing: markers, ahead: None };
        Self { connection, path, started: now, state, changes: Vec::new() }
    }

    /// The destination is ready.
    pub(in crate::shard) fn ready(&mut self, received_on_all: VersionVector) {
        if let SourceState::Preparing { ahead, .. } = &mut self.state {
            *ahead = Some(received_on_all);
        }
    }

    /// A marker has come: behind it, this way brings nothing that the destination does not receive as well.
    pub(in crate::shard) fn marker(&mut self) {
        if let SourceState::Preparing { markers_missing, .. } = &mut self.state {
            *markers_missing = markers_missing.saturating_sub(1);
        }
    }

    /// What comes next on node `here`, which has `received` so much on the channel of all.
    pub(in crate::shard) fn next(
        &mut self,
        now: Instant,
        here: NodeTag,
        received: &VersionVector,
    ) -> SourceStep {
        if !self.has_caught_up(now, here, received) {
            return SourceStep::Wait;
        }
        match self.path {
            Path::SameNode => SourceStep::SendSession,
            Path::OtherNode => {
                self.state = SourceState::Flushing;
                SourceStep::Flush
            }
        }
    }

    /// Whether this shard has received everything that the destination does not receive itself.
    fn has_caught_up(&self, now: Instant, here: NodeTag, received: &VersionVector) -> bool {
        let SourceState::Preparing { markers_missing: 0, ahead: Some(ahead) } = &self.state else {
            return false;
        };
        // What began here was received here before anybody else could receive it.
        let mut elsewhere = ahead.iter().filter(|(origin, _)| origin.node != here);
        self.started + CATCH_UP_TIMEOUT <= now
            || elsewhere.all(|(origin, sequence)| received.has_seen(origin, sequence))
    }

    /// A room has changed, which the session is told of here.
    pub(in crate::shard) fn note_change(&mut self, room: RoomKey, subject: Address, digest: Option<u64>) {
        self.changes.retain(|(of, socket, _)| (*of, *socket) != (room, subject));
        self.changes.push((room, subject, digest));
    }
}

/// A session that was sent to another node, which has not said yet that it has it. Each of its records is removed only by the node
/// that has it, so the clients are told once that it is gone, whoever dies.
pub(in crate::shard) struct UnconfirmedTransfer {
    pub(in crate::shard) memberships: Vec<(RoomName, Address)>,
    pub(in crate::shard) sockets: Vec<Joined<Socket>>,
    /// The subjects for which it is counted, here too until the other node has confirmed that it has it.
    pub(in crate::shard) counted: Vec<SubjectList>,
    /// What operators are told of it meanwhile: who and where its client is, since when, and what it joined its rooms with.
    pub(in crate::shard) client: SessionClient,
    pub(in crate::shard) opened: Instant,
    pub(in crate::shard) records: Vec<(RoomName, Record)>,
}

impl UnconfirmedTransfer {
    /// Who its client is in the namespace of a socket.
    pub(in crate::shard) fn principal_of(&self, socket: Address) -> Option<&Arc<Principal>> {
        let joined = self.sockets.iter().find(|joined| joined.socket.id == socket)?;
        joined.socket.principal.as_ref()
    }

    /// What a socket joined a room with.
    pub(in crate::shard) fn profile(&self, room: &RoomName, socket: Address) -> Profile {
        let found = self.records.iter().find(|(name, record)| name == room && record.socket == socket);
        found.map_or_else(Profile::default, |(_, record)| Profile::of(&record.profile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Origin;

    const HERE: NodeTag = NodeTag(1);
    const THERE: NodeTag = NodeTag(2);
    const THIRD: NodeTag = NodeTag(3);

    fn connection() -> ConnectionRef {
        ConnectionRef { node: THERE, shard: 0, key: 0, number: 1 }
    }

    fn received(broadcasts: &[(NodeTag, u64)]) -> VersionVector {
        let mut vector = VersionVector::default();
        for (node, sequence) in broadcasts {
            vector.record(Origin { node: *node, shard: 0 }, *sequence);
        }
        vector
    }

    #[test]
    fn what_was_missed_on_the_channel_of_all_is_not_waited_for_forever() {
        let now = Instant::now();
        let transfer = || {
            let mut transfer = SourceTransfer::prepare(now, Path::OtherNode, connection(), 0);
            transfer.ready(received(&[(HERE, 9), (THIRD, 7)]));
            transfer
        };
        assert_eq!(transfer().next(now, HERE, &received(&[(THIRD, 7)])), SourceStep::Flush);
        assert_eq!(transfer().next(now, HERE, &received(&[(THIRD, 6)])), SourceStep::Wait);
        // It began after the third node had published anything to all.
        assert_eq!(transfer().next(now, HERE, &VersionVector::default()), SourceStep::Wait);
        assert_eq!(
            transfer().next(now + CATCH_UP_TIMEOUT, HERE, &VersionVector::default()),
            SourceStep::Flush
        );
    }

    #[test]
    fn all_markers_and_the_destination_are_waited_for_in_any_order() {
        let (now, nothing) = (Instant::now(), VersionVector::default());
        let late = now + CATCH_UP_TIMEOUT;
        for ready_first in [true, false] {
            let mut transfer = SourceTransfer::prepare(now, Path::SameNode, connection(), 2);
            assert_eq!(transfer.next(late, HERE, &nothing), SourceStep::Wait);
            if ready_first {
                transfer.ready(nothing.clone());
            }
            transfer.marker();
            assert_eq!(transfer.next(late, HERE, &nothing), SourceStep::Wait);
            transfer.marker();
            if !ready_first {
                assert_eq!(transfer.next(late, HERE, &nothing), SourceStep::Wait);
                transfer.ready(nothing.clone());
            }
            assert_eq!(transfer.next(now, HERE, &nothing), SourceStep::SendSession);
        }
    }

    #[test]
    fn between_nodes_the_session_is_flushed_once() {
        let (now, nothing) = (Instant::now(), VersionVector::default());
        let mut transfer = SourceTransfer::prepare(now, Path::OtherNode, connection(), 0);
        transfer.ready(nothing.clone());
        assert_eq!(transfer.next(now, HERE, &nothing), SourceStep::Flush);
        assert_eq!(transfer.next(now, HERE, &nothing), SourceStep::Wait);
        transfer.marker();
        transfer.ready(nothing.clone());
        assert_eq!(transfer.next(now, HERE, &nothing), SourceStep::Wait);
    }

    #[test]
    fn of_each_member_the_last_change_counts() {
        let mut transfer = SourceTransfer::prepare(Instant::now(), Path::OtherNode, connection(), 1);
        let (a, b) = (Address::from_bytes([1; 15]), Address::from_bytes([2; 15]));
        for (room, subject, digest) in [(1, a, Some(1)), (1, b, Some(2)), (2, a, Some(3)), (1, a, None)] {
            transfer.note_change(room, subject, digest);
        }
        assert_eq!(transfer.changes, [(1, b, Some(2)), (2, a, Some(3)), (1, a, None)]);
    }
}
