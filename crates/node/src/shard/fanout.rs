//! Broadcasts: a message is encoded once, and every receiver's outbox shares its bytes.

use std::{sync::Arc, time::Duration};

use signalbox_cluster::{Address, RoomName, ShardId, command::Change};
use signalbox_socketio::Message;
use signalbox_telemetry::traces::{Outcome, Span, SpanKind};

use super::{
    context::ShardContext,
    effects::Effect,
    presence,
    step::Step,
    tables::{Outboxes, Rooms, Sequences, Sessions},
    transfer::table::Transfers,
};
use crate::{
    protocol::BusMessage,
    routing::{Audience, Broadcast},
    session::{RoomKey, Session},
};

/// A message for many.
pub(super) struct Outgoing {
    /// The session that says it, if that is of this shard: the message's bytes are charged to it.
    pub(super) sender: Option<u32>,
    pub(super) to: Audience,
    pub(super) message: Message,
    pub(super) volatile: bool,
}

/// Begins a broadcast: to the members here, once to each other shard that has members, and to other nodes. The shards come first: a
/// session that moves between nodes relies on it.
pub(super) fn begin_broadcast(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sequences: &mut Sequences,
    outgoing: Outgoing,
) {
    let Outgoing { sender, to, message, volatile } = outgoing;
    let context = &step.context;
    let trace = sender.and_then(|key| sessions.get(key)).and_then(|session| session.trace.as_deref());
    let span = Span::begin("broadcast", SpanKind::Producer, "socketio", trace);
    let (origin, sequence) = sequences.next();
    let (shards, members) = shards_of(context, rooms, &to);
    let is_for_one = members <= 1 + to.except.len() && shards.iter().all(|shard| *shard == context.id);
    // One that shares its bytes with nobody needs no counting of who does.
    let message = if is_for_one {
        message
    } else {
        let sender = sender.and_then(|key| sessions.get_mut(key)).and_then(|session| session.account());
        step.outboxes.share(sender, message)
    };
    let trace = span.as_ref().map(|span| span.traceparent());
    let broadcast =
        Broadcast { to: Arc::new(to), message, volatile, origin, sequence, published: None, trace };
    for shard in shards {
        if shard != context.id {
            step.effects.push(Effect::Broadcast { shard, broadcast: broadcast.clone() });
        }
    }
    if context.cluster.is_shared() {
        let room = broadcast.to.channel();
        let message = BusMessage::Broadcast(broadcast.clone()).encode(context.cluster.write_format());
        step.effects.push(Effect::Publish { room, message });
    }
    deliver_broadcast(step, sessions, rooms, transfers, sequences, &broadcast);
    if let Some(span) = span {
        span.end(Outcome::Ok);
    }
}

/// The shards with members of the audience, and how many there are here at most, those on their way here included.
fn shards_of(context: &ShardContext, rooms: &Rooms, to: &Audience) -> (Vec<ShardId>, usize) {
    if to.rooms.is_empty() {
        return ((0..context.shards).map(|shard| shard as ShardId).collect(), usize::MAX);
    }
    let (mut shards, mut members) = (Vec::new(), 0);
    for room in &to.rooms {
        let name = RoomName { namespace: to.namespace.clone(), name: room.clone() };
        let known = rooms.find(&name).and_then(|key| rooms.get(key));
        members += known.map_or(0, |room| room.members.len() + room.incoming_transfers.len());
        let known = known.and_then(|room| room.route.clone());
        if let Some(route) = known.or_else(|| context.cluster.find_route(&name)) {
            shards.extend(route.shards());
        }
    }
    shards.sort_unstable();
    shards.dedup();
    (shards, members)
}

/// A broadcast reaches this shard: every member of the audience here gets it.
pub(super) fn deliver_broadcast(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sequences: &mut Sequences,
    broadcast: &Broadcast,
) {
    let before = step.outboxes.deliveries();
    deliver_to_members(step, sessions, rooms, transfers, sequences, broadcast);
    let receivers = step.outboxes.deliveries() - before;
    let metrics = &step.context.metrics;
    metrics.fanout_receivers.observe(receivers as f64);
    if receivers == 0 {
        return;
    }
    step.fanout_since.get_or_insert(step.now);
    let lag = broadcast.published.map(|published| step.now.saturating_duration_since(published));
    if let Some(lag) = lag {
        metrics.delivery_lag_seconds.observe(lag.as_secs_f64());
    }
    if broadcast.origin != step.context.location() {
        trace_delivery(broadcast, lag.unwrap_or_default());
    }
}

/// A broadcast that began elsewhere has reached its members here, that long after it was published.
fn trace_delivery(broadcast: &Broadcast, lag: Duration) {
    let Some(trace) = broadcast.trace.as_deref() else { return };
    let span = Span::begin("broadcast deliver", SpanKind::Consumer, "socketio", Some(trace));
    if let Some(span) = span {
        span.since(lag).end(Outcome::Ok);
    }
}

fn deliver_to_members(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sequences: &mut Sequences,
    broadcast: &Broadcast,
) {
    let to = &*broadcast.to;
    let room = to.channel().map(|name| rooms.find(&name));
    if sequences.record(broadcast, room.is_some())
        && let Some(room) = room.flatten().and_then(|key| rooms.get_mut(key))
    {
        room.received.record(broadcast.origin, broadcast.sequence);
    }
    transfers.buffer_broadcast(broadcast, rooms);
    let outboxes = &mut step.outboxes;
    if let Some(key) = room.filter(|_| to.except_rooms.is_empty()) {
        if let Some(room) = key.and_then(|key| rooms.get(key)) {
            outboxes.send_to_many(room.members.len(), |outboxes| {
                for (socket, session) in &room.members {
                    if !to.except.contains(socket) {
                        deliver(outboxes, sessions, *session, broadcast);
                    }
                }
            });
        }
        return;
    }
    let recipients = recipients(sessions, rooms, to);
    outboxes.send_to_many(recipients.len(), |outboxes| {
        for (_, key) in recipients {
            deliver(outboxes, sessions, key, broadcast);
        }
    });
}

/// A change of a room, with its number, and how many members there are after it.
pub(super) struct NumberedChange<'a> {
    pub(super) number: u128,
    pub(super) change: &'a Change,
    pub(super) count: usize,
}

/// A room has changed: every member here but its subject gets the event about it.
pub(super) fn room_changed(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: RoomKey,
    NumberedChange { number, change, count }: NumberedChange<'_>,
) {
    let Some(room) = rooms.get_mut(key) else { return };
    room.last_change = number;
    room.presence.count = count;
    if presence::count_change(step, room, key, change, count) {
        return;
    }
    transfers.note_change(key, change);
    if room.members.is_empty() && room.incoming_transfers.is_empty() {
        return;
    }
    let Some(message) = change_message(&room.name.namespace, change) else { return };
    let Step { context, outboxes, .. } = step;
    // Events about members are the server's: nobody in particular sent them.
    let message = &match room.members.len() {
        0 | 1 => message,
        _ => outboxes.share(None, message),
    };
    transfers.buffer_change(room, number, change, message);
    let subject = change.record().socket;
    outboxes.send_to_many(room.members.len(), |outboxes| {
        for (socket, session_key) in &room.members {
            let Some(session) = sessions.get_mut(*session_key) else { continue };
            let Some(known) = &mut session.dedup else {
                if *socket != subject {
                    outboxes.send(*session_key, session, message, false);
                }
                continue;
            };
            // It has moved here a moment ago.
            let news = known.cursor.news(context.node, &room.name, number, change);
            if let Some(news) = news.filter(|_| *socket != subject) {
                let is_same = std::mem::discriminant(&news) == std::mem::discriminant(change);
                let other = if is_same { None } else { change_message(&room.name.namespace, &news) };
                outboxes.send(*session_key, session, other.as_ref().unwrap_or(message), false);
            }
        }
    });
}

/// The event about a change of a room; `None` when there is none for such a change.
pub(super) fn change_message(namespace: &str, change: &Change) -> Option<Message> {
    let emission = presence::emission(change)?;
    let args = emission.args.render(&change.record().profile);
    Some(Message::event(namespace, None, &emission.event, &[&args], &emission.attachments))
}

/// Sends a broadcast to a session, unless it received it before it moved here.
fn deliver(outboxes: &mut Outboxes, sessions: &mut Sessions, key: u32, broadcast: &Broadcast) {
    let Some(session) = sessions.get_mut(key) else { return };
    if session.dedup.as_ref().is_none_or(|known| !known.cursor.has_seen(broadcast)) {
        outboxes.send(key, session, &broadcast.message, broadcast.volatile);
    }
}

/// Everybody of an audience on this shard, once: sockets and the keys of their sessions.
fn recipients(sessions: &Sessions, rooms: &Rooms, to: &Audience) -> Vec<(Address, u32)> {
    let find = |room: &Arc<str>| {
        let name = RoomName { namespace: to.namespace.clone(), name: room.clone() };
        rooms.find(&name).and_then(|key| rooms.get(key))
    };
    let in_namespace = |(key, session): (u32, &Session)| {
        let joined = session.connection.sockets().iter().filter(|joined| joined.namespace == to.namespace);
        joined.map(|joined| (joined.socket.id, key)).collect::<Vec<_>>()
    };
    let mut sockets: Vec<(Address, u32)> = if to.rooms.is_empty() {
        sessions.iter().flat_map(in_namespace).collect()
    } else {
        let members = to.rooms.iter().filter_map(find).flat_map(|room| room.members.iter());
        members.map(|(id, key)| (*id, *key)).collect()
    };
    sockets.sort_unstable();
    sockets.dedup();
    let excluded: Vec<_> = to.except_rooms.iter().filter_map(find).collect();
    sockets.retain(|(socket, _)| {
        !to.except.contains(socket) && !excluded.iter().any(|room| room.members.contains_key(socket))
    });
    sockets
}
