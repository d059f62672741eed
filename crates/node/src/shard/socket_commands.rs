//! What is for one socket, forwarded if the socket has moved.

use std::time::Instant;

use signalbox_cluster::{Address, Record, RoomName};
use signalbox_socketio::Message;

use super::{
    Shard,
    effects::Effect,
    mailbox::CloseCommand,
    tables::{
        Timer,
        pending::{JoinRequest, ReplyTo},
    },
};
use crate::{
    routing::{AckError, SocketCommand, SocketOp},
    session::PendingAck,
};

impl Shard {
    /// An operation on a socket that was born here, or moved here.
    pub(super) fn socket_command(&mut self, now: Instant, command: SocketCommand) {
        let Some(key) = self.sessions.find_by_socket(command.to) else {
            match self.forwarding.get(&command.to) {
                Some(to) => self.effects.push(Effect::Forward { to: *to, command }),
                None => self.socket_not_found(command.op),
            }
            return;
        };
        let session = &mut self.sessions[key];
        let changes_rooms = matches!(command.op, SocketOp::Join { .. } | SocketOp::Leave { .. });
        if session.local.is_moving && changes_rooms {
            session.local.deferred.push(command);
            return;
        }
        let SocketCommand { to, namespace, op } = command;
        let slot =
            session.slot_of(to).filter(|slot| session.connection.sockets()[*slot].namespace == namespace);
        let Some(slot) = slot else {
            self.socket_not_found(op);
            return;
        };
        match op {
            SocketOp::Send { message, volatile } => self.send(key, &message, volatile),
            SocketOp::Ask { event, args, timeout, reply } => {
                let number = self.sessions[key].local.number;
                let Some(joined) = self.sessions[key].connection.socket_mut(slot) else { return };
                let id = joined.socket.next_ack;
                joined.socket.next_ack += 1;
                joined.socket.pending_acks.push_back(PendingAck { id, until: now + timeout, reply });
                let namespace = joined.namespace.clone();
                let message =
                    Message::event(&namespace, Some(id), &event, &[args.inner()], args.attachments());
                self.timers.add(now + timeout, Timer::Ack { key, number, id });
                self.send(key, &message, false);
            }
            SocketOp::Ack { id, args } => {
                let namespace = self.sessions[key].connection.sockets()[slot].namespace.clone();
                let message = Message::ack(&namespace, id, &[args.inner()], args.attachments());
                self.send(key, &message, false);
            }
            SocketOp::Signal { message, reply } => {
                self.send(key, &message, false);
                if let Some(reply) = reply {
                    self.effects.push(Effect::Signalled { to: reply, found: true });
                }
            }
            SocketOp::Join { room, record, reply } => {
                let namespace = self.sessions[key].connection.sockets()[slot].namespace.clone();
                let record =
                    record.map_or_else(|| bare_record(to), |record| Record { socket: to, ..*record });
                let room = RoomName { namespace, name: room };
                let reply_to = ReplyTo::Handler(reply);
                self.join(key, JoinRequest { socket: to, room, record, reply_to });
            }
            SocketOp::Leave { room, reply } => {
                let found = self.room_of(key, slot, &room);
                if let Some(room) = found {
                    if let Some(joined) = self.sessions[key].connection.socket_mut(slot) {
                        joined.socket.rooms.retain(|joined| *joined != room);
                    }
                    self.leave_room(room, to);
                }
                self.effects.answer(reply, found.is_some());
            }
            SocketOp::Rooms { reply } => {
                let rooms = &self.sessions[key].connection.sockets()[slot].socket.rooms;
                let names =
                    rooms.iter().filter_map(|room| self.rooms.get(*room)).map(|room| room.name.name.clone());
                let names = names.collect();
                self.effects.answer(reply, names);
            }
            SocketOp::Disconnect { close: false } => self.disconnect(key, slot),
            SocketOp::Disconnect { close: true } => {
                while !self.sessions[key].connection.sockets().is_empty() {
                    self.disconnect(key, 0);
                }
                self.end(now, key, CloseCommand::Close);
            }
        }
    }

    /// The socket is nowhere. Whoever waits for an answer of the socket is told by the end of its reply.
    fn socket_not_found(&mut self, op: SocketOp) {
        if let SocketOp::Signal { reply: Some(to), .. } = op {
            self.effects.push(Effect::Signalled { to, found: false });
        }
    }

    /// Takes a client out of a namespace, and tells it: it will not come back by itself.
    fn disconnect(&mut self, key: u32, slot: usize) {
        if let Some(joined) = self.sessions[key].connection.leave(slot) {
            self.send(key, &Message::disconnect(&joined.namespace), false);
            self.socket_gone(joined, "server namespace disconnect");
        }
    }

    /// An ack that a handler waits for did not come.
    pub(super) fn ack_timed_out(&mut self, key: u32, number: u64, id: u64) {
        let Some(session) = self.sessions.checked(key, number) else { return };
        for slot in 0..session.connection.sockets().len() {
            let Some(joined) = session.connection.socket_mut(slot) else { continue };
            let pending = &mut joined.socket.pending_acks;
            if let Some(index) = pending.iter().position(|pending| pending.id == id)
                && let Some(expired) = pending.remove(index)
            {
                self.effects.answer(expired.reply, Err(AckError::TimedOut));
            }
        }
    }
}

/// A membership that nobody is told of.
fn bare_record(socket: Address) -> Record {
    Record { socket, profile: "{}".into(), joined: None, updated: None, left: None }
}
