//! Lines of the stories of clients that are followed ([`crate::client_log`]). Whoever calls has looked whether anybody is
//! (`ClientLog::is_on`), so that all of this costs nothing otherwise.

use std::fmt::Display;

use signalbox_engineio::Packet;
use signalbox_socketio::Message;
use tracing::field::{debug, display};

use crate::{
    app::{Namespace, vocabulary},
    client_log::{
        ClientLog, ClientSelector, STORIES, Who,
        head::{self, Names},
    },
    session::Session,
};

/// Whether a frame comes from the client, or goes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The names that a client of Socket.IO may send, and the server sends.
struct SessionNames<'a>(&'a Session, Direction);

impl Names for SessionNames<'_> {
    fn is_namespace(&self, namespace: &str) -> bool {
        let mut sockets = self.0.connection.sockets().iter();
        sockets.any(|joined| *joined.namespace == *namespace && joined.socket.app.is_named())
    }

    fn is_event(&self, namespace: &str, event: &str) -> bool {
        let mut sockets = self.0.connection.sockets().iter();
        let joined = sockets.find(|joined| *joined.namespace == *namespace);
        // Whatever rules are in force: the names of the vocabulary are nothing that a client has made up.
        let is_known =
            |app: &Namespace| app.knows(event) || app.is_ruled && vocabulary::action(event).is_some();
        self.1 == Direction::Out || joined.is_some_and(|joined| is_known(&joined.socket.app))
    }
}

fn find_session(log: &ClientLog, session: &Session) -> Option<ClientSelector> {
    let address = session.address();
    let itself = Who {
        address,
        session: Some(session.sid),
        subject: session.principal.as_deref().map(|known| &*known.subject),
        ..Who::default()
    };
    let sockets = session.connection.sockets().iter().map(|joined| Who {
        socket: Some(joined.socket.id),
        subject: joined.socket.principal.as_deref().map(|known| &*known.subject),
        ..Who::default()
    });
    log.find(std::iter::once(itself).chain(sockets))
}

/// A frame of a client has come, or goes to it.
pub(super) fn session_packet(log: &ClientLog, session: &Session, direction: Direction, packet: &Packet<'_>) {
    let Some(client) = find_session(log, session) else { return };
    let bytes = match packet {
        Packet::Message(text) | Packet::Ping(text) | Packet::Pong(text) => text.len() + 1,
        Packet::Binary(bytes) => bytes.len(),
        Packet::Open | Packet::Close | Packet::Upgrade | Packet::Noop => 1,
    };
    let frame = head::packet(packet, &SessionNames(session, direction));
    let (client, direction) = (client.as_str(), direction.name());
    tracing::info!(target: STORIES, client, session = %session.sid, direction, frame, bytes, "frame");
}

/// A message goes to a client, or is dropped since it is volatile.
pub(super) fn session_message(log: &ClientLog, session: &Session, message: &Message, is_dropped: bool) {
    let Some(client) = find_session(log, session) else { return };
    let text = message.text();
    let frame = head::packet(&Packet::Message(&text), &SessionNames(session, Direction::Out));
    let (client, bytes) = (client.as_str(), message.len());
    let what = if is_dropped { "volatile frame dropped" } else { "frame" };
    tracing::info!(target: STORIES, client, session = %session.sid, direction = "out", frame, bytes, "{what}");
}

/// Something happened in the life of a client. `detail` is the server's word; names that clients have made up are not shown ([`head::name`]).
pub(super) fn session_event(log: &ClientLog, session: &Session, what: &'static str, detail: &str) {
    let Some(client) = find_session(log, session) else { return };
    let (client, address) = (client.as_str(), shown(session.address()));
    let principals =
        session.connection.sockets().iter().filter_map(|joined| joined.socket.principal.as_ref());
    let subject = principals.chain(&session.principal).next().map(|known| debug(head::cut(&known.subject)));
    let detail = head::cut(detail);
    tracing::info!(target: STORIES, client, session = %session.sid, address, subject, detail, "{what}");
}

/// A frame of a PeerServer client has come, or goes to it.
pub(super) fn peer_frame(log: &ClientLog, peer: Who<'_>, direction: Direction, frame: &str, bytes: usize) {
    let Some(client) = log.find_one(peer) else { return };
    let (client, direction, id) = (client.as_str(), direction.name(), peer.peer.map(head::name));
    tracing::info!(target: STORIES, client, peer = id, direction, frame, bytes, "frame");
}

/// Something happened in the life of a PeerServer client.
pub(super) fn peer_event(log: &ClientLog, peer: Who<'_>, what: &'static str, detail: &str) {
    let Some(client) = log.find_one(peer) else { return };
    let (client, id, address) = (client.as_str(), peer.peer.map(head::name), shown(peer.address));
    let subject = peer.subject.map(|subject| debug(head::cut(subject)));
    tracing::info!(target: STORIES, client, peer = id, address, subject, detail = head::cut(detail), "{what}");
}

fn shown<T: Display>(address: Option<T>) -> Option<tracing::field::DisplayValue<T>> {
    address.map(display)
}
