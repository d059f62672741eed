//! Sessions that move, on one seeded clock: the real shards, clusters and mailboxes of three nodes, the store's model, and a network
//! between them that delays, breaks and loses. What clients receive is checked all the time, and what is left when the faults are
//! over is compared with the truth.
//!
//! - `world`, `event`: the clock, and what happens on it.
//! - `node`: a node: its cluster, its shards, and how their effects are executed.
//! - `store`: Redis: the model, behind connections that take time and break.
//! - `links`, `relay`, `serve`: the links between nodes, what `peering` sends over them, and what it does with what comes.
//!   Mirrored here, since `peering` needs a runtime.
//! - `answers`: the way back from shards.
//! - `edge`, `client`, `received`: HTTP requests and WebSockets, the clients that use them, and what these receive.
//! - `orders`: operators' orders for the session that moves.
//! - `faults`, `scenario`: what goes wrong, and when.
//! - `check`: the promises.
//! - `tests`: every fault at every step of a transfer; `random`: faults at random, by seed.
//!
//! `SIGNALBOX_SEED=n` replays one seed of `random_faults` with a trace, `SIGNALBOX_SEEDS=n` runs as many, `SIGNALBOX_SEEDS=from..to`
//! those. `SIGNALBOX_RUN="OtherNode Kill(0) 17"` with `without_a_fault_the_session_moves` replays one run of the enumerated ones: path,
//! fault without spaces, step.

mod answers;
mod check;
mod client;
mod edge;
mod event;
mod faults;
mod links;
mod node;
mod orders;
mod random;
mod received;
mod relay;
mod scenario;
mod serve;
mod store;
mod tests;
mod world;

pub(crate) use self::{edge::NoStream, node::NoHandlers};

/// Nodes, and shards of each.
const NODES: usize = 3;
const SHARDS: usize = 2;
/// What a client answers.
const ANSWER: &str = "42";
/// Rooms.
const ROOMS: [&str; 2] = ["red", "blue"];
