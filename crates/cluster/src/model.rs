//! The shared state as a plain value: what a store does, step by step.
//!
//! The memory driver runs on it. A store in another process runs the same steps in its own language, and is tested against this.

mod peers;
mod rooms;

use std::time::Instant;

use crate::{
    Config,
    store::{Call, Reply, RoomDelta},
};

/// All shared state.
#[derive(Debug)]
pub(crate) struct Model {
    peers: peers::Peers,
    rooms: rooms::Rooms,
}

impl Model {
    pub(crate) fn new(config: &Config) -> Self {
        Self { peers: peers::Peers::new(config), rooms: rooms::Rooms::default() }
    }

    /// One atomic step: its reply, and what it publishes.
    pub(crate) fn execute(&mut self, call: Call, now: Instant) -> (Reply, Option<RoomDelta>) {
        let reply = match call {
            Call::Claim { at, realm, id, token } => self.peers.claim(at, realm, id, token),
            Call::Release { realm, id, generation } => self.peers.release(realm, &id, generation),
            Call::DeliverOrQueue(letter) => self.peers.deliver_or_queue(letter, now),
            Call::Expire { realm, src, dst, number } => self.peers.expire(realm, &src, &dst, number),
            Call::Peers { realm } => Reply::Peers(self.peers.ids(realm)),
            Call::Put { room, record, known } => return self.rooms.put(room, record, known),
            Call::Remove { room, socket } => return self.rooms.remove(room, socket),
            Call::Records { room } => Reply::Records { records: self.rooms.records(&room) },
            Call::AddUser { namespace, socket } => self.rooms.add_user(namespace, socket),
            Call::SetProfile { namespace, socket, profile } => {
                self.rooms.set_profile(&namespace, socket, profile)
            }
            Call::RemoveUser { namespace, socket } => self.rooms.remove_user(&namespace, socket),
            Call::Users { namespace, after } => self.rooms.users(&namespace, after),
        };
        (reply, None)
    }
}
