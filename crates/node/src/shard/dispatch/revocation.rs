//! Tokens that are revoked: whoever shows one is disconnected.

use std::sync::Arc;

use signalbox_auth::Revocation;
use signalbox_cluster::Address;

use crate::{
    policy::Principal,
    shard::{
        Shard, closing,
        expiry::{REVOKED, disconnect_socket},
        tables::Peer,
    },
};

impl Shard {
    /// Disconnects whom these hit. Looking through all is fine: it happens once for what is revoked. A session that is on its way here
    /// is judged when it arrives, see `expiry::begin_expiry`.
    pub(in crate::shard) fn revoked(&mut self, revocations: &[Revocation]) {
        let is_hit = |principal: &Option<Arc<Principal>>| {
            principal.as_deref().is_some_and(|held| revocations.iter().any(|revoked| revoked.hits(held)))
        };
        let mut sockets: Vec<(u32, Address)> = Vec::new();
        for (key, session) in self.sessions.iter() {
            let joined =
                session.connection.sockets().iter().filter(|joined| is_hit(&joined.socket.principal));
            sockets.extend(joined.map(|joined| (key, joined.socket.id)));
        }
        let is_hit_peer = |peer: &Peer| is_hit(&peer.principal) || is_hit(&peer.opened_with);
        let peers = self.peers.iter().filter(|(_, peer)| is_hit_peer(peer));
        let peers: Vec<u32> = peers.map(|(key, _)| key).collect();
        for (key, socket) in sockets {
            let Self { step, sessions, rooms, transfers, .. } = self;
            let Some(slot) = sessions.get_mut(key).and_then(|session| session.slot_of(socket)) else {
                continue;
            };
            disconnect_socket(step, sessions, rooms, (key, slot), REVOKED);
            closing::after_engine(step, sessions, rooms, transfers, key);
        }
        for key in peers {
            self.peer_token_ended(key, REVOKED);
        }
    }

    /// The token of a PeerServer client has ended.
    pub(super) fn peer_token_ended(&mut self, key: u32, reason: &str) {
        self.step.context.metrics.tokens_ended.with_label_values(&["peerserver", reason]).inc();
        self.end_peer(key, reason, None);
    }
}
