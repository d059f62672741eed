//! Joining and leaving rooms.

use std::{sync::Arc, time::Instant};

use signalbox_cluster::{Address, Command, Delivery, Record, RoomName};

use super::{
    Shard,
    actions::members_json,
    mailbox::CloseCommand,
    socketio::Refusal,
    tables::{
        PendingRequest,
        pending::{JoinRequest, ReplyTo},
    },
};
use crate::{policy::Decided, session::RoomKey};

/// Most rooms one socket may be in.
const MAX_ROOMS: usize = 1024;

impl Shard {
    /// The policy allows the join, or not.
    pub(super) fn join_decided(&mut self, now: Instant, key: u32, join: JoinRequest, decided: Decided) {
        match decided {
            Decided::Allow(_) => self.join(key, join),
            Decided::Deny(denial) if denial.is_failure() => self.end(now, key, CloseCommand::Close),
            Decided::Deny(denial) => self.join_refused(key, join, denial.code, &denial.message),
        }
    }

    /// Joins a room: first this shard is on the room's route, then the cluster is asked.
    pub(super) fn join(&mut self, key: u32, join: JoinRequest) {
        let session = &self.sessions[key];
        let Some(slot) = session.slot_of(join.socket) else {
            self.join_refused(key, join, "not-found", "the socket is disconnected");
            return;
        };
        let present = self.room_of(key, slot, &join.room.name);
        if let Some(room) = present
            && join.replaces
            && self
                .own_record(key, slot, &join.room)
                .is_some_and(|known| known.profile != join.record.profile)
        {
            self.leave(key, slot, room, join.socket);
        }
        let session = &self.sessions[key];
        if present.is_none() && session.connection.sockets()[slot].socket.rooms.len() >= MAX_ROOMS {
            self.join_refused(key, join, "too-many-rooms", "leave a room before joining another");
            return;
        }
        let number = session.local.number;
        let room = self.open_room(&join.room);
        if let Some(room) = self.rooms.get_mut(room) {
            room.expected += 1;
        }
        // A client's frames behind its join wait for it; a handler's own code waits for itself.
        let held = matches!(join.reply_to, ReplyTo::Client { .. });
        let list = matches!(join.reply_to, ReplyTo::Client { id: Some(_), .. });
        self.request_begins(key, held);
        let ticket = self.next_number();
        let command = Command::Join {
            shard: self.context.id,
            ticket,
            room: join.room.clone(),
            record: Arc::new(join.record.clone()),
            list,
        };
        self.pending.insert(ticket, PendingRequest::Join { key, number, room, held, join: Box::new(join) });
        self.effects.submit(command);
    }

    fn join_refused(&mut self, key: u32, join: JoinRequest, code: &'static str, hint: &str) {
        match join.reply_to {
            ReplyTo::Handler(reply) => {
                self.effects.answer(reply, false);
            }
            ReplyTo::Client { event, id } => {
                self.context.metrics.refusals.with_label_values(&[code]).inc();
                let refusal = Refusal { namespace: &join.room.namespace, event: &event, id };
                let message = refusal.message(code, hint);
                self.send(key, &message, false);
            }
        }
    }

    /// The cluster has answered a join.
    pub(super) fn join_answered(
        &mut self,
        now: Instant,
        (key, number, room, held): (u32, u64, RoomKey, bool),
        join: JoinRequest,
        answer: Delivery,
    ) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.expected -= 1;
        }
        let is_member = matches!(answer, Delivery::Joined { .. });
        let slot = self.sessions.checked(key, number).and_then(|session| session.slot_of(join.socket));
        match (answer, slot) {
            (Delivery::Joined { change_id: told, members, .. }, Some(slot)) => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.members.insert(join.socket, key);
                    // Changes up to here are part of the answer, or have come before it.
                    room.last_change = room.last_change.max(told);
                }
                if let Some(joined) = self.sessions[key].connection.socket_mut(slot) {
                    let socket = &mut joined.socket;
                    if !socket.rooms.contains(&room) {
                        socket.rooms.push(room);
                    }
                    socket.records.retain(|(name, _)| *name != join.room.name);
                    if join.replaces {
                        socket.records.push((join.room.name.clone(), join.record.clone()));
                    }
                }
                self.join_succeeded(key, join, &members);
            }
            (_, None) => {
                // The client has gone meanwhile; what was joined for it is left again.
                if is_member {
                    self.effects.submit(Command::Leave { room: join.room.clone(), socket: join.socket });
                }
                if let ReplyTo::Handler(reply) = join.reply_to {
                    self.effects.answer(reply, false);
                }
            }
            (_, Some(_)) => {
                self.join_refused(key, join, "busy", "the server is overloaded, try again in a moment");
            }
        }
        self.rooms.check_later(room);
        if self.sessions.checked(key, number).is_some() {
            self.request_done(now, key, held);
            self.after_engine(now, key);
        }
    }

    fn join_succeeded(&mut self, key: u32, join: JoinRequest, members: &[Arc<Record>]) {
        match join.reply_to {
            ReplyTo::Handler(reply) => {
                self.effects.answer(reply, true);
            }
            ReplyTo::Client { id: Some(id), .. } => {
                // The new member itself is not told.
                let others = members.iter().filter(|record| record.socket != join.socket);
                let answer = members_json(&join.room.name, others);
                self.answer(key, &join.room.namespace, id, &answer);
            }
            ReplyTo::Client { id: None, .. } => {}
        }
    }

    /// A socket of a session leaves a room.
    pub(super) fn leave(&mut self, key: u32, slot: usize, room: RoomKey, socket: Address) {
        if let Some(joined) = self.sessions[key].connection.socket_mut(slot) {
            joined.socket.rooms.retain(|joined| *joined != room);
            if let Some(room) = self.rooms.get(room) {
                joined.socket.records.retain(|(name, _)| *name != room.name.name);
            }
        }
        self.leave_room(room, socket);
    }

    /// What a socket of a session has joined a room with, as in the tutorials.
    pub(super) fn own_record(&self, key: u32, slot: usize, room: &RoomName) -> Option<Record> {
        let socket = &self.sessions[key].connection.sockets()[slot].socket;
        if let Some((_, record)) = socket.records.iter().find(|(name, _)| *name == room.name) {
            return Some(record.clone());
        }
        let socket = socket.id;
        let records = self.context.cluster.session_records(&[(room.clone(), socket)], &[]);
        records.memberships.into_iter().next().map(|(_, record)| record)
    }

    /// A socket leaves a room.
    pub(super) fn leave_room(&mut self, key: RoomKey, socket: Address) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.members.swap_remove(&socket);
        let name = room.name.clone();
        self.rooms.check_later(key);
        self.effects.submit(Command::Leave { room: name, socket });
    }

    /// The key of a room the socket is in.
    pub(super) fn room_of(&self, key: u32, slot: usize, name: &str) -> Option<RoomKey> {
        let rooms = &self.sessions[key].connection.sockets()[slot].socket.rooms;
        rooms.iter().copied().find(|room| self.rooms.get(*room).is_some_and(|room| &*room.name.name == name))
    }
}
