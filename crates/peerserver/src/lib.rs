//! The PeerServer protocol: what `peerjs` clients and their server say to each other, and the rules of a realm.
//!
//! In the order that data flows:
//!
//! - [`handshake`]: what a client asks for in its URL, and the refusals with their exact frames.
//! - [`message`]: one message: heartbeat, something to relay, a farewell, or nothing.
//! - [`liveness`]: when a silent client is gone, and when to ask it whether it is.
//! - [`queue`]: messages for an id that is not there yet, bounded, with one EXPIRE per sender.
//!
//! Who holds which id is decided for the whole cluster, one floor up. The crate knows no socket and no clock.
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
