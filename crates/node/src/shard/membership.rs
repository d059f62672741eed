//! Joining and leaving rooms.

use std::{sync::Arc, time::Instant};

use signalbox_cluster::{Address, Command, Delivery, Record, RoomName};
use tokio::sync::oneshot;

use super::{State, answers::PendingRequest, packets::Refusal, rooms::RoomKey};
use crate::policy::Decided;

/// Most rooms one socket may be in.
const MAX_ROOMS: usize = 1024;

/// A join under way.
pub(super) struct JoinRequest {
    pub(super) socket: Address,
    pub(super) room: RoomName,
    pub(super) record: Record,
    pub(super) then: ReplyTo,
}

/// What happens once it is answered.
pub(super) enum ReplyTo {
    /// The client's event is answered.
    Answer { event: String, id: Option<u64> },
    /// A handler is told.
    Tell(oneshot::Sender<bool>),
}

impl State {
    /// The policy allows the join, or not.
    pub(super) fn join_decided(&mut self, now: Instant, key: u32, join: JoinRequest, decided: Decided) {
        match decided {
            Decided::Allow(_) => self.join(now, key, join),
            Decided::Deny(denial) => self.join_refused(key, join, denial.code, &denial.message),
        }
    }

    /// Joins a room: first this shard is on the room's route, then the cluster is asked.
    pub(super) fn join(&mut self, now: Instant, key: u32, join: JoinRequest) {
        let session = &self.sessions[key as usize];
        let Some(slot) = session.slot_of(join.socket) else {
            self.join_refused(key, join, "not-found", "the socket is disconnected");
            return;
        };
        let is_member = self.room_of(key, slot, &join.room.name).is_some();
        if !is_member && session.connection.sockets()[slot].socket.rooms.len() >= MAX_ROOMS {
            self.join_refused(key, join, "too-many-rooms", "leave a room before joining another");
            return;
        }
        let number = session.local.number;
        let node = self.node.clone();
        let room = self.rooms.open(&join.room, || node.cluster.route(&join.room));
        if let Some(room) = self.rooms.get_mut(room) {
            room.route.add(self.id);
            room.expected += 1;
        }
        // A client's frames behind its join wait for it; a handler's own code waits for itself.
        let held = matches!(join.then, ReplyTo::Answer { .. });
        let list = matches!(join.then, ReplyTo::Answer { id: Some(_), .. });
        self.request_begins(key, held);
        let ticket = self.next_number();
        let command = Command::Join {
            shard: self.id,
            ticket,
            room: join.room.clone(),
            record: join.record.clone(),
            list,
        };
        self.waiting.insert(ticket, PendingRequest::Join { key, number, room, held, join: Box::new(join) });
        node.cluster.submit(now, command);
    }

    fn join_refused(&mut self, key: u32, join: JoinRequest, code: &'static str, hint: &str) {
        match join.then {
            ReplyTo::Tell(reply) => {
                let _ = reply.send(false);
            }
            ReplyTo::Answer { event, id } => {
                self.node.metrics.refusals.with_label_values(&[code]).inc();
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
        let slot = self.session(key, number).and_then(|session| session.slot_of(join.socket));
        match (answer, slot) {
            (Delivery::Joined { change_id: told, members, .. }, Some(slot)) => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.members.insert(join.socket, key);
                    // Changes up to here are part of the answer, or have come before it.
                    room.told = room.told.max(told);
                }
                if let Some(joined) = self.sessions[key as usize].connection.socket_mut(slot)
                    && !joined.socket.rooms.contains(&room)
                {
                    joined.socket.rooms.push(room);
                }
                self.join_succeeded(key, join, &members);
            }
            (_, None) => {
                // The client has gone meanwhile; what was joined for it is left again.
                if is_member {
                    self.node
                        .cluster
                        .submit(now, Command::Leave { room: join.room.clone(), socket: join.socket });
                }
                if let ReplyTo::Tell(reply) = join.then {
                    let _ = reply.send(false);
                }
            }
            (_, Some(_)) => {
                self.join_refused(key, join, "busy", "the server is overloaded, try again in a moment");
            }
        }
        self.close_room_if_unused(room);
        if self.session(key, number).is_some() {
            self.request_done(now, key, held);
            self.after_engine(now, key);
        }
    }

    fn join_succeeded(&mut self, key: u32, join: JoinRequest, members: &[Arc<Record>]) {
        match join.then {
            ReplyTo::Tell(reply) => {
                let _ = reply.send(true);
            }
            ReplyTo::Answer { id: Some(id), .. } => {
                let answer = super::actions::members_json(&join.room.name, members);
                self.answer(key, &join.room.namespace, id, &answer);
            }
            ReplyTo::Answer { id: None, .. } => {}
        }
    }

    /// A socket leaves a room.
    pub(super) fn leave_room(&mut self, now: Instant, key: RoomKey, socket: Address) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.members.swap_remove(&socket);
        let name = room.name.clone();
        self.close_room_if_unused(key);
        self.node.cluster.submit(now, Command::Leave { room: name, socket });
    }

    /// Forgets a room that nobody here is in, and takes this shard off its route.
    pub(super) fn close_room_if_unused(&mut self, key: RoomKey) {
        if let Some(room) = self.rooms.close_if_unused(key) {
            self.node.cluster.release_route(std::time::Instant::now(), &room.name, room.route, self.id);
        }
    }

    /// The key of a room the socket is in.
    pub(super) fn room_of(&self, key: u32, slot: usize, name: &str) -> Option<RoomKey> {
        let rooms = &self.sessions[key as usize].connection.sockets()[slot].socket.rooms;
        rooms.iter().copied().find(|room| self.rooms.get(*room).is_some_and(|room| &*room.name.name == name))
    }
}
