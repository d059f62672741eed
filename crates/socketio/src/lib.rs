//! Socket.IO v5 as a state machine: the messages of one Engine.IO session go in, events come out.
//!
//! In the order that data flows:
//!
//! - [`packet`]: the header of one packet, read without looking at its JSON.
//! - [`connection`]: one client's connection: its namespaces, binary packets put together again, what is allowed when.
//! - [`args`]: the arguments of an event, split without being decoded: key order, number text and placeholders stay as they are.
//! - [`message`]: outgoing packets, encoded once as the frames that every receiver shares.
//!
//! The crate knows no socket and no clock.
//!
//! Source: the Socket.IO protocol, revision 5, and the behaviour of `socket.io` 4.8 with `socket.io-parser` 4.2.7.

pub mod args;
pub mod connection;
pub mod message;
pub mod packet;

pub use args::{Args, ArgsError};
pub use connection::{Connection, Event, Joined};
pub use message::Message;
pub use packet::{Kind, ParseError};

/// Most binary attachments a packet may announce, as in `socket.io-parser` since 4.2.6.
pub const MAX_ATTACHMENTS: usize = 10;
