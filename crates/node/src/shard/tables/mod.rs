//! What a shard owns, each kind of thing in a table that keeps its own invariants.
//!
//! - [`sessions`]: Socket.IO sessions, found by key, sid or socket.
//! - [`rooms`]: this shard's part of each room.
//! - [`peers`]: PeerServer clients, and messages that wait for their addressees.
//! - [`offers`]: calls of PeerServer clients that have no answer yet.
//! - [`probes`]: WebSockets that want to take a session over.
//! - [`pending`]: requests to the cluster, to tasks and to other nodes that are not answered yet.
//! - [`acks_elsewhere`]: answers that somebody here waits for, of clients whose sessions have moved to another node.
//! - [`order_memory`]: the orders of operators that sockets were given lately.
//! - [`expiring`]: what is kept of sockets for a while.
//! - [`sequences`]: the numbers of broadcasts.
//! - [`outboxes`]: what waits to be written, and which clients to evict.
//! - [`timers`]: one queue for all deadlines.
//! - [`shrink`]: giving memory back after many clients have gone.

pub(super) mod acks_elsewhere;
pub(super) mod expiring;
pub(super) mod offers;
pub(super) mod order_memory;
pub(super) mod outboxes;
pub(super) mod peers;
pub(super) mod pending;
pub(super) mod probes;
pub(super) mod rooms;
pub(super) mod sequences;
pub(super) mod sessions;
pub(super) mod shrink;
pub(super) mod timers;

pub(super) use acks_elsewhere::AcksElsewhere;
pub(super) use expiring::Expiring;
pub(super) use offers::Offer;
pub(super) use order_memory::OrderMemory;
pub(super) use outboxes::{Evicted, Outboxes};
pub(super) use peers::{Peer, PeerWait, Peers};
pub(super) use pending::{PendingRequest, PendingRequests};
pub(super) use probes::Probes;
pub(super) use rooms::{Presence, Room, Rooms};
pub(super) use sequences::Sequences;
pub(super) use sessions::Sessions;
pub(super) use timers::{Timer, Timers};
