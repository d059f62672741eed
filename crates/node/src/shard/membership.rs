//! Joining and leaving rooms.

use std::sync::Arc;

use signalbox_admin::events::{Event, EventKind};
use signalbox_auth::grants::Limit;
use signalbox_cluster::{Address, Command, Delivery, Record, Refused, RoomName};
use signalbox_rules::{Answer, HIDDEN};
use signalbox_socketio::Message;

use super::{
    context::ShardContext,
    effects::Effect,
    lists::{Crowd, member_list},
    replies::{self, Refusal},
    step::Step,
    tables::{
        PendingRequest, PendingRequests, Rooms, Sessions,
        pending::{JoinRequest, ReplyTo, RuleRun},
    },
};
use crate::{
    client_log::head,
    session::{RoomKey, Session, Socket},
};

/// Joins a room: first this shard is on the room's route, then the cluster is asked.
pub(super) fn join(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    pending: &mut PendingRequests,
    key: u32,
    join: JoinRequest,
) {
    let session = &mut sessions[key];
    let Some(slot) = session.slot_of(join.socket) else {
        refuse_join(step, sessions, key, join, ("not-found", "the socket is disconnected"));
        return;
    };
    let present = room_of(session, rooms, slot, &join.room.name);
    if let Some(room) = present
        && join.replaces
        && own_record(&step.context, &session.connection.sockets()[slot].socket, &join.room)
            .is_some_and(|known| known.profile != join.record.profile)
    {
        leave(step, session, rooms, slot, room);
    }
    let socket = &session.connection.sockets()[slot].socket;
    let own = socket.principal.as_deref().and_then(|it| it.grants.limits().get(Limit::Rooms));
    let most = own.unwrap_or(step.context.config.limits.rooms as u64);
    // Those that rules find a socket by are few, and nobody asked for them.
    let is_named = |room: &RoomName| !room.name.starts_with(HIDDEN);
    let is_full = || {
        let named = socket.rooms.iter().filter_map(|key| rooms.get(*key)).filter(|it| is_named(&it.name));
        socket.rooms.len() as u64 >= most && named.count() as u64 >= most
    };
    if present.is_none() && is_named(&join.room) && is_full() {
        refuse_join(step, sessions, key, join, ("too-many-rooms", "leave a room before joining another"));
        return;
    }
    let number = session.local.number;
    let room = open_room(step, rooms, &join.room);
    if let Some(room) = rooms.get_mut(room) {
        room.expected += 1;
    }
    // A client's frames behind its join wait for it; a handler's own code waits for itself.
    let held = matches!(join.reply_to, ReplyTo::Client { .. } | ReplyTo::Rule(..));
    let list = matches!(join.reply_to, ReplyTo::Client { id: Some(_), .. } | ReplyTo::Rule(_, true));
    session.begin_request(held);
    let ticket = step.next_number();
    let command = Command::Join {
        shard: step.context.id,
        ticket,
        room: join.room.clone(),
        record: Arc::new(join.record.clone()),
        list,
        most: (join.limit > 0).then_some(join.limit as usize),
    };
    pending.insert(ticket, PendingRequest::Join { key, number, room, held, join: Box::new(join) });
    step.effects.submit(command);
}

/// Tells whoever asked that a join was refused, with a code, and a hint for people.
pub(super) fn refuse_join(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    join: JoinRequest,
    refused: (&str, &str),
) {
    match join.reply_to {
        ReplyTo::Handler(reply) => step.effects.answer(reply, false),
        ReplyTo::Client { event, id } => {
            let refusal = Refusal { namespace: &join.room.namespace, event: &event, id };
            replies::refuse(step, sessions, key, &refusal, refused);
        }
        ReplyTo::Rule(rule, _) => replies::refuse_rule(step, sessions, &rule, refused),
        ReplyTo::Nobody => {}
    }
}

/// The cluster has answered a join that the session with this key and number asked for. Gives back the rule that goes on.
#[must_use]
pub(super) fn join_answered(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    (key, number, room): (u32, u64, RoomKey),
    join: JoinRequest,
    answer: Delivery,
) -> Option<Box<RuleRun>> {
    if let Some(room) = rooms.get_mut(room) {
        room.expected -= 1;
    }
    let took = step.now.saturating_duration_since(join.asked);
    step.context.metrics.ack_seconds.observe(&["join"], took.as_secs_f64());
    let is_member = matches!(answer, Delivery::Joined { .. });
    let slot = sessions.checked(key, number).and_then(|session| session.slot_of(join.socket));
    let goes_on = match (answer, slot) {
        (Delivery::Joined { change_id: told, members, count, present, .. }, Some(slot)) => {
            if let Some(room) = rooms.get_mut(room) {
                if room.members.insert(join.socket, key).is_none() {
                    step.context.metrics.room_members.inc();
                    step.context.metrics.room_joins.inc();
                }
                // Changes up to here are part of the answer, or have come before it.
                if told >= room.last_change {
                    room.last_change = told;
                    room.presence.count = present;
                }
            }
            step.tell_of(&sessions[key], "joined a room", || head::name(&join.room.name));
            if let Some(joined) = sessions[key].connection.socket_mut(slot) {
                let socket = &mut joined.socket;
                if !socket.rooms.contains(&room) {
                    socket.rooms.push(room);
                    report(step, EventKind::Join, rooms, room, socket);
                }
                socket.records.retain(|(name, _)| *name != join.room.name);
                // Rules may ask what was told of it.
                let is_asked = matches!(join.reply_to, ReplyTo::Rule(..)) && join.record.joined.is_some();
                if join.replaces || is_asked {
                    socket.records.push((join.room.name.clone(), join.record.clone()));
                }
            }
            join_succeeded(step, sessions, key, join, (&members, count, present))
        }
        (_, None) => {
            // The client has gone meanwhile; what was joined for it is left again.
            if is_member {
                step.effects.submit(Command::Leave { room: join.room.clone(), socket: join.socket });
            }
            if let ReplyTo::Handler(reply) = join.reply_to {
                step.effects.answer(reply, false);
            }
            None
        }
        (Delivery::Refused { why: Refused::RoomFull, .. }, Some(_)) => {
            room_is_full(step, sessions, key, join)
        }
        (_, Some(_)) => {
            let busy = ("busy", "the server is overloaded, try again in a moment");
            refuse_join(step, sessions, key, join, busy);
            None
        }
    };
    rooms.check_later(room);
    goes_on
}

/// A rule says what happens then: a refusal, or something else.
fn room_is_full(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    join: JoinRequest,
) -> Option<Box<RuleRun>> {
    match join.reply_to {
        ReplyTo::Rule(mut rule, _) => match rule.run.refusal_of_full_room() {
            Some(refusal) => {
                replies::refuse_rule(step, sessions, &rule, (&refusal.code, &refusal.hint));
                None
            }
            None => {
                rule.run.answer(Answer::Full);
                Some(rule)
            }
        },
        _ => {
            refuse_join(
                step,
                sessions,
                key,
                join,
                ("room-full", "the room has as many members as it may have"),
            );
            None
        }
    }
}

fn join_succeeded(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    join: JoinRequest,
    (members, count, present): (&Arc<[Arc<Record>]>, usize, usize),
) -> Option<Box<RuleRun>> {
    match join.reply_to {
        ReplyTo::Rule(mut rule, _) => {
            let more = members.last().filter(|_| members.len() < present);
            let crowd = Crowd::of(step.context.config.limits.presence, present, more);
            let members = member_list(members, present, crowd);
            rule.run.answer(Answer::Joined { members, count: u32::try_from(count).unwrap_or(u32::MAX) });
            return Some(rule);
        }
        ReplyTo::Nobody => {}
        ReplyTo::Handler(reply) => step.effects.answer(reply, true),
        ReplyTo::Client { id: Some(id), .. } => {
            // The new member itself is not told.
            let more = members.last().filter(|_| members.len() < present);
            let crowd = Crowd::of(step.context.config.limits.presence, present, more);
            let ack = |parts: &[&str]| Message::ack(&join.room.namespace, id, parts, &[]);
            let but_me = (Some(join.socket), crowd);
            let ack = step.lists.members(step.now, &join.room.name, members, but_me, ack);
            step.send(sessions, key, &ack);
        }
        ReplyTo::Client { id: None, .. } => {}
    }
    None
}

/// The socket in this slot of a session leaves a room.
pub(super) fn leave(step: &mut Step, session: &mut Session, rooms: &mut Rooms, slot: usize, room: RoomKey) {
    if let Some(left) = rooms.get(room) {
        step.tell_of(session, "left a room", || head::name(&left.name.name));
    }
    let Some(joined) = session.connection.socket_mut(slot) else { return };
    let socket = &mut joined.socket;
    socket.rooms.retain(|joined| *joined != room);
    if let Some(room) = rooms.get(room) {
        socket.records.retain(|(name, _)| *name != room.name.name);
    }
    report(step, EventKind::Leave, rooms, room, socket);
    leave_room(step, rooms, room, socket.id);
}

/// Reports that a socket has joined or left a room.
pub(super) fn report(step: &mut Step, kind: EventKind, rooms: &Rooms, room: RoomKey, socket: &Socket) {
    step.report(kind, || match rooms.get(room) {
        Some(room) => Event { room: Some(room.name.name.clone()), ..socket.event(&room.name.namespace) },
        None => Event { socket: Some(socket.id.written().to_string()), ..Event::default() },
    });
}

/// A socket leaves a room.
pub(super) fn leave_room(step: &mut Step, rooms: &mut Rooms, key: RoomKey, socket: Address) {
    let Some(room) = rooms.get_mut(key) else { return };
    if room.members.swap_remove(&socket).is_some() {
        step.context.metrics.room_members.dec();
        step.context.metrics.room_leaves.inc();
    }
    let name = room.name.clone();
    rooms.check_later(key);
    step.effects.submit(Command::Leave { room: name, socket });
}

/// Opens a room, and has this shard put on its route.
pub(super) fn open_room(step: &mut Step, rooms: &mut Rooms, name: &RoomName) -> RoomKey {
    let (key, is_new) = rooms.open(name);
    if is_new {
        step.effects.push(Effect::OpenRoute { key, room: name.clone() });
    }
    key
}

/// What a socket of a session has joined a room with, as in the tutorials.
pub(super) fn own_record(context: &ShardContext, socket: &Socket, room: &RoomName) -> Option<Record> {
    if let Some((_, record)) = socket.records.iter().find(|(name, _)| *name == room.name) {
        return Some(record.clone());
    }
    let records = context.cluster.session_records(&[(room.clone(), socket.id)], &[]);
    records.memberships.into_iter().next().map(|(_, record)| record)
}

/// The key of a room the socket is in.
pub(super) fn room_of(session: &Session, rooms: &Rooms, slot: usize, name: &str) -> Option<RoomKey> {
    let joined = &session.connection.sockets()[slot].socket.rooms;
    joined.iter().copied().find(|room| rooms.get(*room).is_some_and(|room| &*room.name.name == name))
}
