//! What nodes share: the holders of peer ids, the members of rooms, the connected users. State machines without a socket, a
//! runtime or a clock of their own.
//!
//! In the order that data flows:
//!
//! - [`address`]: addresses of sessions and sockets, which name the node and the shard where they were created.
//! - [`command`]: what a shard asks ([`Command`]), and what is delivered to its mailbox later ([`Delivery`]).
//! - [`cluster`]: what shards use: the machine under a lock, over a store.
//! - `machine`: the state machine of one node: commands, replies of the store and bus messages go in; calls and deliveries come
//!   out. `machine::rooms` has the replicas of rooms, `machine::claims` the claims of peer ids.
//! - [`store`]: the calls that the machine makes, each one atomic step on shared state, and their replies; [`record`]:
//!   memberships; [`partition`]: the part of the store that something is in.
//! - [`model`]: the shared state as a plain value: the store of a node that is alone, and the model for every other store. Here a
//!   claim is decided (`model::peers`), as it is by `claim.lua` in Redis.
//! - [`driver`]: the trait that connects the machine to a store that other nodes share; the Redis driver is another crate.
//! - [`envelope`]: the bytes around what one process writes and another reads, with a format and metadata.
//! - [`trace`]: the trace that a message between nodes belongs to.
//! - [`operations`]: long operations of operators, that any node may run.
//! - [`event`]: what happens, to be logged and counted.
//! - [`route`]: the shards of this node that have members of a room; read at every broadcast, without a lock.
//! - `simulation`, in tests: many machines on one seeded clock, with a network and a store that fail.
//!
//! Every command is answered later, also when the node is alone, so that nobody relies on an answer being there at once.

pub mod address;
pub mod cluster;
pub mod command;
pub mod driver;
pub mod envelope;
pub mod event;
mod machine;
pub mod model;
pub mod operations;
pub mod partition;
pub mod record;
pub mod route;
#[cfg(test)]
mod simulation;
pub mod store;
mod subject;
mod token_key;
pub mod trace;

pub use address::{Address, NodeTag, Owner, ShardId};
pub use cluster::{Cluster, Scope, SendOutcome};
pub use command::{
    BusDelivery, ChangeId, Claimed, Command, Delivery, DeliverySink, Holder, PeerAt, PeerMessage, RealmId,
    Refused, Sender, Ticket,
};
pub use event::{ClusterEvent, DegradedReason};
pub use machine::Status;
pub use record::{EventArgs, MemberEvent, Record, RoomName, SessionRecords};
pub use route::Route;
pub use store::NodeInfo;
pub use subject::SubjectList;
pub use trace::MessageTrace;

/// Smaller maps keep their capacity.
const MIN_CAPACITY: usize = 1024;

/// Gives a map's memory back when hardly any of its capacity is used any more.
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
    /// Most members of a room; `None`: any number. Who is a member stays one, whatever the limit.
    pub room_members: Option<usize>,
    /// Most members of a room that are listed at once; of more a page at a time. `None`: any number.
    pub presence_limit: Option<usize>,
    /// How long a message waits for its addressee.
    pub expire_timeout: std::time::Duration,
}
