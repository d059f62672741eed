//! What nodes share: who holds which peer id, who is in which room, who is connected.
//!
//! In the order that data flows:
//!
//! - [`address`]: sessions and sockets have addresses that say where they were born.
//! - [`command`]: what a shard asks ([`Command`]), and what it is told, later, in its inbox ([`Delivery`]).
//! - `machine`: the node's state machine: commands, replies of the store and bus messages go in; store calls and deliveries
//!   come out. It has no socket, no clock and no lock.
//! - `store`: the calls the machine makes, each one atomic step on shared state, and their replies.
//! - `model`: the shared state as a plain value: the memory driver's store, and the model that every other store is held to.
//! - [`link`]: TCP between nodes, for what cannot go through a store.
//! - [`redis`]: the driver for a store in Redis, which any number of nodes share.
//! - [`route`]: which shards of this node have members of a room; read at every broadcast, without a lock.
//! - [`cluster`]: what shards use: the machine under a lock, over the model or a store that other nodes share.
//!
//! Every command is answered later, in memory too, so that nobody can come to rely on an answer being there at once.

pub mod address;
pub mod cluster;
pub mod command;
pub mod driver;
pub mod envelope;
mod machine;
pub mod model;
pub mod partition;
pub mod record;
pub mod route;
#[cfg(test)]
mod simulation;
pub mod store;

pub use address::{Address, NodeTag, Owner, ShardId};
pub use cluster::{Cluster, Scope, SendOutcome, SessionRecords};
pub use command::{
    BusDelivery, ChangeId, Claimed, Command, Delivery, DeliverySink, Holder, PeerAt, PeerMessage, RealmId,
    Refused, Sender, Ticket,
};
pub use machine::Status;
pub use record::{MemberEvent, Record, RoomName};
pub use route::Route;
pub use store::NodeInfo;

/// Smaller maps keep the room they have.
const MIN_CAPACITY: usize = 1024;

/// Gives a map's room back when hardly any of it is used any more: a crowd has gone.
fn shrink_if_sparse<K: Eq + std::hash::Hash, V>(map: &mut ahash::AHashMap<K, V>) {
    if map.capacity() >= MIN_CAPACITY && map.len() < map.capacity() / 4 {
        map.shrink_to_fit();
    }
}

/// Limits and timings of the shared state.
#[derive(Debug, Clone)]
pub struct Config {
    /// The realms (PeerServer keys), by [`RealmId`].
    pub realms: Vec<String>,
    /// Most peer ids held at once, over all realms; `None`: no limit.
    pub concurrent_limit: Option<usize>,
    /// How long a message waits for its addressee.
    pub expire_timeout: std::time::Duration,
}
