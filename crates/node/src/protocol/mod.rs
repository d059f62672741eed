//! What nodes say to each other, as bytes.
//!
//! - [`bus`]: broadcasts and markers, on the channel of a room or on that of all.
//! - [`node_message`]: commands for the sockets of one other node, and what became of them.
//! - [`link`]: requests for sessions of another node, over the node link.
//! - [`transfer`]: a session on its way to another node.
//!
//! Everything begins with the format's version; a node reads its own and the previous one, since every rolling update mixes two.

pub(crate) mod bus;
pub(crate) mod link;
pub(crate) mod node_message;
pub(crate) mod transfer;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) use bus::{BusMessage, Marker};
pub(crate) use link::{LinkNotice, LinkRequest, LinkResponse, RequestRefused};
pub(crate) use node_message::{NodeMessage, RemoteSocketOp};
pub(crate) use transfer::{SavedSession, SavedSocket, SessionTransfer};

/// The version of everything here.
pub(crate) const FORMAT: u8 = 1;

/// Bytes that say nothing this node understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A later version wrote it, or an earlier one than the previous.
    #[error("unknown format version")]
    Format,
    /// It is malformed.
    #[error("malformed message")]
    Malformed,
}

/// Writes anything behind the version.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    // Nothing here has a length that is unknown when it is written, which is all that could fail.
    postcard::to_extend(value, vec![FORMAT]).unwrap_or_default().into()
}

/// Reads anything that [`encode`] wrote.
pub(crate) fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, WireError> {
    match payload.split_first() {
        Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|_| WireError::Malformed),
        _ => Err(WireError::Format),
    }
}
