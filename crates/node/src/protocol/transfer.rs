//! A session on its way to another node, as a plain value.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
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
    pub(crate) principal: Option<Principal>,
    pub(crate) handshake: Option<Handshake>,
}

/// One of its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSocket {
    pub(crate) namespace: Arc<str>,
    pub(crate) id: Address,
    pub(crate) next_ack: u64,
}
