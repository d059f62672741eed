//! Where things are, and how something finds its way to them: plain values that every floor below may use.
//!
//! - [`location`]: shards, connections and the numbers of requests.
//! - [`local_addresses`]: which shard of this node has a session or socket.
//! - [`audience`]: who receives a broadcast, and which broadcast it is.
//! - [`version_vector`]: the last broadcast of each origin.
//! - [`cursor`]: what a session received before its transfer.
//! - [`socket_command`]: an operation on one socket, wherever it is.
//! - [`order`]: which order of an operator's a command is part of, and when it is meant.
//! - [`reply`]: the way back for an answer.

pub(crate) mod audience;
pub(crate) mod cursor;
pub(crate) mod local_addresses;
pub(crate) mod location;
pub(crate) mod order;
pub(crate) mod reply;
pub(crate) mod socket_command;
pub(crate) mod version_vector;

pub(crate) use audience::{Audience, Broadcast, Origin};
pub(crate) use cursor::{DedupWindow, DeliveryCursor, RoomCursor};
pub(crate) use local_addresses::LocalAddresses;
pub(crate) use location::{ConnectionRef, Location};
pub(crate) use order::{OrderCondition, OrderPart};
pub(crate) use reply::Reply;
pub use socket_command::AckError;
pub(crate) use socket_command::{OrderedOp, SignalReply, SocketCommand, SocketOp};
pub(crate) use version_vector::VersionVector;
