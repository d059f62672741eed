//! A session on its way to another node, as a plain value.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use signalbox_cluster::{Address, RoomName, SessionRecords};
use signalbox_engineio as engineio;
use signalbox_socketio::connection;

use crate::{
    policy::{Handshake, Principal},
    routing::{ConnectionRef, DeliveryCursor, Location},
};

/// A session, and all that its destination has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionTransfer {
    /// The WebSocket it moves to.
    pub(crate) connection: ConnectionRef,
    pub(crate) session: SavedSession,
    /// What waited for a poll: whole frames.
    pub(crate) frames: Vec<Bytes>,
    /// The rooms that its sockets are in.
    pub(crate) rooms: Vec<(Address, RoomName)>,
    /// What the session has received already.
    pub(crate) cursor: DeliveryCursor,
    /// Its records in the shared state.
    pub(crate) records: SessionRecords,
    pub(crate) principals: SavedPrincipals,
    pub(crate) age: SavedAge,
    /// The trace that the client's messages belong to; it travels in the envelope's metadata.
    #[serde(skip)]
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) data: SavedData,
    pub(crate) acks: SavedAcks,
    pub(crate) orders: SavedOrders,
}

impl SessionTransfer {
    /// The addresses that move with it: its own, and its sockets'.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let sockets = self.session.sockets.iter().map(|socket| socket.id);
        std::iter::once(self.session.sid).chain(sockets).collect()
    }
}

/// A session without what cannot leave its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSession {
    pub(crate) sid: Address,
    pub(crate) engine: engineio::session::SavedSession,
    pub(crate) connection: connection::SavedConnection,
    pub(crate) sockets: Vec<SavedSocket>,
    /// Nothing: it keeps its place for nodes that read no [`SavedPrincipals`].
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) handshake: Option<Handshake>,
}

/// Who the client of a session is. It stands last in what goes to another node, whose version may not know it: that one reads no further,
/// and what an older node has sent ends before it, which reads as nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SavedPrincipals {
    /// By the request that opened the session.
    pub(crate) of_handshake: Option<Arc<Principal>>,
    /// In each namespace, in the order of its sockets.
    pub(crate) in_namespaces: Vec<Option<Arc<Principal>>>,
}

impl<'de> Deserialize<'de> for SavedPrincipals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Fields = (Option<Arc<Principal>>, Vec<Option<Arc<Principal>>>);
        // Whoever is nobody may do nothing where tokens are required, so what cannot be read is no way in.
        let (of_handshake, in_namespaces) = Fields::deserialize(deserializer).unwrap_or_default();
        Ok(Self { of_handshake, in_namespaces })
    }
}

/// How long ago the client opened a session, in milliseconds. It stands behind the principals, for the same reason; what an older node
/// has sent reads as just now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SavedAge(pub(crate) u64);

impl<'de> Deserialize<'de> for SavedAge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(u64::deserialize(deserializer).unwrap_or_default()))
    }
}

/// What rules keep on the sockets of a session, in their order: names and JSON. It stands behind the principals, for the same reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SavedData(pub(crate) Vec<Vec<(String, String)>>);

impl<'de> Deserialize<'de> for SavedData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer).unwrap_or_default()))
    }
}

/// What was asked of the client and is not answered yet, for each of its sockets in their order. Whoever waits stays where it is; the
/// session's new node sends the answers there. It stands behind the principals, for the same reason: what an older node does not read, the
/// client answers in vain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SavedAcks(pub(crate) Vec<Vec<SavedAck>>);

impl<'de> Deserialize<'de> for SavedAcks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer).unwrap_or_default()))
    }
}

/// An acknowledgement that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedAck {
    pub(crate) id: u64,
    /// The shard where somebody waits.
    pub(crate) waiter: Location,
    /// For how long still, in milliseconds; `None`: as long as the socket is there.
    pub(crate) left: Option<u64>,
}

/// The operators' orders that its sockets were given lately, in their order. It stands behind the principals, for the same reason: an older
/// node gives them an order again that reaches it later than the session's former one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SavedOrders(pub(crate) Vec<Vec<SavedOrder>>);

impl<'de> Deserialize<'de> for SavedOrders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::deserialize(deserializer).unwrap_or_default()))
    }
}

/// An order that a socket was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedOrder {
    pub(crate) order: u64,
    /// The parts of it: a bit for each.
    pub(crate) parts: u128,
    /// How long ago, in milliseconds.
    pub(crate) age: u64,
}

/// One of its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSocket {
    pub(crate) namespace: Arc<str>,
    pub(crate) id: Address,
    pub(crate) next_ack: u64,
}

#[cfg(test)]
mod tests {
    use signalbox_cluster::{
        NodeTag,
        envelope::{Format, Metadata, decode, encode},
    };

    use super::*;

    #[test]
    fn what_a_node_of_an_earlier_version_sends_ends_before_what_it_does_not_know() {
        let waiter = Location { node: NodeTag(7), shard: 3 };
        let acks = SavedAcks(vec![vec![SavedAck { id: 4, waiter, left: Some(900) }], Vec::new()]);
        let data = SavedData(vec![vec![("name".to_owned(), "1".to_owned())], Vec::new()]);
        for format in Format::ALL {
            let earlier = encode(format, &Metadata::default(), &(SavedAge(5), &data));
            let read = decode::<(SavedAge, SavedData, SavedAcks)>(&earlier);
            assert_eq!(read.map(|(_, value)| value), Ok((SavedAge(5), data.clone(), SavedAcks::default())));
            let present = encode(format, &Metadata::default(), &(SavedAge(5), &data, &acks));
            let read = decode::<(SavedAge, SavedData, SavedAcks)>(&present);
            assert_eq!(read.map(|(_, value)| value), Ok((SavedAge(5), data.clone(), acks.clone())));
            let read = decode::<(SavedAge, SavedData)>(&present);
            assert_eq!(read.map(|(_, value)| value), Ok((SavedAge(5), data.clone())));
            let order = SavedOrder { order: u64::MAX, parts: u128::MAX, age: 1 };
            let orders = SavedOrders(vec![vec![order], Vec::new()]);
            let read = decode::<(SavedAge, SavedData, SavedAcks, SavedOrders)>(&present);
            assert_eq!(read.map(|(_, value)| value.3), Ok(SavedOrders::default()));
            let present = encode(format, &Metadata::default(), &(&acks, &orders));
            assert_eq!(decode::<(SavedAcks, SavedOrders)>(&present).map(|(_, value)| value.1), Ok(orders));
        }
    }
}
