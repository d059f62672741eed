//! A client's socket, as handlers see it: an address that can be used from anywhere, wherever the session lives.

use std::{net::IpAddr, sync::Arc, time::Duration};

use signalbox_auth::Principal;
use signalbox_cluster::{Address, Record};
use signalbox_socketio::{Args, args::is_reserved};

use super::{broadcast::To, event_message::event_message, router::SocketRouter};
pub use crate::routing::AckError;
use crate::routing::{Reply, SocketCommand, SocketOp};

/// A client's socket in one namespace. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Socket {
    pub(crate) router: Arc<dyn SocketRouter>,
    pub(crate) namespace: Arc<str>,
    pub(crate) id: Address,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket({}{})", self.namespace, self.id)
    }
}

impl Socket {
    /// The socket's id, 20 characters.
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn direct(&self, op: SocketOp) {
        self.router.send(SocketCommand { to: self.id, namespace: self.namespace.clone(), op });
    }

    fn send(&self, event: &str, args: &Args, volatile: bool) {
        if let Some(message) = event_message(&self.namespace, event, args) {
            self.direct(SocketOp::Send { message, volatile });
        }
    }

    /// Sends an event. What is sent to a client that has gone is dropped. An event with a reserved name (see [`AckError::Reserved`])
    /// is not sent, and that is logged as an error: clients would close the connection.
    pub fn emit(&self, event: &str, args: Args) {
        self.send(event, &args, false);
    }

    /// Sends an event that may be dropped when the client is not ready for it.
    pub fn emit_volatile(&self, event: &str, args: Args) {
        self.send(event, &args, true);
    }

    /// Sends an event and waits for the client's answer.
    ///
    /// # Errors
    /// [`AckError::TimedOut`] after `timeout`, [`AckError::Disconnected`] when the client goes before, [`AckError::Reserved`] for a
    /// name that events cannot have.
    pub async fn emit_with_ack(&self, event: &str, args: Args, timeout: Duration) -> Result<Args, AckError> {
        if is_reserved(event) {
            return Err(AckError::Reserved);
        }
        let (reply, answer) = Reply::channel();
        self.direct(SocketOp::Ask { event: event.to_owned(), args, timeout, reply });
        answer.await.unwrap_or(Err(AckError::Disconnected))
    }

    /// Joins a room; `false` when the socket has gone or the node is overloaded. Nobody is told.
    pub async fn join(&self, room: &str) -> bool {
        self.join_as(room, None).await
    }

    /// Joins a room with a record: a profile, and what the others are told.
    pub async fn join_as(&self, room: &str, record: Option<Record>) -> bool {
        let (reply, answer) = Reply::channel();
        self.direct(SocketOp::Join { room: room.into(), record: record.map(Box::new), reply });
        answer.await.unwrap_or(false)
    }

    /// Leaves a room; `false` when the socket was not in it.
    pub async fn leave(&self, room: &str) -> bool {
        let (reply, answer) = Reply::channel();
        self.direct(SocketOp::Leave { room: room.into(), reply });
        answer.await.unwrap_or(false)
    }

    /// The rooms the socket is in, without the room of its own id.
    pub async fn rooms(&self) -> Vec<String> {
        let (reply, answer) = Reply::channel();
        self.direct(SocketOp::Rooms { reply });
        answer.await.unwrap_or_default().iter().map(|room| room.to_string()).collect()
    }

    /// Everybody in a room but this socket. A socket's id is a room, too.
    pub fn to(&self, room: &str) -> To {
        To::new(self.router.clone(), self.namespace.clone()).to(room).except_socket(self.id)
    }

    /// Everybody in the namespace but this socket.
    pub fn broadcast(&self) -> To {
        To::new(self.router.clone(), self.namespace.clone()).except_socket(self.id)
    }

    /// Everybody in the namespace, this socket included.
    pub fn everybody(&self) -> To {
        To::new(self.router.clone(), self.namespace.clone())
    }

    /// Everybody in another namespace.
    pub fn of(&self, namespace: &str) -> To {
        To::new(self.router.clone(), namespace.into())
    }

    /// Closes the connection as if it had failed: the client connects anew.
    pub(crate) fn close_connection(&self) {
        self.direct(SocketOp::Close);
    }

    /// Takes the client out of this namespace; with `close`, closes its whole connection. What was sent to it before arrives first.
    pub fn disconnect(&self, close: bool) {
        self.direct(SocketOp::Disconnect { close });
    }
}

/// An event of a client.
pub struct Event {
    pub(crate) name: String,
    pub(crate) args: Args,
    pub(crate) ack: Option<(Socket, u64)>,
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) address: Option<IpAddr>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("name", &self.name).field("args", &self.args).finish_non_exhaustive()
    }
}

impl Event {
    /// Its name; a number's text for a numeric one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its arguments, behind the name.
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Who the client is, where a token says so.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// The client's address, behind the proxies that are trusted.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether the client waits for an answer.
    pub fn wants_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Answers, if the client waits for it.
    pub fn ack(self, args: Args) {
        if let Some((socket, id)) = self.ack {
            socket.direct(SocketOp::Ack { id, args });
        }
    }
}
