//! The PeerServer protocol: the messages between `peerjs` clients and their server, and the rules of a realm.
//!
//! In the order that data flows:
//!
//! - [`handshake`]: the parameters in a client's URL, and the refusals with their exact frames.
//! - [`message`]: one message: heartbeat, something to relay, the release of an id, or nothing.
//! - [`liveness`]: when to ping a silent client, and when it has timed out.
//! - [`queue`]: messages for an id that is not there yet, bounded, with one EXPIRE per sender.
//!
//! Which client holds an id is decided for the whole cluster, in `signalbox-cluster`. The crate knows no socket and no clock.
//!
//! Source: the behaviour of `peer` 1.0.2, and of `peerjs` 1.5 as its client; where the server is defective, the rule that
//! its clients need.

pub mod handshake;
pub mod liveness;
pub mod message;
pub mod queue;

pub use handshake::{Params, Refusal, key_of_path};
pub use liveness::Liveness;
pub use message::{Incoming, Kind, Relay};
pub use queue::Queue;
