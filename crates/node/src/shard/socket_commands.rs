//! What is for one socket, forwarded if the socket has moved.

use std::time::Instant;

use signalbox_cluster::{Address, Record, RoomName};
use signalbox_socketio::Message;

use super::{
    State,
    membership::{JoinRequest, ReplyTo},
    session::PendingAck,
    timers::Timer,
};
use crate::{
    app::AckError,
    mailbox::{CloseCommand, SocketCommand, SocketOp},
};

impl State {
    /// Something for a socket that was born here, or moved here.
    pub(super) fn socket_command(&mut self, now: Instant, socket_command: SocketCommand) {
        let SocketCommand { to, namespace, what } = socket_command;
        let Some(key) = self.sockets.get(&to).copied() else {
            match self.moved_out.get(&to) {
                Some(place) => self.node.forward(*place, SocketCommand { to, namespace, what }),
                None => self.node.for_nobody(what),
            }
            return;
        };
        let session = &mut self.sessions[key as usize];
        if session.local.is_moving && matches!(what, SocketOp::Join { .. } | SocketOp::Leave { .. }) {
            session.local.deferred.push(SocketCommand { to, namespace, what });
            return;
        }
        let slot =
            session.slot_of(to).filter(|slot| session.connection.sockets()[*slot].namespace == namespace);
        let Some(slot) = slot else {
            self.node.for_nobody(what);
            return;
        };
        match what {
            SocketOp::Send { message, volatile } => self.send(key, &message, volatile),
            SocketOp::Ask { event, args, timeout, reply } => {
                let number = self.sessions[key as usize].local.number;
                let Some(joined) = self.sessions[key as usize].connection.socket_mut(slot) else { return };
                let id = joined.socket.next_ack;
                joined.socket.next_ack += 1;
                joined.socket.asked.push_back(PendingAck { id, until: now + timeout, reply });
                let namespace = joined.namespace.clone();
                let message =
                    Message::event(&namespace, Some(id), &event, &[args.inner()], args.attachments());
                self.timers.add(now + timeout, Timer::Ack { key, number, id });
                self.send(key, &message, false);
            }
            SocketOp::Ack { id, args } => {
                let namespace = self.sessions[key as usize].connection.sockets()[slot].namespace.clone();
                let message = Message::ack(&namespace, id, &[args.inner()], args.attachments());
                self.send(key, &message, false);
            }
            SocketOp::Signal { message, reply } => {
                self.send(key, &message, false);
                if let Some(reply) = reply {
                    self.node.signalled(reply, true);
                }
            }
            SocketOp::Join { room, record, reply } => {
                let namespace = self.sessions[key as usize].connection.sockets()[slot].namespace.clone();
                let record =
                    record.map_or_else(|| bare_record(to), |record| Record { socket: to, ..*record });
                let room = RoomName { namespace, name: room };
                let then = ReplyTo::Tell(reply);
                self.join(now, key, JoinRequest { socket: to, room, record, then });
            }
            SocketOp::Leave { room, reply } => {
                let found = self.room_of(key, slot, &room);
                if let Some(room) = found {
                    if let Some(joined) = self.sessions[key as usize].connection.socket_mut(slot) {
                        joined.socket.rooms.retain(|joined| *joined != room);
                    }
                    self.leave_room(now, room, to);
                }
                let _ = reply.send(found.is_some());
            }
            SocketOp::Rooms { reply } => {
                let rooms = &self.sessions[key as usize].connection.sockets()[slot].socket.rooms;
                let names =
                    rooms.iter().filter_map(|room| self.rooms.get(*room)).map(|room| room.name.name.clone());
                let _ = reply.send(names.collect());
            }
            SocketOp::Disconnect { close: false } => self.disconnect(now, key, slot),
            SocketOp::Disconnect { close: true } => {
                while !self.sessions[key as usize].connection.sockets().is_empty() {
                    self.disconnect(now, key, 0);
                }
                self.end(now, key, CloseCommand::Close);
            }
        }
    }

    /// Takes a client out of a namespace, and tells it: it will not come back by itself.
    fn disconnect(&mut self, now: Instant, key: u32, slot: usize) {
        if let Some(joined) = self.sessions[key as usize].connection.leave(slot) {
            self.send(key, &Message::disconnect(&joined.namespace), false);
            self.socket_gone(now, joined, "server namespace disconnect");
        }
    }

    /// An ack that a handler waits for did not come.
    pub(super) fn ack_timed_out(&mut self, key: u32, number: u64, id: u64) {
        let Some(session) = self.session(key, number) else { return };
        for slot in 0..session.connection.sockets().len() {
            let Some(joined) = session.connection.socket_mut(slot) else { continue };
            let asked = &mut joined.socket.asked;
            if let Some(index) = asked.iter().position(|asked| asked.id == id)
                && let Some(asked) = asked.remove(index)
            {
                let _ = asked.reply.send(Err(AckError::TimedOut));
            }
        }
    }
}

/// A membership that nobody is told of.
fn bare_record(socket: Address) -> Record {
    Record { socket, profile: "{}".into(), joined: None, updated: None, left: None }
}
