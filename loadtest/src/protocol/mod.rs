//! What clients say, and to whom.
//!
//! - [`target`]: the address of a server, and the requests that open a session there.
//! - [`dialect`]: what the events of a Socket.IO server are called.
//! - [`stamp`]: the payload that tells which message it is and when it was due.

pub(crate) mod dialect;
pub(crate) mod stamp;
pub(crate) mod target;

pub(crate) use dialect::Dialect;
pub(crate) use stamp::Stamp;
pub(crate) use target::Target;
