//! Sockets whose sessions have just gone to another node. An order that their new node was given before they came, and this one after they
//! went, would miss them: so this one still selects them for a while, and forwards it.

use std::{sync::Arc, time::Instant};

use signalbox_cluster::{Address, RoomName};
use signalbox_socketio::Joined;

use crate::{
    session::Socket,
    shard::tables::{Expiring, order_memory::ORDER_SPREAD},
};

/// A socket as it was when it went.
#[derive(Debug)]
pub(in crate::shard) struct DepartedSocket {
    pub(in crate::shard) namespace: Arc<str>,
    pub(in crate::shard) subject: Option<Arc<str>>,
    pub(in crate::shard) rooms: Vec<Arc<str>>,
}

/// Those that went less than [`ORDER_SPREAD`] ago.
#[derive(Default)]
pub(in crate::shard) struct DepartedSockets(Expiring<DepartedSocket>);

impl DepartedSockets {
    /// The sockets of a session go, with their memberships.
    pub(in crate::shard) fn insert(
        &mut self,
        now: Instant,
        sockets: &[Joined<Socket>],
        memberships: &[(RoomName, Address)],
    ) {
        for Joined { namespace, socket } in sockets {
            let of_socket = memberships.iter().filter(|(_, member)| *member == socket.id);
            let departed = DepartedSocket {
                namespace: namespace.clone(),
                subject: socket.principal.as_ref().map(|principal| principal.subject.clone()),
                rooms: of_socket.map(|(room, _)| room.name.clone()).collect(),
            };
            self.0.insert(now, socket.id, now + ORDER_SPREAD, departed);
        }
    }

    /// A socket is over, or has not gone after all.
    pub(in crate::shard) fn remove(&mut self, now: Instant, socket: Address) {
        self.0.remove(now, socket);
    }

    pub(in crate::shard) fn iter(&self, now: Instant) -> impl Iterator<Item = (Address, &DepartedSocket)> {
        self.0.iter(now)
    }

    pub(in crate::shard) fn forget_expired(&mut self, now: Instant) {
        self.0.forget_expired(now);
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.0.shrink_if_sparse();
    }
}
