//! A session on its way to another node, as a plain value.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use signalbox_cluster::{Address, RoomName, SessionRecords};
use signalbox_engineio as engineio;
use signalbox_socketio::{Connection, connection};

use crate::{
    app::App,
    mailbox::ConnectionRef,
    policy::{Handshake, Principal},
    shard::{DeliveryCursor, SessionState, Socket},
};

/// A session, and all that the taker has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionTransfer {
    /// The WebSocket it moves to.
    pub(crate) at: ConnectionRef,
    pub(crate) session: SavedSession,
    /// What waited for a poll: whole frames.
    pub(crate) frames: Vec<Bytes>,
    /// The rooms that its sockets are in.
    pub(crate) rooms: Vec<(Address, RoomName)>,
    /// What the session was told.
    pub(crate) seen: DeliveryCursor,
    /// Its records in the shared state.
    pub(crate) belongings: SessionRecords,
}

impl SessionTransfer {
    /// The addresses that move with it: its own, and its sockets'.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let sockets = self.session.sockets.iter().map(|socket| socket.id);
        std::iter::once(self.session.sid).chain(sockets).collect()
    }
}

/// A [`SessionState`] without what cannot leave its node: the answers of the client that handlers there wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSession {
    pub(crate) sid: Address,
    engine: engineio::session::SavedSession,
    connection: connection::SavedConnection,
    sockets: Vec<SavedSocket>,
    principal: Option<Principal>,
    handshake: Option<Handshake>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedSocket {
    namespace: Arc<str>,
    id: Address,
    next_ack: u64,
}

impl SavedSession {
    /// A session as a plain value; `None` once it is over.
    pub(crate) fn save(now: Instant, session: &SessionState) -> Option<Self> {
        let sockets = session.connection.sockets().iter().map(|joined| SavedSocket {
            namespace: joined.namespace.clone(),
            id: joined.socket.id,
            next_ack: joined.socket.next_ack,
        });
        Some(Self {
            sid: session.sid,
            engine: session.engine.save(now)?,
            connection: session.connection.save(now),
            sockets: sockets.collect(),
            principal: session.principal.clone(),
            handshake: session.handshake.as_deref().cloned(),
        })
    }

    /// The session again; `None` when a namespace it has joined is unknown here, or no session can have been saved like this.
    pub(crate) fn restore(self, now: Instant, app: &App) -> Option<SessionState> {
        let mut connection = Connection::restore(now, self.connection)?;
        for SavedSocket { namespace, id, next_ack } in self.sockets {
            let app = app.find(&namespace)?;
            if connection.slot(&namespace).is_some() {
                return None;
            }
            let socket = Socket { id, app, rooms: Default::default(), asked: VecDeque::new(), next_ack };
            connection.join(namespace, socket);
        }
        Some(SessionState {
            sid: self.sid,
            engine: engineio::Session::restore(now, &self.engine),
            connection,
            principal: self.principal,
            handshake: self.handshake.map(Box::new),
            blocking: 0,
            in_flight: 0,
            held_post: None,
            seen: None,
        })
    }
}
