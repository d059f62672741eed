//! A session on its way to another node, as a plain value.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use signalbox_cluster::{Address, RoomName, SessionRecords};
use signalbox_engineio as engineio;
use signalbox_socketio::connection;

use crate::{
    policy::{Handshake, Principal},
    routing::{ConnectionRef, DeliveryCursor},
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
}

impl SessionTransfer {
    /// The addresses that move with it: its own, and its sockets'.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let sockets = self.session.sockets.iter().map(|socket| socket.id);
        std::iter::once(self.session.sid).chain(sockets).collect()
    }
}

/// A session without what cannot leave its node: the answers of the client that handlers there wait for.
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

/// One of its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSocket {
    pub(crate) namespace: Arc<str>,
    pub(crate) id: Address,
    pub(crate) next_ack: u64,
}
