//! The destination's side of a transfer: the shard where the session's WebSocket is. A state machine without I/O.

use std::time::{Duration, Instant};

use signalbox_cluster::{RoomName, command::Change};
use signalbox_socketio::Message;

use super::{path::Path, source::PREPARE_TIMEOUT};
use crate::{
    routing::{Broadcast, ConnectionRef, Location, VersionVector},
    session::RoomKey,
};

/// How long the session may take to come: longer than the source waits, so that it is the source that gives a late transfer up.
pub(in crate::shard) const ARRIVAL_TIMEOUT: Duration = PREPARE_TIMEOUT.saturating_mul(2);
/// Most messages buffered for a session on its way.
const MAX_BUFFERED: usize = 10_000;

/// A session that is to move here.
#[derive(Debug)]
pub(in crate::shard) struct DestinationTransfer {
    pub(in crate::shard) connection: ConnectionRef,
    pub(in crate::shard) source: Location,
    pub(in crate::shard) path: Path,
    pub(in crate::shard) started: Instant,
    /// The rooms of its sockets, which this shard keeps open for it.
    pub(in crate::shard) rooms: Vec<RoomKey>,
    state: DestinationState,
    /// Markers of the source that have come, one through each room: what the client has said before is here.
    source_markers: usize,
    buffered: Vec<BufferedEvent>,
    has_overflowed: bool,
}

#[derive(Debug)]
enum DestinationState {
    /// Some shard of this node may not know yet that this one receives what the session would, or this node may not be subscribed
    /// to all of its rooms.
    Subscribing { markers_missing: usize, is_subscribed: bool, received_on_all: VersionVector },
    /// Everything the session would receive is buffered; the source knows.
    Buffering,
}

/// A session that is here, whose client is not read yet: what it has said on its former node is still on its way to the members of its
/// rooms that are here, and must not be overtaken.
#[derive(Debug)]
pub(in crate::shard) struct CatchingUp {
    pub(in crate::shard) connection: ConnectionRef,
    pub(in crate::shard) key: u32,
    pub(in crate::shard) number: u64,
    pub(in crate::shard) markers_missing: usize,
    pub(in crate::shard) until: Instant,
}

/// Received meanwhile, for the session.
#[derive(Debug)]
pub(in crate::shard) enum BufferedEvent {
    Broadcast(Broadcast),
    Change { room: RoomName, number: u128, change: Change, message: Message },
}

impl DestinationTransfer {
    /// From another shard of this node: the markers go to the source, so everything is buffered at once.
    pub(in crate::shard) fn from_shard(
        now: Instant,
        source: Location,
        connection: ConnectionRef,
        rooms: Vec<RoomKey>,
    ) -> Self {
        Self::new(now, Path::SameNode, source, connection, rooms, DestinationState::Buffering)
    }

    /// From another node; each of this node's `shards` has to say that it knows.
    pub(in crate::shard) fn from_node(
        now: Instant,
        source: Location,
        connection: ConnectionRef,
        rooms: Vec<RoomKey>,
        shards: usize,
        received_on_all: VersionVector,
    ) -> Self {
        let state =
            DestinationState::Subscribing { markers_missing: shards, is_subscribed: false, received_on_all };
        Self::new(now, Path::OtherNode, source, connection, rooms, state)
    }

    fn new(
        now: Instant,
        path: Path,
        source: Location,
        connection: ConnectionRef,
        rooms: Vec<RoomKey>,
        state: DestinationState,
    ) -> Self {
        let (buffered, has_overflowed) = (Vec::new(), false);
        Self {
            connection,
            source,
            path,
            started: now,
            rooms,
            state,
            source_markers: 0,
            buffered,
            has_overflowed,
        }
    }

    /// A shard of this node knows that this one receives what the session would.
    pub(in crate::shard) fn marker(&mut self) {
        if let DestinationState::Subscribing { markers_missing, .. } = &mut self.state {
            *markers_missing = markers_missing.saturating_sub(1);
        }
    }

    /// This node is subscribed to all rooms of the session.
    pub(in crate::shard) fn subscribed(&mut self) {
        if let DestinationState::Subscribing { is_subscribed, .. } = &mut self.state {
            *is_subscribed = true;
        }
    }

    /// Once everything is buffered, says so with what had been received on the channel of all before: the source is to be told, and
    /// a marker to be published in each room.
    pub(in crate::shard) fn become_ready(&mut self) -> Option<VersionVector> {
        let DestinationState::Subscribing { markers_missing: 0, is_subscribed: true, received_on_all } =
            &mut self.state
        else {
            return None;
        };
        let received_on_all = std::mem::take(received_on_all);
        self.state = DestinationState::Buffering;
        Some(received_on_all)
    }

    /// A marker of the source has come through a room.
    pub(in crate::shard) fn source_marker(&mut self) {
        self.source_markers += 1;
    }

    /// How many markers of the source are on their way.
    pub(in crate::shard) fn source_markers_missing(&self) -> usize {
        match self.path {
            Path::SameNode => 0,
            Path::OtherNode => self.rooms.len().saturating_sub(self.source_markers),
        }
    }

    /// Whether the source still waits for word from here.
    pub(in crate::shard) fn is_subscribing(&self) -> bool {
        matches!(self.state, DestinationState::Subscribing { .. })
    }

    pub(in crate::shard) fn buffer(&mut self, event: BufferedEvent) {
        if self.buffered.len() < MAX_BUFFERED {
            self.buffered.push(event);
        } else {
            self.has_overflowed = true;
        }
    }

    /// What was buffered, in order; `None` when there was too much.
    pub(in crate::shard) fn into_buffered(self) -> Option<Vec<BufferedEvent>> {
        (!self.has_overflowed).then_some(self.buffered)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signalbox_cluster::NodeTag;

    use super::*;
    use crate::routing::{Audience, Origin};

    const SOURCE: Location = Location { node: NodeTag(1), shard: 0 };

    fn connection() -> ConnectionRef {
        ConnectionRef { node: NodeTag(2), shard: 1, key: 0, number: 1 }
    }

    #[test]
    fn it_is_ready_once_with_all_markers_and_subscriptions() {
        let mut received = VersionVector::default();
        received.record(Origin { node: NodeTag(3), shard: 0 }, 5);
        for subscribed_first in [true, false] {
            let mut transfer = DestinationTransfer::from_node(
                Instant::now(),
                SOURCE,
                connection(),
                Vec::new(),
                2,
                received.clone(),
            );
            if subscribed_first {
                transfer.subscribed();
            }
            transfer.marker();
            assert_eq!(transfer.become_ready(), None);
            transfer.marker();
            if !subscribed_first {
                assert_eq!(transfer.become_ready(), None);
                transfer.subscribed();
            }
            assert!(transfer.is_subscribing());
            assert_eq!(transfer.become_ready(), Some(received.clone()));
            assert!(!transfer.is_subscribing());
            assert_eq!(transfer.become_ready(), None);
        }
    }

    #[test]
    fn between_nodes_what_the_client_said_before_is_waited_for() {
        let (now, received) = (Instant::now(), VersionVector::default());
        let mut transfer = DestinationTransfer::from_node(now, SOURCE, connection(), vec![1, 2], 1, received);
        assert_eq!(transfer.source_markers_missing(), 2);
        transfer.source_marker();
        assert_eq!(transfer.source_markers_missing(), 1);
        let transfer = DestinationTransfer::from_shard(now, SOURCE, connection(), vec![1, 2]);
        assert_eq!(transfer.source_markers_missing(), 0);
    }

    #[test]
    fn within_a_node_the_source_counts_the_markers() {
        let mut transfer = DestinationTransfer::from_shard(Instant::now(), SOURCE, connection(), Vec::new());
        assert!(!transfer.is_subscribing());
        assert_eq!(transfer.become_ready(), None);
    }

    #[test]
    fn too_much_is_not_kept() {
        let audience = Audience {
            namespace: "/".into(),
            rooms: Vec::new(),
            except: Vec::new(),
            except_rooms: Vec::new(),
        };
        let broadcast = Broadcast {
            to: Arc::new(audience),
            message: Message::event("/", None, "e", &[], &[]),
            volatile: false,
            origin: SOURCE,
            sequence: 1,
            published: None,
            trace: None,
        };
        let mut transfer = DestinationTransfer::from_shard(Instant::now(), SOURCE, connection(), Vec::new());
        for _ in 0..MAX_BUFFERED {
            transfer.buffer(BufferedEvent::Broadcast(broadcast.clone()));
        }
        assert!(!transfer.has_overflowed);
        transfer.buffer(BufferedEvent::Broadcast(broadcast));
        assert!(transfer.into_buffered().is_none());
    }
}
