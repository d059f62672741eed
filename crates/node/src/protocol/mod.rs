//! What nodes send each other, as bytes.
//!
//! - [`bus`]: broadcasts and markers, on the channel of a room or on that of all.
//! - [`node_message`]: commands for the sockets of one other node, and what became of them.
//! - [`link`]: requests for sessions of another node, over the node link.
//! - [`inquiry`]: what an operator asks of every node, over the node link.
//! - [`socket_request`]: what is asked of a socket of another node, with an answer, over the node link.
//! - [`transfer`]: a session on its way to another node.
//!
//! Everything travels in an [`envelope`]: it begins with the format's version, and has room for metadata. A node reads its own format and
//! the previous one, since every rolling update mixes two, and writes the older until every node of the cluster reads the newer.

pub(crate) mod bus;
pub(crate) mod inquiry;
pub(crate) mod link;
pub(crate) mod node_message;
pub(crate) mod socket_request;
pub(crate) mod transfer;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::envelope::{self, Format, Metadata, MetadataKey};

pub(crate) use bus::{BusMessage, Marker};
pub(crate) use link::{LinkNotice, LinkRequest, LinkResponse, RequestRefused};
pub(crate) use node_message::{NodeMessage, RemoteSocketOp};
pub(crate) use transfer::{
    SavedAck, SavedAcks, SavedAge, SavedData, SavedOrder, SavedOrders, SavedPrincipals, SavedSession,
    SavedSocket, SessionTransfer,
};

/// Why bytes of another node were refused.
pub(crate) use signalbox_cluster::envelope::EnvelopeError as WireError;

/// Writes anything, in the newest format that every node of the cluster reads.
pub(crate) fn encode(format: Format, value: &impl Serialize) -> Bytes {
    envelope::encode(format, &Metadata::default(), value)
}

/// The same with the `traceparent` of what caused it, if it has one.
pub(crate) fn encode_traced(format: Format, trace: Option<&str>, value: &impl Serialize) -> Bytes {
    let mut metadata = Metadata::default();
    if let Some(trace) = trace {
        metadata.insert(MetadataKey::TraceContext, trace.as_bytes());
    }
    envelope::encode(format, &metadata, value)
}

/// Reads what [`encode`] wrote on any node of the cluster.
pub(crate) fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, WireError> {
    envelope::decode(payload).map(|(_, value)| value)
}

/// Reads what [`encode_traced`] wrote. The text is another node's, and not checked.
pub(crate) fn decode_traced<'a, T: Deserialize<'a>>(
    payload: &'a [u8],
) -> Result<(Option<Arc<str>>, T), WireError> {
    let (metadata, value) = envelope::decode(payload)?;
    Ok((metadata.text(MetadataKey::TraceContext).map(Arc::from), value))
}
