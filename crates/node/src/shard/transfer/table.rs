//! The transfers of a shard.

use std::{sync::Arc, time::Duration};

use ahash::AHashMap;
use signalbox_cluster::{Address, NodeTag, RoomName, command::Change};
use signalbox_socketio::Message;

use super::{
    departed::DepartedSockets,
    destination::{BufferedEvent, CatchingUp, DestinationTransfer},
    source::{SourceTransfer, UnconfirmedTransfer},
};
use crate::{
    routing::{Broadcast, ConnectionRef, Location, cursor::digest},
    session::RoomKey,
    shard::tables::{AcksElsewhere, OrderMemory, Rooms, rooms::Room, shrink::Shrink},
};

/// How often a shard forgets what it kept for nodes that are gone.
pub(in crate::shard) const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The transfers under way, by the sids of their sessions, and where those that are over have gone.
#[derive(Default)]
pub(in crate::shard) struct Transfers {
    pub(in crate::shard) outgoing: AHashMap<Address, SourceTransfer>,
    pub(in crate::shard) unconfirmed: AHashMap<Address, UnconfirmedTransfer>,
    pub(in crate::shard) incoming: AHashMap<Address, DestinationTransfer>,
    pub(in crate::shard) catching_up: AHashMap<Address, CatchingUp>,
    /// Sessions and sockets that were born here and live on another shard.
    pub(in crate::shard) forwarding: AHashMap<Address, Location>,
    /// What somebody here waits for, of sockets that have gone to other nodes.
    pub(in crate::shard) acks: AcksElsewhere,
    /// Sockets that have just gone to other nodes, for orders that reach this one late.
    pub(in crate::shard) departed: DepartedSockets,
    /// The orders that sockets here were given lately.
    pub(in crate::shard) orders: OrderMemory,
}

impl Transfers {
    /// Gives memory back after many clients have gone.
    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.forwarding.shrink_if_sparse();
        self.acks.shrink_if_sparse();
        self.departed.shrink_if_sparse();
        self.orders.shrink_if_sparse();
    }

    /// The transfer of a session to this connection.
    pub(in crate::shard) fn outgoing_to(
        &mut self,
        sid: Address,
        connection: ConnectionRef,
    ) -> Option<&mut SourceTransfer> {
        self.outgoing.get_mut(&sid).filter(|transfer| transfer.connection == connection)
    }

    /// The transfer of a session that is to become the transport of this connection.
    pub(in crate::shard) fn incoming_to(
        &mut self,
        sid: Address,
        connection: ConnectionRef,
    ) -> Option<&mut DestinationTransfer> {
        self.incoming.get_mut(&sid).filter(|transfer| transfer.connection == connection)
    }

    /// Sessions that are to come from a node.
    pub(in crate::shard) fn incoming_from(&self, node: NodeTag) -> Vec<(Address, ConnectionRef)> {
        let from = self.incoming.iter().filter(|(_, transfer)| transfer.source.node == node);
        from.map(|(sid, transfer)| (*sid, transfer.connection)).collect()
    }

    /// Buffers a broadcast for the sessions on their way here.
    pub(in crate::shard) fn buffer_broadcast(&mut self, broadcast: &Broadcast, rooms: &Rooms) {
        if self.incoming.is_empty() {
            return;
        }
        let to = &broadcast.to;
        let name = |room: &Arc<str>| RoomName { namespace: to.namespace.clone(), name: room.clone() };
        let keys: Vec<RoomKey> = to.rooms.iter().filter_map(|room| rooms.find(&name(room))).collect();
        for transfer in self.incoming.values_mut() {
            if to.rooms.is_empty() || keys.iter().any(|room| transfer.rooms.contains(room)) {
                transfer.buffer(BufferedEvent::Broadcast(broadcast.clone()));
            }
        }
    }

    /// Buffers a change of a room for the sessions on their way here.
    pub(in crate::shard) fn buffer_change(
        &mut self,
        room: &Room,
        number: u128,
        change: &Change,
        message: &Message,
    ) {
        for sid in &room.incoming_transfers {
            if let Some(transfer) = self.incoming.get_mut(sid) {
                let (room, message) = (room.name.clone(), message.clone());
                transfer.buffer(BufferedEvent::Change { room, number, change: change.clone(), message });
            }
        }
    }

    /// A room has changed: what a session that is to move is told of it, its new node may tell in another way.
    pub(in crate::shard) fn note_change(&mut self, room: RoomKey, change: &Change) {
        if self.outgoing.is_empty() {
            return;
        }
        let (subject, digest) = (change.record().socket, digest(change));
        for transfer in self.outgoing.values_mut() {
            transfer.note_change(room, subject, digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::routing::Audience;

    const SOURCE: Location = Location { node: NodeTag(1), shard: 0 };

    fn connection(number: u64) -> ConnectionRef {
        ConnectionRef { node: NodeTag(2), shard: 1, key: 0, number }
    }

    fn room(name: &str) -> RoomName {
        RoomName { namespace: "/".into(), name: name.into() }
    }

    fn broadcast(rooms: &[&str]) -> Broadcast {
        let rooms = rooms.iter().map(|name| Arc::from(*name)).collect();
        let to = Audience { namespace: "/".into(), rooms, except: Vec::new(), except_rooms: Vec::new() };
        let message = Message::event("/", None, "e", &[], &[]);
        Broadcast {
            to: Arc::new(to),
            message,
            volatile: false,
            origin: SOURCE,
            sequence: 1,
            published: None,
            trace: None,
        }
    }

    #[test]
    fn a_message_of_an_earlier_attempt_finds_no_transfer() {
        let (mut transfers, sid) = (Transfers::default(), Address::random(NodeTag(1), 0));
        let transfer = DestinationTransfer::from_shard(Instant::now(), SOURCE, connection(2), Vec::new());
        transfers.incoming.insert(sid, transfer);
        assert!(transfers.incoming_to(sid, connection(1)).is_none());
        assert!(transfers.incoming_to(sid, connection(2)).is_some());
        assert_eq!(transfers.incoming_from(NodeTag(1)), [(sid, connection(2))]);
        assert!(transfers.incoming_from(NodeTag(2)).is_empty());
    }

    #[test]
    fn a_transfer_buffers_what_is_for_its_rooms_or_for_all() {
        let (mut transfers, mut rooms) = (Transfers::default(), Rooms::default());
        let (inside, _) = (rooms.open(&room("inside")).0, rooms.open(&room("outside")).0);
        let sid = Address::random(NodeTag(1), 0);
        let transfer = DestinationTransfer::from_shard(Instant::now(), SOURCE, connection(1), vec![inside]);
        transfers.incoming.insert(sid, transfer);
        for names in [&["inside"][..], &["outside"], &["unknown"], &["outside", "inside"], &[]] {
            transfers.buffer_broadcast(&broadcast(names), &rooms);
        }
        let buffered = transfers.incoming.remove(&sid).and_then(DestinationTransfer::into_buffered);
        let buffered: Vec<_> = buffered
            .into_iter()
            .flatten()
            .map(|event| match event {
                BufferedEvent::Broadcast(broadcast) => broadcast.to.rooms.len(),
                BufferedEvent::Change { .. } => unreachable!("no room has changed"),
            })
            .collect();
        assert_eq!(buffered, [1, 2, 0]);
    }
}
