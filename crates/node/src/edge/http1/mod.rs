//! What of HTTP/1 is decided before the dispatcher of actix-http sees it, since it cannot be told to decide otherwise.
//!
//! It closes a connection whose request says `Connection: upgrade`, takes `Upgrade: websocket` alone for an upgrade, refuses heads that the
//! references accept, answers what stands behind a last request, refuses a later request without announcing that it closes, and bounds the time
//! of the first head only.
//!
//! - [`head`]: one request's head, judged, and rewritten where that is needed.
//! - [`chunked`]: where a chunked body ends.
//! - [`requests`]: the requests of a connection, one after the other; no I/O.
//! - [`deadline`]: how long heads and bodies may take.
//! - [`stream`]: the connection, whose bytes pass through these.
//! - [`exchange`]: what the stream and those who answer tell each other.

mod chunked;
mod deadline;
mod exchange;
mod head;
mod requests;
mod stream;

pub(crate) use exchange::{Exchange, SMALL_BODY};
pub(crate) use stream::RequestStream;
