//! Steps of transfers that other nodes wait for.

use std::sync::{Mutex, PoisonError};

use ahash::AHashMap;
use signalbox_cluster::{Address, NodeTag, ShardId};
use signalbox_node_link::Responder;

use crate::routing::ConnectionRef;

/// Requests of sources that the destination, which is here, has yet to answer: each is answered by one step of the transfer.
#[derive(Default)]
pub(super) struct TransferAnswers(Mutex<AHashMap<(Address, u32, u64), PendingAnswer>>);

/// The answer to a request of a source.
pub(super) struct PendingAnswer {
    /// The node of the source.
    pub(super) from: NodeTag,
    /// The shard that is the destination.
    pub(super) shard: ShardId,
    pub(super) answer: Responder,
    /// Addresses that commands find here from now on; taken back if the session is not.
    pub(super) addresses: Vec<Address>,
}

fn key(sid: Address, connection: ConnectionRef) -> (Address, u32, u64) {
    (sid, connection.key, connection.number)
}

impl TransferAnswers {
    pub(super) fn insert(&self, sid: Address, connection: ConnectionRef, pending: PendingAnswer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key(sid, connection), pending);
    }

    /// The shard that has yet to answer for a session. There are few such sessions at a time.
    pub(super) fn shard_of(&self, sid: Address) -> Option<ShardId> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().find(|((session, ..), _)| *session == sid).map(|(_, pending)| pending.shard)
    }

    pub(super) fn remove(&self, sid: Address, connection: ConnectionRef) -> Option<PendingAnswer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(sid, connection))
    }
}
