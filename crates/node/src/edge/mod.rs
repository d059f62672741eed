//! The edge: HTTP requests and upgrades, before they reach a shard.
//!
//! - [`server`]: listeners and workers.
//! - `http1`: what of HTTP/1 is decided before the dispatcher.
//! - `answers`: what holds for every answer.
//! - [`http`]: every HTTP request of both protocols.
//! - `protocol`, `not_found`: which protocol a path belongs to, or none.
//! - `accept`: new connections; `proxy_protocol`: whose they are, if a proxy says so.
//! - `http_stream`: the connection under the HTTP dispatcher.
//! - `polling`: Engine.IO over HTTP.
//! - `body`: what is read of a POST's body, and when.
//! - `counted_body`: answers to polls that their clients have yet to read.
//! - `peers`: the PeerServer's HTTP side.
//! - `upgrade`: WebSocket upgrades, which leave the HTTP dispatcher; `upgrade_request`: what they lead to.
//! - [`mount`]: the same in an `App` of one's own; `message_stream`: its WebSockets.
//! - [`cors`]: who may read the answers.
//! - `client`: what a request tells of its client.

mod accept;
pub(crate) mod answers;
mod body;
pub(crate) mod client;
pub mod cors;
mod counted_body;
pub mod http;
pub(crate) mod http1;
pub(crate) mod http_stream;
mod message_stream;
pub mod mount;
mod not_found;
pub(crate) mod peers;
pub(crate) mod polling;
pub(crate) mod protocol;
mod proxy_protocol;
pub mod server;
pub(crate) mod upgrade;
mod upgrade_request;
