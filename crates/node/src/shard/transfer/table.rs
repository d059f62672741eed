//! The transfers of a shard.

use std::{sync::Arc, time::Duration};

use ahash::AHashMap;
use signalbox_cluster::{Address, NodeTag, RoomName, command::Change};
use signalbox_socketio::Message;

use super::{
    destination::{BufferedEvent, CatchingUp, DestinationTransfer},
    source::{SourceTransfer, UnconfirmedTransfer},
};
use crate::{
    routing::{Broadcast, ConnectionRef, cursor::digest},
    session::RoomKey,
    shard::tables::{Rooms, rooms::Room},
};

/// How often a shard forgets what it kept for nodes that are gone.
pub(in crate::shard) const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The transfers under way, by the sids of their sessions.
#[derive(Default)]
pub(in crate::shard) struct Transfers {
    pub(in crate::shard) outgoing: AHashMap<Address, SourceTransfer>,
    pub(in crate::shard) unconfirmed: AHashMap<Address, UnconfirmedTransfer>,
    pub(in crate::shard) incoming: AHashMap<Address, DestinationTransfer>,
    pub(in crate::shard) catching_up: AHashMap<Address, CatchingUp>,
}

impl Transfers {
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
