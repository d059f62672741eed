//! One node: sessions, rooms and peers on any number of worker threads, over any listener.
//!
//! The floors, from top to bottom; each uses only what stands above it:
//!
//! - `panics`: what a panic may end.
//! - `client_log`: single clients whose stories the log tells.
//! - [`config`], [`policy`], `ledger`, `lifecycle`, `rates`, `events`, `operation_store`: settings, access rules, the memory limit, the
//!   state of stopping, how much goes through, what happens, where long operations are kept.
//! - `limits`: how much one connection, one address, and all together may do.
//! - `routing`: where things are, and how something finds its way to them.
//! - `protocol`: what nodes send each other, as bytes.
//! - [`app`]: namespaces, handlers, and the built-in vocabulary.
//! - `transport`: WebSockets on the raw connection; `transport::reader` feeds their bytes to the parser of `signalbox_websocket`.
//! - `session`: a Socket.IO session as a value.
//! - `shard`: a worker thread's part of everything, as logic without I/O; and the runtime that executes its effects. Its front page
//!   lists where broadcasts, rooms and transfers are.
//! - `peering`: the other nodes of the cluster.
//! - `shared`, `operations`, [`edge`]: what all workers share; long operations; HTTP requests and WebSocket upgrades.
//! - `node`, `drain`, [`admin`]: composition; what an operator may ask and do.
//!
//! A server of your own is an [`App`] with handlers, and a [`Node`] that serves it; see `examples/handlers.rs`.

pub mod admin;
pub mod app;
mod client_log;
pub mod config;
mod drain;
pub mod edge;
mod events;
mod ledger;
mod lifecycle;
mod limits;
mod node;
mod operation_store;
mod operations;
mod panics;
mod peering;
pub mod policy;
mod protocol;
mod rates;
mod routing;
mod session;
mod shard;
mod shared;
#[cfg(test)]
mod simulation;
mod transport;

pub use app::{AckError, Action, App, Called, ConnectRefused, Event, Hooks, Namespace, Socket, To};
pub use client_log::{ClientSelector, MAX_FOLLOWED, NoSelector};
pub use config::{ClientLimits, ClusterConfig, Config, MAX_METRIC_NAMESPACES, PeerConfig, SidCookie};
pub use edge::{
    cors::Cors,
    server::{Serve, bind},
};
pub use node::Node;
pub use panics::end_process_on_panic;
pub use peering::{
    revocations::revoke_in,
    rules::{PutRulesError, RulesInForce, RulesSource},
};
pub use signalbox_auth::{Origins, Revocation, Revoked};
pub use signalbox_cluster::{EventArgs, MemberEvent, Record, Status};
pub use signalbox_cluster_redis::{CannotPutRules, CannotReplace, CannotRevoke, RedisAccess};
pub use signalbox_engineio as engineio;
pub use signalbox_node_link::{LinkTls, TlsError, TlsFiles};
pub use signalbox_rules as rules;
pub use signalbox_socketio::{Args, ArgsError, args::Binary};
pub use signalbox_telemetry::Metrics;
