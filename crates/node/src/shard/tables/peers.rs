//! PeerServer clients, and messages that wait for their addressees.

use std::{rc::Rc, sync::Arc};

use signalbox_cluster::{PeerAt, RealmId};
use signalbox_peerserver::Liveness;
use slab::Slab;

use super::shrink::Shrink;
use crate::transport::{Conn, Role};

/// A client.
pub(in crate::shard) struct Peer {
    pub(in crate::shard) conn: Rc<Conn>,
    /// Tells it from an earlier one with the same key.
    pub(in crate::shard) number: u64,
    pub(in crate::shard) realm: RealmId,
    pub(in crate::shard) id: Arc<str>,
    /// Its claim's generation, once it was granted and until it is given up.
    pub(in crate::shard) claim: Option<u64>,
    pub(in crate::shard) liveness: Liveness,
    /// Absent addressees that its messages wait for.
    pub(in crate::shard) waits: u32,
    /// Counted among the connections: it was let in.
    pub(in crate::shard) is_counted: bool,
}

/// A message's wait for its addressee.
pub(in crate::shard) struct PeerWait {
    pub(in crate::shard) from: PeerAt,
    pub(in crate::shard) realm: RealmId,
    pub(in crate::shard) src: Arc<str>,
    pub(in crate::shard) dst: Arc<str>,
    pub(in crate::shard) number: u64,
}

/// The PeerServer clients of a shard.
#[derive(Default)]
pub(in crate::shard) struct Peers {
    peers: Slab<Peer>,
    waits: Slab<PeerWait>,
}

impl Peers {
    /// Adds a client, whose connection has this role from now on.
    pub(in crate::shard) fn insert(&mut self, peer: Peer) -> u32 {
        let conn = peer.conn.clone();
        let key = self.peers.insert(peer) as u32;
        conn.role.set(Role::Peer(key));
        key
    }

    pub(in crate::shard) fn remove(&mut self, key: u32) -> Option<Peer> {
        self.peers.try_remove(key as usize)
    }

    pub(in crate::shard) fn get_mut(&mut self, key: u32) -> Option<&mut Peer> {
        self.peers.get_mut(key as usize)
    }

    /// The client with this key, if it is still the one with this number.
    pub(in crate::shard) fn checked(&mut self, key: u32, number: u64) -> Option<&mut Peer> {
        self.peers.get_mut(key as usize).filter(|peer| peer.number == number)
    }

    /// The client that holds a claim of this generation.
    pub(in crate::shard) fn holder(&mut self, at: PeerAt) -> Option<&mut Peer> {
        self.peers.get_mut(at.key as usize).filter(|peer| peer.claim == Some(at.generation))
    }

    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = (u32, &Peer)> {
        self.peers.iter().map(|(key, peer)| (key as u32, peer))
    }

    /// A message waits from now on.
    pub(in crate::shard) fn wait(&mut self, wait: PeerWait) -> u32 {
        self.waits.insert(wait) as u32
    }

    /// A message's wait is over; its sender, if still there, has one less.
    pub(in crate::shard) fn end_wait(&mut self, key: u32) -> Option<PeerWait> {
        let wait = self.waits.try_remove(key as usize)?;
        if let Some(sender) = self.holder(wait.from) {
            sender.waits = sender.waits.saturating_sub(1);
        }
        Some(wait)
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.peers.shrink_if_sparse();
        self.waits.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn peer(number: u64) -> Peer {
        Peer {
            conn: Conn::pending(),
            number,
            realm: 0,
            id: "a".into(),
            claim: Some(number),
            liveness: Liveness::new(Instant::now(), Duration::from_secs(60)),
            waits: 1,
            is_counted: true,
        }
    }

    #[test]
    fn a_wait_is_counted_to_the_holder_of_that_generation_only() {
        let mut peers = Peers::default();
        let key = peers.insert(peer(1));
        let from = PeerAt { shard: 0, key, generation: 1 };
        let wait = || PeerWait { from, realm: 0, src: "a".into(), dst: "b".into(), number: 1 };
        let first = peers.wait(wait());
        assert!(peers.end_wait(first).is_some() && peers.end_wait(first).is_none());
        assert_eq!(peers.holder(from).unwrap().waits, 0);
        let late = peers.wait(wait());
        peers.remove(key);
        assert_eq!(peers.insert(peer(2)), key);
        assert!(peers.end_wait(late).is_some());
        assert_eq!(peers.get_mut(key).unwrap().waits, 1);
        assert!(peers.checked(key, 1).is_none() && peers.checked(key, 2).is_some());
    }
}
