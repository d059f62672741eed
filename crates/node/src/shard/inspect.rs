//! What tests look at in a shard.

use signalbox_cluster::{Address, RoomName};

use super::Shard;
use crate::routing::Location;

impl Shard {
    /// Whether a session lives here.
    pub(crate) fn owns(&self, sid: Address) -> bool {
        self.sessions.find(sid).is_some()
    }

    /// Whether a session is to move from here or to here, or has gone and is not confirmed.
    pub(crate) fn is_transferring(&self, sid: Address) -> bool {
        let transfers = &self.transfers;
        transfers.outgoing.contains_key(&sid)
            || transfers.unconfirmed.contains_key(&sid)
            || transfers.incoming.contains_key(&sid)
    }

    /// Closes the probe with this key, as the edge does when an upgrade is refused.
    pub(crate) fn close_probe_of(&mut self, key: u32) {
        if let Some(connection) = self.probes.name(key) {
            self.close_probe(connection);
        }
    }

    /// The members of a room that are here.
    pub(crate) fn members(&self, room: &RoomName) -> Vec<Address> {
        let room = self.rooms.find(room).and_then(|key| self.rooms.get(key));
        room.map(|room| room.members.keys().copied().collect()).unwrap_or_default()
    }

    /// Where something that was born here is said to have gone.
    pub(crate) fn forwarded(&self, address: Address) -> Option<Location> {
        self.transfers.forwarding.get(&address).copied()
    }

    /// What is left of things that are over; nothing once everything has come to rest.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let transfers = &self.transfers;
        let mut found: Vec<String> = [
            ("outgoing transfers", transfers.outgoing.len()),
            ("unconfirmed transfers", transfers.unconfirmed.len()),
            ("incoming transfers", transfers.incoming.len()),
            ("transfers that are catching up", transfers.catching_up.len()),
            ("acks of sockets that have gone", transfers.acks.len()),
            ("probes", self.probes.len()),
            ("pending requests", self.pending.len()),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
        for room in self.rooms.iter_mut() {
            if room.expected > 0 || !room.incoming_transfers.is_empty() || room.members.is_empty() {
                found.push(format!("room {} of {} members", room.name.name, room.members.len()));
            }
        }
        for (_, session) in self.sessions.iter() {
            let local = &session.local;
            let waits = session.in_flight > 0 || session.blocking > 0 || session.held_post.is_some();
            let moves = local.is_transferring || local.upgrade_to.is_some() || !local.deferred.is_empty();
            if waits || moves {
                found.push(format!("session {}: waits: {waits}, moves: {moves}", session.sid));
            }
        }
        found
    }
}
