//! Broadcasts: a message is encoded once, and every receiver's outbox shares its bytes.

use std::{sync::Arc, time::Instant};

use signalbox_cluster::{Address, RoomName, ShardId, command::Change};
use signalbox_engineio::CloseReason;
use signalbox_socketio::Message;
use signalbox_telemetry::CLIENT_EVENTS;

use super::{
    Shard,
    cluster_events::change_message,
    effects::Effect,
    mailbox::CloseCommand,
    tables::{Evicted, Outboxes, Rooms, Sessions},
};
use crate::{
    ledger::Account,
    protocol::BusMessage,
    routing::{Audience, Broadcast},
    session::{RoomKey, Session},
    transport::Role,
};

impl Shard {
    /// Sends a packet to a session.
    pub(super) fn send(&mut self, key: u32, message: &Message, volatile: bool) {
        if let Some(session) = self.sessions.get_mut(key) {
            self.outboxes.send(key, session, message, volatile);
        }
    }

    /// What waits for a session's poll, or for the rest of one of its events, has changed.
    pub(super) fn account_session(&mut self, key: u32) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.settle();
        }
    }

    /// Begins a broadcast: to the members here, once to each other shard that has members, and to other nodes. The shards come
    /// first: a session that moves between nodes relies on it. Its bytes are charged to the sender, if that is a session of this shard.
    pub(super) fn begin_broadcast(
        &mut self,
        sender: Option<u32>,
        to: Audience,
        message: Message,
        volatile: bool,
    ) {
        self.sequence += 1;
        let (shards, members) = self.shards_of(&to);
        let is_for_one =
            members <= 1 + to.except.len() && shards.iter().all(|shard| *shard == self.context.id);
        // One that shares its bytes with nobody needs no counting of who does.
        let message = if is_for_one {
            message
        } else {
            let sender =
                sender.and_then(|key| self.sessions.get_mut(key)).and_then(|session| session.account());
            self.outboxes.share(sender, message)
        };
        let (origin, sequence) = (self.context.location(), self.sequence);
        let broadcast = Broadcast { to: Arc::new(to), message, volatile, origin, sequence };
        for shard in shards {
            if shard != self.context.id {
                self.effects.push(Effect::Broadcast { shard, broadcast: broadcast.clone() });
            }
        }
        if self.context.cluster.is_shared() {
            let room = broadcast.to.channel();
            let message =
                BusMessage::Broadcast(broadcast.clone()).encode(self.context.cluster.write_format());
            self.effects.push(Effect::Publish { room, message });
        }
        self.deliver_broadcast(&broadcast);
    }

    /// A broadcast that began elsewhere has come.
    pub(super) fn receive_broadcast(&mut self, now: Instant, broadcast: &Broadcast) {
        self.deliver_broadcast(broadcast);
        self.continue_transfers_after(now, broadcast);
    }

    /// The shards with members of the audience, and how many there are here at most, those on their way here included.
    fn shards_of(&self, to: &Audience) -> (Vec<ShardId>, usize) {
        if to.rooms.is_empty() {
            return ((0..self.context.shards).map(|shard| shard as ShardId).collect(), usize::MAX);
        }
        let (mut shards, mut members) = (Vec::new(), 0);
        for room in &to.rooms {
            let name = RoomName { namespace: to.namespace.clone(), name: room.clone() };
            let known = self.rooms.find(&name).and_then(|key| self.rooms.get(key));
            members += known.map_or(0, |room| room.members.len() + room.incoming_transfers.len());
            let known = known.map(|room| room.route.clone());
            if let Some(route) = known.or_else(|| self.context.cluster.find_route(&name)) {
                shards.extend(route.shards());
            }
        }
        shards.sort_unstable();
        shards.dedup();
        (shards, members)
    }

    /// A broadcast reaches this shard: every member of the audience here gets it.
    fn deliver_broadcast(&mut self, broadcast: &Broadcast) {
        let before = self.outboxes.deliveries();
        self.deliver_to_members(broadcast);
        let receivers = self.outboxes.deliveries() - before;
        self.context.metrics.fanout_receivers.observe(receivers as f64);
    }

    fn deliver_to_members(&mut self, broadcast: &Broadcast) {
        let to = &*broadcast.to;
        let room = to.channel().map(|name| self.rooms.find(&name));
        self.note_received(broadcast, room);
        self.transfers.buffer_broadcast(broadcast, &self.rooms);
        let Self { sessions, rooms, outboxes, .. } = self;
        if let Some(key) = room.filter(|_| to.except_rooms.is_empty()) {
            if let Some(room) = key.and_then(|key| rooms.get(key)) {
                for (socket, session) in &room.members {
                    if !to.except.contains(socket) {
                        deliver(outboxes, sessions, *session, broadcast);
                    }
                }
            }
            return;
        }
        for (_, key) in recipients(sessions, rooms, to) {
            deliver(outboxes, sessions, key, broadcast);
        }
    }

    /// Remembers that a broadcast has reached this shard: on the channel of a room (which may have no members here) or of all.
    fn note_received(&mut self, broadcast: &Broadcast, room: Option<Option<RoomKey>>) {
        let Broadcast { origin, sequence, .. } = *broadcast;
        if origin.node == self.context.node {
            if let Some(received) = self.received.get_mut(usize::from(origin.shard)) {
                *received = sequence;
            }
            if room.is_none() {
                // To other nodes it goes on the channel of all, where the source of a session that moves here has yet to receive it.
                self.received_on_all.saw(origin, sequence);
            }
            return;
        }
        match room {
            None => self.received_on_all.saw(origin, sequence),
            Some(key) => {
                if let Some(room) = key.and_then(|key| self.rooms.get_mut(key)) {
                    room.received.saw(origin, sequence);
                }
            }
        }
    }

    /// Every member of a room here but its subject gets an event about a change of the room.
    pub(super) fn emit_change(&mut self, key: RoomKey, number: u128, change: &Change, message: &Message) {
        let Self { sessions, rooms, outboxes, transfers, context, .. } = self;
        let Some(room) = rooms.get(key) else { return };
        // Events about members are the server's: nobody in particular sent them.
        let message = &match room.members.len() {
            0 | 1 => message.clone(),
            _ => outboxes.share(None, message.clone()),
        };
        transfers.buffer_change(room, number, change, message);
        let subject = change.record().socket;
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
    }

    /// Cuts off the client that has this account.
    pub(super) fn evict_for_budget(&mut self, now: Instant, account: &Arc<Account>) {
        if let Some(who) = self.client_of(account) {
            self.outboxes.evict(who, "memory_budget");
        }
        self.evict(now);
        self.context.ledger.evicted();
    }

    /// The client that has an account. Looking through all is fine: it happens once per client that is cut off.
    fn client_of(&self, account: &Arc<Account>) -> Option<Evicted> {
        let mut sessions = self.sessions.iter().filter(|(_, session)| session.is_of(account));
        if let Some((key, session)) = sessions.next() {
            return Some(Evicted::Session { key, number: session.local.number });
        }
        let peers = self.peers.iter().map(|(_, peer)| &peer.conn);
        let conn = peers.chain(self.probes.conns()).find(|conn| conn.is_of(account))?;
        Some(Evicted::Conn(conn.clone()))
    }

    /// Cuts off who is to be cut off.
    pub(super) fn evict(&mut self, now: Instant) {
        for (who, reason) in self.outboxes.take_evicted() {
            let conn = match who {
                Evicted::Session { key, number } => match self.sessions.checked(key, number) {
                    Some(session) => session.local.conn.clone().ok_or(key),
                    None => continue,
                },
                Evicted::Conn(conn) if conn.role.get() == Role::Nobody => continue,
                Evicted::Conn(conn) => Ok(conn),
            };
            self.context.metrics.evictions.with_label_values(&[reason]).inc();
            let address = match &conn {
                Ok(conn) => conn.address(),
                Err(key) => self.sessions.get_mut(*key).and_then(|session| session.address()),
            };
            tracing::debug!(target: CLIENT_EVENTS, address = address.map(tracing::field::display), reason, "client cut off");
            match conn {
                Ok(conn) => {
                    let role = conn.role.get();
                    conn.abort();
                    self.lost(now, role, CloseReason::TransportError);
                }
                Err(key) => self.end(now, key, CloseCommand::Lost(CloseReason::TransportError)),
            }
        }
    }
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
