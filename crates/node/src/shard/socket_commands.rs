//! What is for one socket, forwarded if the socket has moved.

use signalbox_cluster::{Address, Record, RoomName};
use signalbox_engineio::Transport;
use signalbox_socketio::Message;
use signalbox_telemetry::traces::{Outcome, Span, SpanKind};

use super::{
    acks,
    closing::socket_gone,
    effects::Effect,
    mailbox::CloseCommand,
    membership,
    step::Step,
    tables::{
        PendingRequests, Rooms, Sessions,
        pending::{JoinRequest, ReplyTo},
    },
    transfer::table::Transfers,
};
use crate::{
    routing::{OrderedOp, SocketCommand, SocketOp},
    session::{AckWaiter, PendingAck},
};

/// An operation on a socket that was born here, or moved here. Gives back the key of its session if that is to be closed.
#[must_use]
pub(super) fn socket_command(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    pending: &mut PendingRequests,
    transfers: &mut Transfers,
    command: SocketCommand,
) -> Option<(u32, CloseCommand)> {
    let Some(key) = sessions.find_by_socket(command.to) else {
        match transfers.forwarding.get(&command.to) {
            Some(to) => step.effects.push(Effect::Forward { to: *to, command }),
            None => socket_not_found(step, command.op),
        }
        return None;
    };
    let session = &mut sessions[key];
    if session.local.is_transferring && command.op.changes_rooms() {
        session.local.deferred.push(command);
        return None;
    }
    let SocketCommand { to, namespace, op } = command;
    let slot = session.slot_of(to).filter(|slot| session.connection.sockets()[*slot].namespace == namespace);
    let Some(slot) = slot else {
        socket_not_found(step, op);
        return None;
    };
    let op = match op {
        SocketOp::Ordered(ordered) => {
            let OrderedOp { part, condition, op, is_first } = *ordered;
            let may_move = session.engine.transport() == Transport::Polling;
            let is_meant =
                || condition.holds(|room| membership::room_of(session, rooms, slot, room).is_some());
            let is_to_be_done = transfers.orders.begin(step.now, to, part, may_move, is_meant);
            step.effects.answer(is_first, is_to_be_done);
            if !is_to_be_done {
                return None;
            }
            op
        }
        op => op,
    };
    match op {
        SocketOp::Send { message, volatile } => step.outboxes.send(key, session, &message, volatile),
        SocketOp::Ask { event, args, timeout, reply } => {
            let joined = session.connection.socket_mut(slot)?;
            let id = joined.socket.next_ack;
            joined.socket.next_ack += 1;
            // Beyond the clock's range there is no time-out.
            let until = step.now.checked_add(timeout);
            let waiter = AckWaiter::Here(reply);
            joined.socket.pending_acks.push_back(PendingAck { id, asked: step.now, until, waiter });
            let message = Message::event(&namespace, Some(id), &event, &[args.inner()], args.attachments());
            if let Some(at) = until {
                acks::arm(step, key, session, slot, at);
            }
            step.outboxes.send(key, session, &message, false);
        }
        SocketOp::Ack { id, args } => {
            let message = Message::ack(&namespace, id, &[args.inner()], args.attachments());
            step.outboxes.send(key, session, &message, false);
        }
        SocketOp::Signal { message, reply, trace } => {
            let span = trace.and_then(|trace| {
                let span =
                    Span::begin("signal deliver", SpanKind::Consumer, "socketio", Some(&trace.parent))?;
                Some(span.since(trace.sent.elapsed()))
            });
            step.outboxes.send(key, session, &message, false);
            if let Some(span) = span {
                span.end(Outcome::Ok);
            }
            if let Some(reply) = reply {
                step.effects.push(Effect::Signalled { to: reply, found: true });
            }
        }
        SocketOp::Join { room, record, reply } => {
            let record = record.map_or_else(|| bare_record(to), |record| Record { socket: to, ..*record });
            let room = RoomName { namespace, name: room };
            let reply_to = ReplyTo::Handler(reply);
            let join = JoinRequest {
                socket: to,
                room,
                record,
                reply_to,
                replaces: false,
                limit: 0,
                asked: step.now,
            };
            membership::join(step, sessions, rooms, pending, key, join);
        }
        SocketOp::Leave { room, reply } => {
            let found = membership::room_of(session, rooms, slot, &room);
            if let Some(room) = found {
                membership::leave(step, session, rooms, slot, room);
            }
            step.effects.answer(reply, found.is_some());
        }
        SocketOp::Rooms { reply } => {
            let joined = &session.connection.sockets()[slot].socket.rooms;
            let names = joined.iter().filter_map(|room| rooms.get(*room)).map(|room| room.name.name.clone());
            step.effects.answer(reply, names.collect());
        }
        SocketOp::Close => return Some((key, CloseCommand::Close)),
        SocketOp::Disconnect { close: false } => disconnect(step, sessions, rooms, (key, slot), None),
        SocketOp::Disconnect { close: true } => {
            while !sessions[key].connection.sockets().is_empty() {
                disconnect(step, sessions, rooms, (key, 0), None);
            }
            return Some((key, CloseCommand::Close));
        }
        // An order has no order in it.
        SocketOp::Ordered(_) => {}
    }
    None
}

/// The socket is nowhere. Whoever waits for an answer of the socket is told by the end of its reply.
fn socket_not_found(step: &mut Step, op: SocketOp) {
    match op {
        SocketOp::Signal { reply: Some(to), .. } => {
            step.effects.push(Effect::Signalled { to, found: false });
        }
        // The order of another node may have ended it.
        SocketOp::Ordered(ordered) => step.effects.answer(ordered.is_first, false),
        _ => {}
    }
}

/// Takes a client out of a namespace, and tells it: it will not come back by itself.
pub(super) fn disconnect(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    (key, slot): (u32, usize),
    cause: Option<&str>,
) {
    if let Some(joined) = sessions[key].connection.leave(slot) {
        step.send(sessions, key, &Message::disconnect(&joined.namespace));
        socket_gone(step, sessions, rooms, joined, "server namespace disconnect", cause);
    }
}

/// A membership that nobody is told of.
pub(super) fn bare_record(socket: Address) -> Record {
    Record { socket, profile: "{}".into(), joined: None, updated: None, left: None }
}
