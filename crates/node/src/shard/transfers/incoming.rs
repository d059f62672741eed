//! A shard as the destination of transfers.

use std::{sync::Arc, time::Instant};

use signalbox_admin::events::EventKind;
use signalbox_cluster::{Address, Command, NodeTag, RoomName};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_websocket::Frame;

use super::{attach, request_markers};
use crate::{
    protocol::{BusMessage, Marker, SessionTransfer},
    routing::{Broadcast, ConnectionRef, DedupWindow, Location},
    session::{RoomKey, Session, SessionState, ShardLocal},
    shard::{
        acks, closing,
        effects::Effect,
        engineio::watch_half_event,
        expiry::begin_expiry,
        fanout::change_message,
        mailbox::CloseCommand,
        membership::open_room,
        step::Step,
        subjects,
        tables::{PendingRequest, PendingRequests, Probes, Rooms, Sequences, Sessions, Timer},
        transfer::{
            destination::{ARRIVAL_TIMEOUT, BufferedEvent, CatchingUp, DestinationTransfer},
            message::{Confirmation, TransferMessage, TransferredSession},
            path::Path,
            source::CATCH_UP_TIMEOUT,
            table::Transfers,
        },
        upgrades::close_probe,
    },
};

/// How long something that the session received before it moved may still be on its way here.
const DEDUP_WINDOW: std::time::Duration = std::time::Duration::from_secs(10);

/// A session is to come here.
pub(in crate::shard) struct Prepare {
    pub(in crate::shard) sid: Address,
    pub(in crate::shard) source: Location,
    pub(in crate::shard) connection: ConnectionRef,
    /// The rooms of its sockets, each with the last change that the client was told of.
    pub(in crate::shard) joined: Vec<(RoomName, u128)>,
}

/// A session is to come here: subscribes to its rooms, and buffers what comes from now on.
pub(in crate::shard) fn prepare(
    step: &mut Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    pending: &mut PendingRequests,
    sequences: &Sequences,
    Prepare { sid, source, connection, joined }: Prepare,
) {
    let path = Path::between(source, step.context.location());
    let is_leaving = path == Path::OtherNode && step.context.lifecycle.is_leaving();
    if probes.get(connection).is_none() || is_leaving {
        step.send_transfer(source, TransferMessage::Refused { sid, connection });
        return;
    }
    // That an earlier one was cancelled may not have been heard.
    end_incoming(step, rooms, transfers, sid);
    let keys = joined.iter().map(|(room, _)| keep_room(step, rooms, sid, room)).collect();
    match path {
        Path::SameNode => {
            let transfer = DestinationTransfer::from_shard(step.now, source, connection, keys);
            transfers.incoming.insert(sid, transfer);
            // From here on this shard receives what other nodes publish in these rooms; what came before is in the source's mailbox.
            step.effects.push(Effect::AwaitDeliveries);
            request_markers(step, sid, source.shard, connection);
            let received_on_all = Default::default();
            step.send_transfer(source, TransferMessage::Ready { sid, connection, received_on_all });
        }
        Path::OtherNode => {
            let (shards, received) = (step.context.shards, sequences.on_all.clone());
            let transfer =
                DestinationTransfer::from_node(step.now, source, connection, keys, shards, received);
            transfers.incoming.insert(sid, transfer);
            step.timers.add(step.now + ARRIVAL_TIMEOUT, Timer::Transfer { sid });
            let shard = step.context.id;
            request_markers(step, sid, shard, connection);
            let ticket = step.next_number();
            pending.insert(ticket, PendingRequest::Subscribe { sid, connection });
            step.effects.submit(Command::SubscribeRooms { shard, ticket, rooms: joined });
        }
    }
}

/// Opens a room for a session that is to come.
fn keep_room(step: &mut Step, rooms: &mut Rooms, sid: Address, name: &RoomName) -> RoomKey {
    let key = open_room(step, rooms, name);
    if let Some(room) = rooms.get_mut(key) {
        room.expected += 1;
        room.incoming_transfers.push(sid);
    }
    key
}

/// This node is subscribed to the rooms of a session that is to come, or (unless it `is_live`) cannot be.
pub(in crate::shard) fn subscribed(
    step: &mut Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    sid: Address,
    connection: ConnectionRef,
    is_live: bool,
) {
    let Some(transfer) = transfers.incoming_to(sid, connection) else { return };
    if is_live {
        transfer.subscribed();
        announce_if_ready(step, rooms, transfers, sid);
    } else {
        cancel(step, rooms, transfers, probes, sid, connection);
    }
}

/// Once everything the session would receive is buffered, the source is told, and a marker published in each room, behind whatever
/// this node's shards have published.
pub(in crate::shard) fn announce_if_ready(
    step: &mut Step,
    rooms: &Rooms,
    transfers: &mut Transfers,
    sid: Address,
) {
    let Some(transfer) = transfers.incoming.get_mut(&sid) else { return };
    let Some(received_on_all) = transfer.become_ready() else { return };
    let (source, connection) = (transfer.source, transfer.connection);
    let marker = BusMessage::Marker(Marker { sid, source, connection });
    let marker = marker.encode(step.context.cluster.write_format());
    for room in transfer.rooms.iter().filter_map(|room| rooms.get(*room)) {
        let (room, message) = (Some(room.name.clone()), marker.clone());
        step.effects.push(Effect::Publish { room, message });
    }
    step.send_transfer(source, TransferMessage::Ready { sid, connection, received_on_all });
}

/// A session of another node has come; gives it back, unless it is refused. Its records are this node's from now on; the source is told
/// when the store knows.
pub(in crate::shard) fn adopt(
    step: &mut Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    pending: &mut PendingRequests,
    source: Location,
    transfer: SessionTransfer,
) -> Option<TransferredSession> {
    let SessionTransfer {
        connection,
        session,
        frames,
        rooms: joined,
        cursor,
        records,
        principals,
        age,
        trace,
        data,
        acks,
        orders,
    } = transfer;
    let sid = session.sid;
    let has_probe = probes.get(connection).is_some();
    let is_expected = transfers.incoming_to(sid, connection).is_some() && has_probe;
    let frames = frames.into_iter().map(Frame::from_bytes).collect();
    let state = SessionState::restore(step.now, session, principals, age, data, acks, &step.context.app)
        .filter(|_| is_expected);
    let (Some(mut state), Some(frames)) = (state, frames) else {
        cancel(step, rooms, transfers, probes, sid, connection);
        confirm(step, source, sid, connection, Confirmation::Refused);
        return None;
    };
    state.trace = trace;
    subjects::session_arrived(step, &mut state);
    let ticket = step.next_number();
    pending.insert(ticket, PendingRequest::Adopt { sid, source, connection });
    step.effects.submit(Command::AdoptSession {
        shard: step.context.id,
        ticket,
        from: cursor.node,
        sid,
        memberships: records.memberships,
        sockets: records.sockets,
        counted: state.counted.clone(),
    });
    closing::count_session(&step.context, Transport::Polling, 1);
    for joined in state.connection.sockets() {
        step.socket_counts.add(&joined.namespace, 1);
    }
    Some(TransferredSession { session: state, frames, rooms: joined, cursor, orders: orders.0 })
}

/// Tells the source on another node what became of its session.
pub(in crate::shard) fn confirm(
    step: &mut Step,
    source: Location,
    sid: Address,
    connection: ConnectionRef,
    confirmation: Confirmation,
) {
    step.send_transfer(source, TransferMessage::Confirmed { sid, connection, confirmation });
}

/// The session is here: it gets its WebSocket, and what was buffered for it.
pub(in crate::shard) fn take_session(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    connection: ConnectionRef,
    session: TransferredSession,
) {
    let TransferredSession { session: mut state, frames, rooms: joined, cursor, orders } = session;
    let sid = state.sid;
    let is_of_other_node = cursor.node != step.context.node;
    state.dedup = Some(Box::new(DedupWindow { cursor, until: step.now + DEDUP_WINDOW }));
    let number = step.next_number();
    let key = sessions.insert(Session { state, local: ShardLocal { number, ..ShardLocal::default() } });
    let session = &mut sessions[key];
    for (id, name) in &joined {
        let room_key = open_room(step, rooms, name);
        if let Some(room) = rooms.get_mut(room_key)
            && room.members.insert(*id, key).is_none()
        {
            step.context.metrics.room_members.inc();
        }
        let slot = session.slot_of(*id);
        if let Some(joined) = slot.and_then(|slot| session.connection.socket_mut(slot)) {
            joined.socket.rooms.push(room_key);
        }
    }
    let mut orders = orders.into_iter();
    for slot in 0..session.connection.sockets().len() {
        // The timers for it were the source's.
        acks::arm_first(step, key, session, slot);
        let socket = session.connection.sockets()[slot].socket.id;
        begin_expiry(step, key, session, socket);
        if is_of_other_node {
            transfers.orders.arrived(step.now, socket, orders.next().unwrap_or_default());
            let joined = &session.connection.sockets()[slot];
            step.report(EventKind::Transfer, || joined.socket.event(&joined.namespace));
        }
    }
    session.update_rates(&step.context.config.limits);
    watch_half_event(step, key, session);
    step.tell(session, "has moved here", "");
    step.context.metrics.session_transfers.inc();
    let transfer = end_incoming(step, rooms, transfers, sid);
    attach(step, sessions, rooms, transfers, probes, key, (connection, frames));
    let Some(transfer) = transfer else { return };
    let markers_missing = transfer.source_markers_missing();
    if markers_missing > 0
        && let Some(session) = sessions.checked(key, number)
    {
        let until = step.now + CATCH_UP_TIMEOUT;
        let waiting = CatchingUp { connection, key, number, markers_missing, until };
        transfers.catching_up.insert(sid, waiting);
        step.timers.add(until, Timer::Transfer { sid });
        session.begin_request(true);
    }
    let Some(buffered) = transfer.into_buffered() else {
        let lost = CloseCommand::Lost(CloseReason::TransportError);
        closing::end(step, sessions, rooms, transfers, key, lost);
        return;
    };
    for event in buffered {
        let Some(session) = sessions.checked(key, number) else { break };
        catch_up(step, key, session, &joined, &event);
    }
}

/// A marker of the source has come through a room: what the client has said there on its former node is here. Gives back the key and
/// number of the session whose client is read from now on, if that was the last one.
pub(in crate::shard) fn marker_of_source(
    transfers: &mut Transfers,
    sid: Address,
    connection: ConnectionRef,
) -> Option<(u32, u64)> {
    if let Some(transfer) = transfers.incoming_to(sid, connection) {
        transfer.source_marker();
        return None;
    }
    let waiting = transfers.catching_up.get_mut(&sid);
    let waiting = waiting.filter(|waiting| waiting.connection == connection)?;
    waiting.markers_missing -= 1;
    if waiting.markers_missing > 0 {
        return None;
    }
    caught_up(transfers, sid)
}

/// What has not come by now was lost. Gives back the key and number of the session whose client is read from now on.
pub(in crate::shard) fn catching_up_timed_out(
    transfers: &mut Transfers,
    due: Instant,
    sid: Address,
) -> Option<(u32, u64)> {
    let is_due = transfers.catching_up.get(&sid).is_some_and(|waiting| waiting.until <= due);
    if is_due { caught_up(transfers, sid) } else { None }
}

fn caught_up(transfers: &mut Transfers, sid: Address) -> Option<(u32, u64)> {
    transfers.catching_up.remove(&sid).map(|waiting| (waiting.key, waiting.number))
}

/// Gives a session that has arrived what was buffered for it, unless it received that before it moved.
fn catch_up(
    step: &mut Step,
    key: u32,
    session: &mut Session,
    joined: &[(Address, RoomName)],
    event: &BufferedEvent,
) {
    let here = step.context.node;
    let Some(known) = &mut session.dedup else { return };
    let (message, volatile, copies) = match event {
        BufferedEvent::Broadcast(broadcast) => {
            if known.cursor.has_seen(broadcast) {
                return;
            }
            let copies = recipients(session, joined, broadcast);
            (broadcast.message.clone(), broadcast.volatile, copies)
        }
        BufferedEvent::Change { room, number, change, message } => {
            let Some(news) = known.cursor.news(here, room, *number, change) else { return };
            let is_same = std::mem::discriminant(&news) == std::mem::discriminant(change);
            let other = if is_same { None } else { change_message(&room.namespace, &news) };
            let subject = change.record().socket;
            let is_recipient = |(id, name): &&(Address, RoomName)| name == room && *id != subject;
            (other.unwrap_or_else(|| message.clone()), false, joined.iter().filter(is_recipient).count())
        }
    };
    for _ in 0..copies {
        step.outboxes.send(key, session, &message, volatile);
    }
}

/// The session is here, or will never be.
fn end_incoming(
    step: &Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sid: Address,
) -> Option<DestinationTransfer> {
    let transfer = transfers.incoming.remove(&sid)?;
    for key in &transfer.rooms {
        if let Some(room) = rooms.get_mut(*key) {
            room.expected -= 1;
            room.incoming_transfers.retain(|incoming| *incoming != sid);
        }
        rooms.check_later(*key);
    }
    debug_assert_eq!(transfer.connection.shard, step.context.id);
    Some(transfer)
}

/// The session will not come. The source is told if it still waits for word from here.
pub(in crate::shard) fn cancel(
    step: &mut Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    sid: Address,
    connection: ConnectionRef,
) {
    if transfers.incoming_to(sid, connection).is_some()
        && let Some(transfer) = end_incoming(step, rooms, transfers, sid)
        && transfer.is_subscribing()
    {
        step.send_transfer(transfer.source, TransferMessage::Refused { sid, connection });
    }
    close_probe(step, probes, connection);
}

/// The node that sessions were to come from has died.
pub(in crate::shard) fn cancel_from(
    step: &mut Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    lost: NodeTag,
) {
    for (sid, connection) in transfers.incoming_from(lost) {
        step.context.metrics.session_transfers_failed.with_label_values(&["source_lost"]).inc();
        cancel(step, rooms, transfers, probes, sid, connection);
    }
}

/// The session that was to come has not.
pub(in crate::shard) fn arrival_timed_out(
    step: &mut Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    due: Instant,
    sid: Address,
) {
    let Some(transfer) = transfers.incoming.get(&sid) else { return };
    if transfer.path == Path::OtherNode && transfer.started + ARRIVAL_TIMEOUT <= due {
        let connection = transfer.connection;
        step.context.metrics.session_transfers_failed.with_label_values(&["source_lost"]).inc();
        cancel(step, rooms, transfers, probes, sid, connection);
    }
}

/// How many of the session's sockets a broadcast is for.
fn recipients(session: &Session, joined: &[(Address, RoomName)], broadcast: &Broadcast) -> usize {
    let to = &broadcast.to;
    let is_in = |id: Address, names: &[Arc<str>]| {
        joined.iter().any(|(member, room)| *member == id && names.contains(&room.name))
    };
    let sockets = session.connection.sockets().iter().filter(|joined| joined.namespace == to.namespace);
    sockets
        .filter(|joined| {
            let id = joined.socket.id;
            let is_member = to.rooms.is_empty() || is_in(id, &to.rooms);
            is_member && !to.except.contains(&id) && !is_in(id, &to.except_rooms)
        })
        .count()
}
