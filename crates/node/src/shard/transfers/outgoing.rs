//! A shard as the source of transfers.

use signalbox_admin::events::{Event, EventKind, Protocol};
use signalbox_cluster::{Address, Command, RoomName};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_socketio::Joined;

use super::{attach, leave_polling};
use crate::{
    limits::Place,
    protocol::{BusMessage, Marker, SavedOrders, SessionTransfer},
    routing::{Broadcast, ConnectionRef, DeliveryCursor, Location, RoomCursor},
    session::{RoomKey, Session},
    shard::{
        acks, closing,
        effects::Effect,
        mailbox::CloseCommand,
        step::Step,
        subjects,
        tables::{PendingRequest, PendingRequests, Probes, Rooms, Sequences, Sessions, Timer},
        transfer::{
            message::{Confirmation, SessionInTransfer, TransferMessage, TransferredSession},
            path::Path,
            source::{CATCH_UP_TIMEOUT, PREPARE_TIMEOUT, SourceStep, SourceTransfer, UnconfirmedTransfer},
            table::Transfers,
        },
        upgrades::close_probe,
    },
};

/// A WebSocket has sent the upgrade packet for a session that lives here. Whether the session takes it.
pub(in crate::shard) fn upgrade(step: &mut Step, session: &mut Session, connection: ConnectionRef) -> bool {
    let config = &step.context.config.engine;
    // An upgrade that was given up, because the WebSocket's node seemed to be lost or was slow, goes on: its client has left polling,
    // and would be missed only when it does not answer to heartbeats.
    if session.local.probe.is_none() && session.engine.begin_upgrade(step.now, config) {
        session.local.probe = Some(connection);
    }
    let is_taken = session.local.probe == Some(connection);
    if is_taken {
        session.local.upgrade_to = Some(connection);
    } else {
        step.effects.push(Effect::CloseProbe(connection));
    }
    is_taken
}

/// Goes on with an upgrade once nothing of the session is under way on this shard.
pub(in crate::shard) fn continue_upgrade(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    key: u32,
) {
    let Some(session) = sessions.get_mut(key) else { return };
    let Some(connection) = session.local.upgrade_to else { return };
    if session.in_flight > 0 || session.local.post.is_some() || session.local.is_transferring {
        return;
    }
    if connection.location() == step.context.location() {
        session.local.upgrade_to = None;
        match leave_polling(step, session) {
            Some(frames) => {
                attach(step, sessions, rooms, transfers, probes, key, (connection, frames));
            }
            None => close_probe(step, probes, connection),
        }
    } else {
        session.local.is_transferring = true;
        prepare(step, session, rooms, transfers, connection);
    }
}

/// Begins a transfer: tells the destination what to subscribe to.
fn prepare(
    step: &mut Step,
    session: &Session,
    rooms: &Rooms,
    transfers: &mut Transfers,
    connection: ConnectionRef,
) {
    let sid = session.sid;
    let joined = session.connection.sockets().iter().flat_map(|joined| joined.socket.rooms.iter());
    let joined = joined.filter_map(|room| rooms.get(*room));
    let joined: Vec<_> = joined.map(|room| (room.name.clone(), room.last_change)).collect();
    let (now, source) = (step.now, step.context.location());
    let path = Path::between(source, connection.location());
    let markers = match path {
        Path::SameNode => step.context.shards,
        Path::OtherNode => {
            step.timers.add(now + CATCH_UP_TIMEOUT, Timer::Transfer { sid });
            step.timers.add(now + PREPARE_TIMEOUT, Timer::Transfer { sid });
            joined.len()
        }
    };
    transfers.outgoing.insert(sid, SourceTransfer::prepare(now, path, connection, markers));
    let prepare = TransferMessage::Prepare { sid, source, connection, rooms: joined };
    step.send_transfer(connection.location(), prepare);
}

/// Goes on with a transfer, if there is nothing to wait for.
pub(in crate::shard) fn continue_transfer(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    pending: &mut PendingRequests,
    sequences: &Sequences,
    sid: Address,
) {
    let Some(transfer) = transfers.outgoing.get_mut(&sid) else { return };
    let connection = transfer.connection;
    match transfer.next(step.now, step.context.node, &sequences.on_all) {
        SourceStep::Wait => {}
        SourceStep::Flush => {
            publish_markers(step, sessions, rooms, sid, connection);
            // The answer comes between two versions of a room, never within one.
            let ticket = step.next_number();
            pending.insert(ticket, PendingRequest::Flush { sid, connection });
            // A user that is written after the session has moved would be taken back from its new node.
            let flush = Command::FlushOutgoing { shard: step.context.id, ticket, with_users: true };
            step.effects.submit(flush);
        }
        SourceStep::SendSession => send_session(step, sessions, rooms, transfers, sequences, sid),
    }
}

/// A broadcast has come that sessions may have waited for.
pub(in crate::shard) fn continue_after(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    pending: &mut PendingRequests,
    sequences: &Sequences,
    broadcast: &Broadcast,
) {
    if transfers.outgoing.is_empty() || broadcast.to.channel().is_some() {
        return;
    }
    for sid in transfers.outgoing.keys().copied().collect::<Vec<_>>() {
        continue_transfer(step, sessions, rooms, transfers, pending, sequences, sid);
    }
}

/// Publishes a marker for the destination in each room of a session, behind everything that its client has said there.
fn publish_markers(
    step: &mut Step,
    sessions: &Sessions,
    rooms: &Rooms,
    sid: Address,
    connection: ConnectionRef,
) {
    let Some(key) = sessions.find(sid) else { return };
    let marker = Marker { sid, source: connection.location(), connection };
    let marker = BusMessage::Marker(marker).encode(step.context.cluster.write_format());
    let joined = sessions[key].connection.sockets().iter();
    for room in joined.flat_map(|joined| &joined.socket.rooms).filter_map(|room| rooms.get(*room)) {
        let (room, message) = (Some(room.name.clone()), marker.clone());
        step.effects.push(Effect::Publish { room, message });
    }
}

/// The session cannot go where its client waits for it. The client has left polling, so it has to begin anew.
pub(in crate::shard) fn give_up(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sid: Address,
    reason: &'static str,
) {
    step.context.metrics.upgrades.with_label_values(&["failed"]).inc();
    if transfers.outgoing.remove(&sid).is_some() {
        step.context.metrics.session_transfers_failed.with_label_values(&[reason]).inc();
    }
    if let Some(key) = sessions.find(sid) {
        let lost = CloseCommand::Lost(CloseReason::TransportError);
        closing::end(step, sessions, rooms, transfers, key, lost);
    }
}

/// The session goes.
pub(in crate::shard) fn send_session(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sequences: &Sequences,
    sid: Address,
) {
    let Some(transfer) = transfers.outgoing.remove(&sid) else { return };
    let Some(key) = sessions.find(sid) else { return };
    let session = &mut sessions[key];
    debug_assert!(session.in_flight == 0 && session.held_post.is_none());
    step.tell(
        session,
        "moves to the worker of its WebSocket",
        &transfer.connection.location().node.to_string(),
    );
    let frames = leave_polling(step, session);
    // The other node gets a session that is on a WebSocket, as it will be there.
    let saved = match transfer.path {
        Path::SameNode => None,
        Path::OtherNode => session.save(step.now),
    };
    let (connection, to) = (transfer.connection, transfer.connection.location());
    let (session, deferred) = match (transfer.path, frames, saved) {
        (Path::SameNode, Some(frames), _) => {
            step.context.addresses.note_departure();
            let (mut session, joined) = detach(step, sessions, rooms, transfers, key, to);
            let deferred = std::mem::take(&mut session.local.deferred);
            let (joined, cursor) = delivered(step, sequences, joined);
            // It has its WebSocket there, and goes nowhere else: what its sockets were given need not be remembered.
            let orders = Vec::new();
            let session =
                TransferredSession { session: session.state, frames, rooms: joined, cursor, orders };
            (SessionInTransfer::Whole(session), deferred)
        }
        (Path::OtherNode, Some(frames), Some(saved)) => {
            let changes: Vec<_> = transfer
                .changes
                .into_iter()
                .filter_map(|(room, subject, digest)| Some((rooms.get(room)?.name.clone(), subject, digest)))
                .collect();
            step.clients_gone += 1;
            closing::count_session(&step.context, Transport::Polling, -1);
            let (mut session, joined) = detach(step, sessions, rooms, transfers, key, to);
            let (joined, mut cursor) = delivered(step, sequences, joined);
            for room_cursor in &mut cursor.rooms {
                let of_room = changes.iter().filter(|(room, ..)| *room == room_cursor.room);
                room_cursor.changes = of_room.map(|(_, subject, digest)| (*subject, *digest)).collect();
            }
            let memberships: Vec<_> = joined.iter().map(|(id, room)| (room.clone(), *id)).collect();
            let (principals, data) = (session.principals(), session.data());
            let acks = session.acks(step.now, step.context.location());
            let ids = session.connection.sockets().iter().map(|joined| joined.socket.id);
            let orders = SavedOrders(ids.map(|id| transfers.orders.take(step.now, id)).collect());
            let mut sockets: Vec<_> = session.state.connection.leave_all().into_iter().collect();
            for joined in &mut sockets {
                acks::stay_behind(step, &mut transfers.acks, &mut joined.socket);
            }
            let ids: Vec<_> =
                sockets.iter().map(|joined| (joined.namespace.clone(), joined.socket.id)).collect();
            for joined in &sockets {
                step.socket_counts.add(&joined.namespace, -1);
            }
            transfers.departed.insert(step.now, &sockets, &memberships);
            let records = step.context.cluster.session_records(&memberships, &ids);
            step.effects.push(Effect::Disown { memberships: memberships.clone(), sockets: ids });
            let counted = std::mem::take(&mut session.state.counted);
            let unconfirmed = UnconfirmedTransfer {
                memberships,
                sockets,
                counted,
                client: session.client(),
                opened: session.opened,
                records: records.memberships.clone(),
            };
            transfers.unconfirmed.insert(sid, unconfirmed);
            let frames = frames.iter().map(|frame| frame.bytes().clone()).collect();
            let deferred = std::mem::take(&mut session.local.deferred);
            let age = session.age(step.now);
            let saved = SessionTransfer {
                connection,
                session: saved,
                frames,
                rooms: joined,
                cursor,
                records,
                principals,
                age,
                trace: session.state.trace.clone(),
                data,
                acks,
                orders,
            };
            (SessionInTransfer::Saved(saved), deferred)
        }
        _ => {
            // The server has closed the session meanwhile, or the upgrade was given up.
            step.context.metrics.session_transfers_failed.with_label_values(&["closed"]).inc();
            let lost = CloseCommand::Lost(CloseReason::TransportError);
            closing::end(step, sessions, rooms, transfers, key, lost);
            return;
        }
    };
    let (source, session) = (step.context.location(), Box::new(session));
    step.send_transfer(to, TransferMessage::Session { source, connection, session });
    for command in deferred {
        step.effects.push(Effect::Forward { to, command });
    }
}

/// Takes a session out of everything here; what is for it is forwarded from now on. Gives back the rooms of its sockets, with what was
/// received in each.
fn detach(
    step: &Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    to: Location,
) -> (Session, Vec<(Address, RoomCursor)>) {
    let mut session = sessions.remove(key);
    transfers.forwarding.insert(session.sid, to);
    let mut joined_rooms = Vec::new();
    for slot in 0..session.connection.sockets().len() {
        let Some(joined) = session.connection.socket_mut(slot) else { continue };
        let id = joined.socket.id;
        transfers.forwarding.insert(id, to);
        for room_key in std::mem::take(&mut joined.socket.rooms) {
            joined_rooms.extend(leave(step, rooms, room_key, id).map(|cursor| (id, cursor)));
        }
    }
    (session, joined_rooms)
}

/// A socket that moves is no member here any more; its membership stays. Gives back what was received in the room.
fn leave(step: &Step, rooms: &mut Rooms, key: RoomKey, socket: Address) -> Option<RoomCursor> {
    let room = rooms.get_mut(key)?;
    if room.members.swap_remove(&socket).is_some() {
        step.context.metrics.room_members.dec();
    }
    let cursor = RoomCursor {
        room: room.name.clone(),
        broadcasts: room.received.clone(),
        last_change: room.last_change,
        changes: Vec::new(),
    };
    rooms.check_later(key);
    Some(cursor)
}

/// What a session that goes has received: the rooms of its sockets, and the cursor.
fn delivered(
    step: &Step,
    sequences: &Sequences,
    joined: Vec<(Address, RoomCursor)>,
) -> (Vec<(Address, RoomName)>, DeliveryCursor) {
    let names = joined.iter().map(|(id, cursor)| (*id, cursor.room.clone())).collect();
    let cursor = DeliveryCursor {
        node: step.context.node,
        sequences: sequences.of_shards.to_vec(),
        on_all: sequences.on_all.clone(),
        rooms: joined.into_iter().map(|(_, cursor)| cursor).collect(),
    };
    (names, cursor)
}

/// The other node has the session, or not, or nobody knows. What is its own by now is not removed by this node.
pub(in crate::shard) fn confirmed(
    step: &mut Step,
    transfers: &mut Transfers,
    sid: Address,
    connection: ConnectionRef,
    confirmation: Confirmation,
) {
    let Some(transfer) = transfers.unconfirmed.remove(&sid) else { return };
    let UnconfirmedTransfer { memberships, sockets, counted, .. } = transfer;
    for list in counted {
        // The other node has it in its own name by now, if it has the session.
        subjects::uncount(step, Place { list, connection: sid });
    }
    if confirmation == Confirmation::Taken {
        return;
    }
    step.context.metrics.session_transfers_failed.with_label_values(&["unconfirmed"]).inc();
    // A node that is only slow has the session in the end. What is forwarded to one that does not is refused there.
    let is_known = confirmation == Confirmation::Refused;
    step.send_transfer(connection.location(), TransferMessage::Cancelled { sid, connection });
    if is_known {
        transfers.forwarding.remove(&sid);
    }
    let reason = CloseReason::TransportError.to_string();
    step.context.metrics.disconnects.with_label_values(&["socketio", &reason]).inc();
    for (room, socket) in memberships {
        step.report(EventKind::Leave, || Event {
            protocol: Some(Protocol::Socketio),
            namespace: Some(room.namespace.clone()),
            room: Some(room.name.clone()),
            socket: Some(socket.written().to_string()),
            ..Event::default()
        });
        step.effects.submit(Command::Leave { room, socket });
    }
    for Joined { namespace, socket } in sockets {
        acks::socket_is_over(step, &mut transfers.acks, socket.id);
        if is_known {
            transfers.forwarding.remove(&socket.id);
            transfers.departed.remove(step.now, socket.id);
        }
        closing::disconnected(step, &namespace, &socket, &reason, None);
    }
}
