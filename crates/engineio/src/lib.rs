//! Engine.IO v4 as a state machine: bytes and a clock reading go in, events and bytes to send come out.
//!
//! In the order that data flows:
//!
//! - [`handshake`]: what a request asks for, the checks in the reference's order, and the errors with their exact codes.
//! - [`packet`]: one packet, as a WebSocket message carries it.
//! - [`payload`]: several packets, as an HTTP long-polling request carries them.
//! - [`session`]: one client's session across its transports: heartbeat, upgrade, orderly close.
//!
//! The crate knows no socket and no clock. Engine.IO v3 will be a second codec beside [`packet`] and [`payload`], chosen
//! at the handshake; the session keeps to packets and does not know how they are written.
//!
//! Source: the Engine.IO protocol, revision 4, and the behaviour of `engine.io` 6.6.

pub mod handshake;
pub mod packet;
pub mod payload;
pub mod session;

pub use handshake::{RequestError, Transport};
pub use packet::Packet;
pub use session::{CloseReason, Config, Session};
