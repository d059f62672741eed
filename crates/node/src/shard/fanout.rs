//! Broadcasts and outboxes: a message is encoded once, and every receiver's outbox shares its bytes.

use std::{rc::Rc, sync::Arc, sync::atomic::Ordering};

use signalbox_cluster::{Address, RoomName, Scope, command::Change};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_socketio::Message;
use signalbox_telemetry::Metrics;
use signalbox_websocket::Frame;

use super::{State, rooms::RoomKey, session::Session};
use crate::{
    mailbox::{Audience, Broadcast, CloseCommand, Origin, ShardMessage},
    transport::{Conn, Role},
    wire::BusMessage,
};

/// What happens once per message is counted here, and added to the metrics when the shard comes to rest.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    /// Never reset.
    pub(super) sent_ever: u64,
}

impl Counters {
    pub(super) fn flush(&mut self, metrics: &Metrics) {
        let sent_ever = self.sent_ever;
        let counted = std::mem::replace(self, Self { sent_ever, ..Self::default() });
        let Self { received, received_bytes, sent, sent_bytes, .. } = counted;
        for (count, metric) in [
            (received, &metrics.received_messages),
            (received_bytes, &metrics.received_bytes),
            (sent, &metrics.sent_messages),
            (sent_bytes, &metrics.sent_bytes),
        ] {
            if count > 0 {
                metric.inc_by(count);
            }
        }
    }
}

/// A client that is to be cut off.
pub(super) struct Eviction {
    pub(super) who: Evicted,
    pub(super) reason: &'static str,
}

pub(super) enum Evicted {
    Session { key: u32, number: u64 },
    Conn(Rc<Conn>),
}

impl State {
    /// Lists a connection to be written when the shard comes to rest.
    pub(super) fn mark_dirty(&mut self, conn: &Rc<Conn>) {
        if conn.list() {
            self.to_write.push_back(conn.clone());
        }
    }

    /// Puts a frame into a connection's outbox, or cuts the client off if it does not read. A frame always fits into an empty
    /// outbox.
    pub(crate) fn push(&mut self, conn: &Rc<Conn>, frame: &Frame) {
        let limit = self.node.config.outbox_limit;
        if conn.queued() > 0 && conn.queued() + frame.len() > limit {
            // What waits may have come in one burst and not been written yet.
            conn.write();
            let change = conn.account();
            self.account(change);
            if conn.queued() > 0 && conn.queued() + frame.len() > limit {
                self.to_evict.push(Eviction { who: Evicted::Conn(conn.clone()), reason: "slow_reader" });
                return;
            }
        }
        self.push_unbounded(conn, frame);
    }

    /// Puts a frame into a connection's outbox, whatever else is in it.
    pub(super) fn push_unbounded(&mut self, conn: &Rc<Conn>, frame: &Frame) {
        if conn.push(frame) {
            self.counters.sent_bytes += frame.len() as u64;
            self.mark_dirty(conn);
        }
    }

    /// Sends a packet to a session.
    pub(super) fn send(&mut self, key: u32, message: &Message, volatile: bool) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        if volatile && !is_ready(session) {
            self.node.metrics.volatile_dropped.inc();
            return;
        }
        self.counters.sent += 1;
        self.counters.sent_ever += 1;
        if let Some(conn) = session.local.conn.clone() {
            if session.engine.is_open() {
                for frame in message.frames() {
                    self.push(&conn, frame);
                }
            }
            return;
        }
        let waiting = session.engine.buffered();
        if waiting > 0
            && session.local.poll.is_none()
            && waiting + message.len() > self.node.config.outbox_limit
        {
            let who = Evicted::Session { key, number: session.local.number };
            self.to_evict.push(Eviction { who, reason: "slow_reader" });
            return;
        }
        for frame in message.frames() {
            session.engine.send(frame.clone());
        }
        self.list_reply(key);
        self.account_session(key);
    }

    /// Tells the node's budget how what waits for a poll, or for the rest of an event, has changed.
    pub(super) fn account_session(&mut self, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let buffered = session.engine.buffered() + session.connection.buffered();
        let change = buffered as isize - std::mem::replace(&mut session.local.accounted, buffered) as isize;
        self.account(change);
    }

    /// Tells the node's budget how what waits on this shard has changed.
    pub(super) fn account(&mut self, change: isize) {
        if change != 0 {
            self.node.waiting[usize::from(self.id)].fetch_add(change, Ordering::Relaxed);
            self.node.metrics.outbox_bytes.add(change as i64);
        }
    }

    /// When more waits than the node's budget allows, the shard for which most waits is to cut off its fullest client; one at a
    /// time, so that each has its effect before the next.
    pub(super) fn keep_budget(&mut self) {
        let waiting = self.node.waiting.iter().map(|waiting| waiting.load(Ordering::Relaxed));
        if waiting.clone().sum::<isize>() <= self.node.config.memory_budget as isize {
            return;
        }
        let fullest = waiting.enumerate().max_by_key(|(_, waiting)| *waiting).map(|(shard, _)| shard as u8);
        if let Some(shard) = fullest
            && !self.node.is_evicting.swap(true, Ordering::AcqRel)
        {
            self.node.inboxes.push(shard, ShardMessage::Relieve);
        }
    }

    /// Cuts off the client for which most waits.
    pub(super) fn evict_for_budget(&mut self) {
        if let Some(who) = self.fullest() {
            self.to_evict.push(Eviction { who, reason: "memory_budget" });
        }
        self.evict();
        self.node.is_evicting.store(false, Ordering::Release);
    }

    /// The client of this shard for which most waits. Looking through all is fine: it happens once per client that is cut off.
    fn fullest(&self) -> Option<Evicted> {
        let sessions = self.sessions.iter().map(|(key, session)| {
            let unread = session.local.conn.as_ref().map_or(session.engine.buffered(), |conn| conn.held());
            let waiting = unread + session.connection.buffered();
            (waiting, Evicted::Session { key: key as u32, number: session.local.number })
        });
        let peers = self.peers.iter().map(|(_, peer)| (peer.conn.held(), Evicted::Conn(peer.conn.clone())));
        let (waiting, who) = sessions.chain(peers).max_by_key(|(waiting, _)| *waiting)?;
        (waiting > 0).then_some(who)
    }

    /// Cuts off who is to be cut off.
    pub(super) fn evict(&mut self) {
        let now = std::time::Instant::now();
        for Eviction { who, reason } in std::mem::take(&mut self.to_evict) {
            let conn = match who {
                Evicted::Session { key, number } => match self.session(key, number) {
                    Some(session) => session.local.conn.clone().ok_or(key),
                    None => continue,
                },
                Evicted::Conn(conn) if conn.owner.get() == Role::Nobody => continue,
                Evicted::Conn(conn) => Ok(conn),
            };
            self.node.metrics.evictions.with_label_values(&[reason]).inc();
            tracing::debug!(reason, "client cut off");
            match conn {
                Ok(conn) => {
                    let owner = conn.owner.get();
                    conn.abort();
                    let change = conn.account();
                    self.account(change);
                    self.lost(now, owner, CloseReason::TransportError);
                }
                Err(key) => self.end(now, key, CloseCommand::Lost(CloseReason::TransportError)),
            }
        }
    }

    /// Begins a broadcast: to the members here, and once to each other shard that has members.
    pub(super) fn begin_broadcast(&mut self, to: Audience, message: Message, volatile: bool) {
        self.sequence += 1;
        let shards = self.shards_of(&to);
        let (origin, sequence) = (Origin { node: self.node.tag, shard: self.id }, self.sequence);
        let broadcast = Broadcast { to: Arc::new(to), message, volatile, origin, sequence };
        for shard in shards {
            if shard != self.id {
                self.node.inboxes.broadcast(shard, ShardMessage::Broadcast(broadcast.clone()));
            }
        }
        if self.node.cluster.is_shared() {
            self.publish(&broadcast);
        }
        self.deliver_broadcast(&broadcast);
    }

    /// Says a broadcast to other nodes. Shards of this one have it in their inboxes by now, which a session that moves between nodes
    /// relies on.
    fn publish(&self, broadcast: &Broadcast) {
        let room = broadcast.to.place();
        let scope = room.as_ref().map_or(Scope::Everywhere, Scope::Room);
        let said = BusMessage::Broadcast(broadcast.clone()).encode();
        self.node.cluster.broadcast(std::time::Instant::now(), scope, said);
    }

    /// The shards with members of the audience.
    fn shards_of(&self, to: &Audience) -> Vec<u8> {
        if to.rooms.is_empty() {
            return (0..self.node.inboxes.len()).map(|shard| shard as u8).collect();
        }
        let mut shards = Vec::new();
        for room in &to.rooms {
            let name = RoomName { namespace: to.namespace.clone(), name: room.clone() };
            let known =
                self.rooms.find(&name).and_then(|key| self.rooms.get(key)).map(|room| room.route.clone());
            if let Some(route) = known.or_else(|| self.node.cluster.find_route(&name)) {
                shards.extend(route.shards());
            }
        }
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// A broadcast reaches this shard: every member of the audience here gets it.
    pub(super) fn deliver_broadcast(&mut self, broadcast: &Broadcast) {
        let to = &*broadcast.to;
        let room = to.place().map(|name| self.rooms.find(&name));
        self.note_seen(broadcast, room);
        if !self.incoming_transfers.is_empty() {
            self.buffer_for_transfers(broadcast);
        }
        if let Some(key) = room.filter(|_| to.except_rooms.is_empty()) {
            if let Some(key) = key {
                self.deliver_to_members(key, broadcast);
            }
            return;
        }
        for (_, key) in self.audience(to) {
            self.deliver_to(key, broadcast);
        }
    }

    /// Remembers that a broadcast has reached this shard, said in a room (which may have no members here) or everywhere.
    fn note_seen(&mut self, broadcast: &Broadcast, room: Option<Option<RoomKey>>) {
        let Broadcast { origin, sequence, .. } = *broadcast;
        if origin.node == self.node.tag {
            if let Some(seen) = self.seen.get_mut(usize::from(origin.shard)) {
                *seen = sequence;
            }
            return;
        }
        match room {
            None => self.seen_everywhere.saw(origin, sequence),
            Some(key) => {
                if let Some(room) = key.and_then(|key| self.rooms.get_mut(key)) {
                    room.seen.saw(origin, sequence);
                }
            }
        }
    }

    /// The members of one room.
    fn deliver_to_members(&mut self, key: RoomKey, broadcast: &Broadcast) {
        let mut index = 0;
        // The room cannot change meanwhile, but sending needs the state that it is part of.
        while let Some((socket, session)) = self.rooms.get(key).and_then(|room| room.members.get_index(index))
        {
            let (socket, session) = (*socket, *session);
            index += 1;
            if !broadcast.to.except.contains(&socket) {
                self.deliver_to(session, broadcast);
            }
        }
    }

    fn deliver_to(&mut self, key: u32, broadcast: &Broadcast) {
        let Some(session) = self.sessions.get(key as usize) else { return };
        if session.seen.as_ref().is_none_or(|known| !known.seen.has_seen(broadcast)) {
            self.send(key, &broadcast.message, broadcast.volatile);
        }
    }

    /// Everybody of an audience on this shard, once.
    fn audience(&self, to: &Audience) -> Vec<(Address, u32)> {
        let find = |room: &Arc<str>| {
            let name = RoomName { namespace: to.namespace.clone(), name: room.clone() };
            self.rooms.find(&name).and_then(|key| self.rooms.get(key))
        };
        let mut sockets: Vec<(Address, u32)> = if to.rooms.is_empty() {
            let all = self.sessions.iter().flat_map(|(key, session)| {
                session.connection.sockets().iter().map(move |joined| (key as u32, joined))
            });
            all.filter(|(_, joined)| joined.namespace == to.namespace)
                .map(|(key, joined)| (joined.socket.id, key))
                .collect()
        } else {
            to.rooms
                .iter()
                .filter_map(find)
                .flat_map(|room| room.members.iter().map(|(id, key)| (*id, *key)))
                .collect()
        };
        sockets.sort_unstable();
        sockets.dedup();
        let but: Vec<_> = to.except_rooms.iter().filter_map(find).collect();
        sockets.retain(|(socket, _)| {
            !to.except.contains(socket) && !but.iter().any(|room| room.members.contains_key(socket))
        });
        sockets
    }

    /// Whether a session was told of a change before it moved here.
    fn was_told(&mut self, session: u32, room: RoomKey, number: u128, change: &Change) -> bool {
        let known = self.sessions.get_mut(session as usize).and_then(|session| session.seen.as_mut());
        let Some((known, room)) = known.zip(self.rooms.get(room)) else { return false };
        known.seen.was_told(self.node.tag, &room.name, number, change)
    }

    /// Every member of a room here but one hears something about that one.
    pub(super) fn emit_change(&mut self, key: RoomKey, number: u128, change: &Change, message: &Message) {
        self.buffer_change_for_transfers(key, number, change, message);
        let about = change.record().socket;
        let mut index = 0;
        while let Some((socket, session)) = self.rooms.get(key).and_then(|room| room.members.get_index(index))
        {
            let (socket, session) = (*socket, *session);
            index += 1;
            if socket != about && !self.was_told(session, key, number, change) {
                self.send(session, message, false);
            }
        }
    }
}

/// Whether a volatile packet would leave at once.
fn is_ready(session: &Session) -> bool {
    match session.engine.transport() {
        Transport::Polling => session.engine.is_writable(),
        Transport::WebSocket => session.local.conn.as_ref().is_some_and(|conn| conn.is_idle()),
    }
}
