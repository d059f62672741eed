//! The edge: HTTP requests and upgrades, before they reach a shard.
//!
//! - [`server`]: listeners and workers.
//! - [`http`]: every HTTP request of both protocols.
//! - `polling`: Engine.IO over HTTP.
//! - `counted_body`: answers to polls that their clients have yet to read.
//! - `peers`: the PeerServer's HTTP side.
//! - `upgrade`: WebSocket upgrades, which leave the HTTP dispatcher.
//! - [`cors`]: who may read the answers.
//! - `client`: what a request tells of its client.

pub(crate) mod client;
pub mod cors;
mod counted_body;
pub mod http;
pub(crate) mod peers;
pub(crate) mod polling;
pub mod server;
pub(crate) mod upgrade;
