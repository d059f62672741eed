//! What the admin API is asked and answers: plain types, for the nodes that know, the server that answers, and the command line that
//! asks. Names in JSON are in camel case; times are milliseconds since 1970, sizes are bytes.
//!
//! - [`page`]: lists, their cursors, and which nodes are missing in one.
//! - [`nodes`], [`rooms`], [`sockets`], [`peers`], [`rates`]: what there is to look at; [`profile`]: what members joined with.
//! - [`orders`]: what can be said to clients, and done with them; [`binary`]: binary in JSON.
//! - [`caller`]: who asks. [`explain`]: what a token allows, and why. [`operations`]: what takes a while.
//! - [`events`]: what happens.
//! - [`problem`][]: refusals.

pub mod binary;
pub mod caller;
pub mod events;
pub mod explain;
pub mod nodes;
pub mod operations;
pub mod orders;
pub mod page;
pub mod peers;
pub mod problem;
pub mod profile;
pub mod rates;
pub mod rooms;
pub mod sockets;

pub use caller::Caller;
pub use nodes::{Cluster, Node, NodeAnswer, NodeStatus};
pub use page::{Cursor, Page, Partial, PartialReason, Row};
pub use peers::Peer;
pub use problem::Problem;
pub use profile::Profile;
pub use rates::{ClusterRates, NodeRates, Rates};
pub use rooms::{Member, Namespace, Room};
pub use sockets::{Membership, Principal, Socket, SocketDetails, SocketRates, Transport};
