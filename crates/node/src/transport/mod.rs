//! WebSockets on the raw upgraded connection.
//!
//! - [`conn`]: the outbox, and the stream behind a trait.
//! - [`events`]: what a connection tells whoever serves it.
//! - [`pace`]: how slow a client may be.
//! - [`reader`]: the small task that reads.
//! - [`stream`]: TCP and TLS.

pub(crate) mod conn;
pub(crate) mod events;
pub(crate) mod pace;
pub(crate) mod reader;
pub(crate) mod stream;

pub(crate) use conn::{Conn, Listed, Role, Written};
pub(crate) use events::{ConnectionEvents, Wait};
pub(crate) use pace::{Alarm, Pace, Progress};
pub(crate) use reader::{Reader, ReaderLimits};
pub(crate) use stream::{ByteStream, WRITTEN_AT_ONCE};
