//! Broadcasts from handlers: their recipients and exclusions.

use std::sync::Arc;

use signalbox_cluster::Address;
use signalbox_socketio::{Args, Message};

use super::router::SocketRouter;
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

    /// Also the members of this room; a socket in several gets it once. A socket's id is a room of its own.
    pub fn to(mut self, room: &str) -> Self {
        match Address::parse(room) {
            Some(socket) => self.sockets.push(socket),
            None => self.audience.rooms.push(room.into()),
        }
        self
    }

    /// But not the members of this room, or this socket.
    pub fn except(mut self, room: &str) -> Self {
        match Address::parse(room) {
            Some(socket) => self.audience.except.push(socket),
            None => self.audience.except_rooms.push(room.into()),
        }
        self
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

    /// Sends an event.
    pub fn emit(mut self, event: &str, args: Args) {
        let namespace = self.audience.namespace.clone();
        let message = Message::event(&namespace, None, event, &[args.inner()], args.attachments());
        self.sockets.retain(|socket| !self.audience.except.contains(socket));
        let only_sockets = self.audience.rooms.is_empty() && !self.sockets.is_empty();
        // A socket that was named gets it once, even if also in one of the rooms.
        self.audience.except.extend_from_slice(&self.sockets);
        for to in self.sockets {
            let op = SocketOp::Send { message: message.clone(), volatile: self.volatile };
            self.router.send(SocketCommand { to, namespace: namespace.clone(), op });
        }
        if !only_sockets {
            self.router.broadcast(self.audience, message, self.volatile);
        }
    }
}
