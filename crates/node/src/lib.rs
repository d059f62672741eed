//! One node: sessions, rooms and peers on any number of worker threads, over any listener.
//!
//! In the order that data flows:
//!
//! - [`edge`]: HTTP requests and WebSocket upgrades.
//! - `transport`: WebSockets on the raw connection.
//! - `shard`: a worker thread's part: its sessions, its part of each room, its timers, its inbox.
//! - `relay`, `remote`, `wire`: what nodes of a cluster say to each other.
//! - [`app`]: namespaces, handlers, and the built-in vocabulary.
//! - [`policy`]: who may.
//! - [`config`]: what a node can be told.
//!
//! A server of your own is an [`App`] with handlers, and a [`Node`] that serves it; see `examples/handlers.rs`.

pub mod app;
pub mod config;
mod drain;
pub mod edge;
mod inbox;
mod mailbox;
mod node;
pub mod policy;
mod relay;
mod remote;
mod shard;
mod transport;
mod wire;

pub use app::{AckError, Action, App, ConnectRefused, Event, Namespace, Socket, To};
pub use config::{ClusterConfig, Config, PeerConfig};
pub use edge::{
    cors::Cors,
    server::{Serve, bind},
};
pub use node::Node;
pub use signalbox_cluster::{MemberEvent, Record, Status};
pub use signalbox_engineio as engineio;
pub use signalbox_socketio::{Args, ArgsError, args::Binary};
pub use signalbox_telemetry::Metrics;
