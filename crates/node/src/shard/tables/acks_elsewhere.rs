//! Answers that somebody on this shard waits for, of clients whose sessions have moved to another node, which sends them here.

use std::time::Instant;

use ahash::AHashMap;
use signalbox_cluster::Address;
use signalbox_socketio::Args;

use super::shrink::Shrink;
use crate::routing::{AckError, Reply};

/// One that is waited for.
pub(in crate::shard) struct AckElsewhere {
    pub(in crate::shard) id: u64,
    /// When it was asked.
    pub(in crate::shard) asked: Instant,
    pub(in crate::shard) reply: Reply<Result<Args, AckError>>,
}

/// What is waited for, by socket: as much as was when the sessions went, and no more comes.
#[derive(Default)]
pub(in crate::shard) struct AcksElsewhere(AHashMap<Address, Vec<AckElsewhere>>);

impl AcksElsewhere {
    pub(in crate::shard) fn insert(&mut self, socket: Address, ack: AckElsewhere) {
        self.0.entry(socket).or_default().push(ack);
    }

    /// It has come, or its time is over. A second time finds nothing.
    pub(in crate::shard) fn remove(&mut self, socket: Address, id: u64) -> Option<AckElsewhere> {
        let acks = self.0.get_mut(&socket)?;
        let index = acks.iter().position(|ack| ack.id == id)?;
        let ack = acks.swap_remove(index);
        if acks.is_empty() {
            self.0.remove(&socket);
        }
        Some(ack)
    }

    /// None of a socket will come any more.
    pub(in crate::shard) fn remove_socket(&mut self, socket: Address) -> Vec<AckElsewhere> {
        self.0.remove(&socket).unwrap_or_default()
    }

    /// The sockets that something is waited for of.
    pub(in crate::shard) fn sockets(&self) -> impl Iterator<Item = Address> {
        self.0.keys().copied()
    }

    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(in crate::shard) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.0.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_the_rest_with_its_socket() {
        let (mut acks, socket) = (AcksElsewhere::default(), Address::from_bytes([1; 15]));
        for id in 0..3 {
            let ack = AckElsewhere { id, asked: Instant::now(), reply: Reply::new(|_| true) };
            acks.insert(socket, ack);
        }
        assert!(acks.remove(Address::from_bytes([2; 15]), 0).is_none());
        assert!(acks.remove(socket, 1).is_some() && acks.remove(socket, 1).is_none());
        assert_eq!(acks.remove_socket(socket).len(), 2);
        assert!(acks.is_empty() && acks.sockets().next().is_none());
    }
}
