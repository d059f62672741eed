//! What is for one socket, forwarded if the socket has moved.

use std::{collections::VecDeque, time::Instant};

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
                let Some(joined) = self.sessions[key].connection.socket_mut(slot) else { return };
                let id = joined.socket.next_ack;
                joined.socket.next_ack += 1;
                // Beyond the clock's range there is no time-out.
                let until = now.checked_add(timeout);
                joined.socket.pending_acks.push_back(PendingAck { id, until, reply });
                let namespace = joined.namespace.clone();
                let message =
                    Message::event(&namespace, Some(id), &event, &[args.inner()], args.attachments());
                if let Some(at) = until {
                    self.arm_acks(key, slot, at);
                }
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
                self.join(key, JoinRequest { socket: to, room, record, reply_to, replaces: false });
            }
            SocketOp::Leave { room, reply } => {
                let found = self.room_of(key, slot, &room);
                if let Some(room) = found {
                    self.leave(key, slot, room, to);
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
            SocketOp::Close => self.end(now, key, CloseCommand::Close),
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
    pub(super) fn disconnect(&mut self, key: u32, slot: usize) {
        if let Some(joined) = self.sessions[key].connection.leave(slot) {
            self.send(key, &Message::disconnect(&joined.namespace), false);
            self.socket_gone(joined, "server namespace disconnect");
        }
    }

    /// Queues a timer for the acks of a socket that handlers wait for: for one that is waited for until `at`, unless an earlier timer
    /// is queued already.
    fn arm_acks(&mut self, key: u32, slot: usize, at: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let number = session.local.number;
        let Some(joined) = session.connection.socket_mut(slot) else { return };
        let socket = &mut joined.socket;
        if socket.acks_timer_at.is_none_or(|queued| at < queued) {
            socket.acks_timer_at = Some(at);
            self.timers.add(at, Timer::Acks { key, number, socket: socket.id });
        }
    }

    /// Queues a timer for the first of them to be given up.
    pub(super) fn arm_first_ack(&mut self, key: u32, slot: usize) {
        let Some(joined) = self.sessions[key].connection.socket_mut(slot) else { return };
        joined.socket.acks_timer_at = None;
        if let Some(at) = joined.socket.pending_acks.iter().filter_map(|pending| pending.until).min() {
            self.arm_acks(key, slot, at);
        }
    }

    /// Acks of a socket that handlers wait for may not have come in time.
    pub(super) fn acks_timed_out(
        &mut self,
        now: Instant,
        due: Instant,
        key: u32,
        number: u64,
        socket: Address,
    ) {
        let Some(session) = self.sessions.checked(key, number) else { return };
        let Some(slot) = session.slot_of(socket) else { return };
        let Some(joined) = session.connection.socket_mut(slot) else { return };
        if joined.socket.acks_timer_at != Some(due) {
            return;
        }
        let is_over = |pending: &PendingAck| pending.until.is_some_and(|until| until <= now);
        let pending_acks = std::mem::take(&mut joined.socket.pending_acks);
        let (expired, waiting): (VecDeque<_>, VecDeque<_>) = pending_acks.into_iter().partition(is_over);
        joined.socket.pending_acks = waiting;
        for pending in expired {
            self.effects.answer(pending.reply, Err(AckError::TimedOut));
        }
        self.arm_first_ack(key, slot);
    }
}

/// A membership that nobody is told of.
fn bare_record(socket: Address) -> Record {
    Record { socket, profile: "{}".into(), joined: None, updated: None, left: None }
}
