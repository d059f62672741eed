//! WebSockets on the raw upgraded connection: the stream, the outbox, and the small task that reads.

pub(crate) mod conn;
pub(crate) mod stream;

pub(crate) use conn::{Conn, Role};
pub(crate) use stream::Stream;
