//! How much one connection, one address, and all of them may do.
//!
//! - [`admission`]: whether there is memory for more clients.
//! - [`bucket`]: a rate.
//! - [`rates`]: what one connection may send. They are the session's own, in its shard: no lock and no allocation stands between a
//!   packet and its verdict.
//! - [`gate`]: how many connections an address may have, and how often it, and all of them, may begin a session. Asked once for each
//!   connection and handshake.
//! - [`subjects`]: how many connections a subject may have. The cluster counts them.

mod admission;
mod bucket;
mod gate;
mod rates;
mod subjects;

pub(crate) use admission::Admission;
pub(crate) use bucket::{Bucket, Taken};
pub(crate) use gate::{AddressSlot, Gate, TurnedAway};
pub(crate) use rates::{RateLimits, Rates};
pub(crate) use subjects::{Place, place_of_peer, subject_limit};
