//! Broadcasts from handlers: their recipients and exclusions.

use std::sync::Arc;

use signalbox_cluster::Address;
use signalbox_socketio::Args;

use super::{event_message::event_message, router::SocketRouter};
use crate::routing::{Audience, SocketCommand, SocketOp};

/// The recipients of an event: members of rooms, or a whole namespace.
#[derive(Clone)]
#[must_use = "nothing is sent before emit"]
pub struct To {
    router: Arc<dyn SocketRouter>,
    audience: Audience,
    sockets: Vec<Address>,
    volatile: bool,
}

impl std::fmt::Debug for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("To").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl To {
    pub(crate) fn new(router: Arc<dyn SocketRouter>, namespace: Arc<str>) -> Self {
        let audience =
            Audience { namespace, rooms: Vec::new(), except: Vec::new(), except_rooms: Vec::new() };
        Self { router, audience, sockets: Vec::new(), volatile: false }
    }

    /// Also the members of this room, and the socket of this id: a socket's id is a room of its own. A socket in several gets it once.
    pub fn to(mut self, room: &str) -> Self {
        if let Some(socket) = self.socket(room).filter(|socket| !self.sockets.contains(socket)) {
            self.sockets.push(socket);
        }
        self.audience.rooms.push(room.into());
        self
    }

    /// But not the members of this room, nor the socket of this id.
    pub fn except(mut self, room: &str) -> Self {
        self.audience.except.extend(self.socket(room));
        self.audience.except_rooms.push(room.into());
        self
    }

    /// The socket that `name` may be the id of.
    fn socket(&self, name: &str) -> Option<Address> {
        Address::parse(name).filter(|address| self.router.is_known(*address))
    }

    pub(crate) fn except_socket(mut self, socket: Address) -> Self {
        self.audience.except.push(socket);
        self
    }

    /// Who is not ready for it may miss it.
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Sends an event; not one with a reserved name, see [`Socket::emit`](super::Socket::emit).
    pub fn emit(mut self, event: &str, args: Args) {
        let namespace = self.audience.namespace.clone();
        let Some(message) = event_message(&namespace, event, &args) else { return };
        self.sockets.retain(|socket| !self.audience.except.contains(socket));
        // A socket that was named gets it once, even if also in one of the rooms.
        self.audience.except.extend_from_slice(&self.sockets);
        for to in self.sockets {
            let op = SocketOp::Send { message: message.clone(), volatile: self.volatile };
            self.router.send(SocketCommand { to, namespace: namespace.clone(), op });
        }
        self.router.broadcast(self.audience, message, self.volatile);
    }
}
