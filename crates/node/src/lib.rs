//! One node: sessions, rooms and peers on any number of worker threads, over any listener.
//!
//! The floors, from top to bottom; each uses only what stands above it:
//!
//! - [`config`], [`policy`], `budget`, `lifecycle`: what a node can be told, who may do what, what it holds, whether it ends.
//! - `routing`: where things are, and how something finds its way to them.
//! - `protocol`: what nodes say to each other, as bytes.
//! - [`app`]: namespaces, handlers, and the built-in vocabulary.
//! - `transport`: WebSockets on the raw connection.
//! - `session`: a Socket.IO session as a value.
//! - `shard`: a worker thread's part of everything, as logic without I/O; and the runtime that executes its effects.
//! - `peering`: the other nodes of the cluster.
//! - `shared`, [`edge`]: HTTP requests and WebSocket upgrades.
//! - `node`, `drain`: composition.
//!
//! A server of your own is an [`App`] with handlers, and a [`Node`] that serves it; see `examples/handlers.rs`.

pub mod app;
mod budget;
pub mod config;
mod drain;
pub mod edge;
mod lifecycle;
mod node;
mod peering;
pub mod policy;
mod protocol;
mod routing;
mod session;
mod shard;
mod shared;
#[cfg(test)]
mod simulation;
mod transport;

pub use app::{AckError, Action, App, ConnectRefused, Event, Namespace, Socket, To};
pub use config::{ClusterConfig, Config, Network, PeerConfig};
pub use edge::{
    cors::Cors,
    server::{Serve, bind},
};
pub use node::Node;
pub use signalbox_cluster::{MemberEvent, Record, Status};
pub use signalbox_engineio as engineio;
pub use signalbox_socketio::{Args, ArgsError, args::Binary};
pub use signalbox_telemetry::Metrics;
