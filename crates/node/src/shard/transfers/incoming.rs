//! A shard as the destination of transfers.

use std::{sync::Arc, time::Instant};

use signalbox_cluster::{Address, Command, NodeTag, RoomName};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_websocket::Frame;

use crate::{
    protocol::{BusMessage, Marker, SessionTransfer},
    routing::{Broadcast, ConnectionRef, DedupWindow, Location},
    session::{RoomKey, Session, SessionState, ShardLocal},
    shard::{
        Shard,
        cluster_events::change_message,
        effects::Effect,
        mailbox::CloseCommand,
        tables::{PendingRequest, Timer},
        transfer::{
            destination::{ARRIVAL_TIMEOUT, BufferedEvent, CatchingUp, DestinationTransfer},
            message::{Confirmation, TransferMessage, TransferredSession},
            path::Path,
            source::CATCH_UP_TIMEOUT,
        },
    },
};

/// How long something that the session received before it moved may still be on its way here.
const DEDUP_WINDOW: std::time::Duration = std::time::Duration::from_secs(10);

impl Shard {
    /// A session is to come here: subscribes to its rooms, and buffers what comes from now on.
    pub(super) fn prepare_incoming(
        &mut self,
        now: Instant,
        sid: Address,
        source: Location,
        connection: ConnectionRef,
        rooms: Vec<(RoomName, u128)>,
    ) {
        let path = Path::between(source, self.context.location());
        let is_leaving = path == Path::OtherNode && self.context.lifecycle.is_leaving();
        if self.probes.get(connection).is_none() || is_leaving {
            self.send_transfer(source, TransferMessage::Refused { sid, connection });
            return;
        }
        // That an earlier one was cancelled may not have been heard.
        self.end_incoming(sid);
        let keys = rooms.iter().map(|(room, _)| self.keep_room(sid, room)).collect();
        match path {
            Path::SameNode => {
                let transfer = DestinationTransfer::from_shard(now, source, connection, keys);
                self.transfers.incoming.insert(sid, transfer);
                // From here on this shard receives what other nodes publish in these rooms; what came before is in the source's
                // mailbox.
                self.context.cluster.barrier();
                self.request_markers(sid, source.shard, connection);
                let received_on_all = Default::default();
                self.send_transfer(source, TransferMessage::Ready { sid, connection, received_on_all });
            }
            Path::OtherNode => {
                let (shards, received) = (self.context.shards, self.received_on_all.clone());
                let transfer =
                    DestinationTransfer::from_node(now, source, connection, keys, shards, received);
                self.transfers.incoming.insert(sid, transfer);
                self.timers.add(now + ARRIVAL_TIMEOUT, Timer::Transfer { sid });
                self.request_markers(sid, self.context.id, connection);
                let ticket = self.next_number();
                self.pending.insert(ticket, PendingRequest::Subscribe { sid, connection });
                self.effects.submit(Command::SubscribeRooms { shard: self.context.id, ticket, rooms });
            }
        }
    }

    /// Opens a room for a session that is to come.
    fn keep_room(&mut self, sid: Address, name: &RoomName) -> RoomKey {
        let key = self.open_room(name);
        if let Some(room) = self.rooms.get_mut(key) {
            room.expected += 1;
            room.incoming_transfers.push(sid);
        }
        key
    }

    /// Opens a room, and puts this shard on its route.
    pub(in crate::shard) fn open_room(&mut self, name: &RoomName) -> RoomKey {
        let Self { rooms, context, .. } = self;
        let key = rooms.open(name, || context.cluster.route(name));
        if let Some(room) = rooms.get_mut(key) {
            room.route.add(context.id);
        }
        key
    }

    /// This node is subscribed to the rooms of a session that is to come, or cannot be.
    pub(in crate::shard) fn transfer_subscribed(
        &mut self,
        sid: Address,
        connection: ConnectionRef,
        is_live: bool,
    ) {
        let Some(transfer) = self.transfers.incoming_to(sid, connection) else { return };
        if is_live {
            transfer.subscribed();
            self.announce_if_ready(sid);
        } else {
            self.cancel_incoming(sid, connection);
        }
    }

    /// Once everything the session would receive is buffered, the source is told, and a marker published in each room, behind
    /// whatever this node's shards have published.
    pub(super) fn announce_if_ready(&mut self, sid: Address) {
        let Some(transfer) = self.transfers.incoming.get_mut(&sid) else { return };
        let Some(received_on_all) = transfer.become_ready() else { return };
        let (source, connection) = (transfer.source, transfer.connection);
        let marker = BusMessage::Marker(Marker { sid, source, connection });
        let marker = marker.encode(self.context.cluster.write_format());
        for room in transfer.rooms.iter().filter_map(|room| self.rooms.get(*room)) {
            let (room, message) = (Some(room.name.clone()), marker.clone());
            self.effects.push(Effect::Publish { room, message });
        }
        self.send_transfer(source, TransferMessage::Ready { sid, connection, received_on_all });
    }

    /// A session of another node has come. Its records are this node's from now on; the source is told when the store knows.
    pub(super) fn adopt_session(&mut self, now: Instant, source: Location, transfer: SessionTransfer) {
        let SessionTransfer { connection, session, frames, rooms, cursor, records, principals } = transfer;
        let sid = session.sid;
        let has_probe = self.probes.get(connection).is_some();
        let is_expected = self.transfers.incoming_to(sid, connection).is_some() && has_probe;
        let frames = frames.into_iter().map(Frame::from_bytes).collect();
        let state =
            SessionState::restore(now, session, principals, &self.context.app).filter(|_| is_expected);
        let (Some(state), Some(frames)) = (state, frames) else {
            self.cancel_incoming(sid, connection);
            let refused = TransferMessage::Confirmed { sid, connection, confirmation: Confirmation::Refused };
            self.send_transfer(source, refused);
            return;
        };
        let ticket = self.next_number();
        self.pending.insert(ticket, PendingRequest::Adopt { sid, source, connection });
        self.effects.submit(Command::AdoptSession {
            shard: self.context.id,
            ticket,
            from: cursor.node,
            memberships: records.memberships,
            sockets: records.sockets,
        });
        self.count_session(Transport::Polling, 1);
        self.take_session(now, connection, TransferredSession { session: state, frames, rooms, cursor });
    }

    /// The records of a session are this node's.
    pub(in crate::shard) fn session_adopted(
        &mut self,
        sid: Address,
        source: Location,
        connection: ConnectionRef,
    ) {
        let confirmation = Confirmation::Taken;
        self.send_transfer(source, TransferMessage::Confirmed { sid, connection, confirmation });
    }

    /// The session is here: it gets its WebSocket, and what was buffered for it.
    pub(super) fn take_session(
        &mut self,
        now: Instant,
        connection: ConnectionRef,
        session: TransferredSession,
    ) {
        let TransferredSession { session: mut state, frames, rooms, cursor } = session;
        let sid = state.sid;
        state.dedup = Some(Box::new(DedupWindow { cursor, until: now + DEDUP_WINDOW }));
        let number = self.next_number();
        let key =
            self.sessions.insert(Session { state, local: ShardLocal { number, ..ShardLocal::default() } });
        for (id, name) in &rooms {
            let room_key = self.open_room(name);
            if let Some(room) = self.rooms.get_mut(room_key) {
                room.members.insert(*id, key);
            }
            let session = &mut self.sessions[key];
            let slot = session.slot_of(*id);
            if let Some(joined) = slot.and_then(|slot| session.connection.socket_mut(slot)) {
                joined.socket.rooms.push(room_key);
            }
        }
        for slot in 0..self.sessions[key].connection.sockets().len() {
            // The timers for it were the source's.
            self.arm_first_ack(key, slot);
            let socket = self.sessions[key].connection.sockets()[slot].socket.id;
            self.begin_expiry(now, key, socket);
        }
        self.watch_half_event(now, key);
        self.context.metrics.session_transfers.inc();
        let transfer = self.end_incoming(sid);
        self.attach(now, key, connection, frames);
        let Some(transfer) = transfer else { return };
        let markers_missing = transfer.source_markers_missing();
        if markers_missing > 0 && self.sessions.checked(key, number).is_some() {
            let until = now + CATCH_UP_TIMEOUT;
            let waiting = CatchingUp { connection, key, number, markers_missing, until };
            self.transfers.catching_up.insert(sid, waiting);
            self.timers.add(until, Timer::Transfer { sid });
            self.request_begins(key, true);
        }
        let Some(buffered) = transfer.into_buffered() else {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
            return;
        };
        for event in buffered {
            self.catch_up(key, number, &rooms, &event);
        }
    }

    /// A marker of the source has come through a room: what the client has said there on its former node is here.
    pub(super) fn marker_of_source(&mut self, now: Instant, sid: Address, connection: ConnectionRef) {
        if let Some(transfer) = self.transfers.incoming_to(sid, connection) {
            transfer.source_marker();
            return;
        }
        let waiting = self.transfers.catching_up.get_mut(&sid);
        let Some(waiting) = waiting.filter(|waiting| waiting.connection == connection) else { return };
        waiting.markers_missing -= 1;
        if waiting.markers_missing == 0 {
            self.caught_up(now, sid);
        }
    }

    /// What has not come by now was lost.
    pub(super) fn catching_up_timed_out(&mut self, now: Instant, due: Instant, sid: Address) {
        if self.transfers.catching_up.get(&sid).is_some_and(|waiting| waiting.until <= due) {
            self.caught_up(now, sid);
        }
    }

    /// The client of a session that has moved here is read from now on.
    fn caught_up(&mut self, now: Instant, sid: Address) {
        let Some(CatchingUp { key, number, .. }) = self.transfers.catching_up.remove(&sid) else { return };
        if self.sessions.checked(key, number).is_some() {
            self.request_done(now, key, true);
        }
    }

    /// Gives a session that has arrived what was buffered for it, unless it received that before it moved.
    fn catch_up(&mut self, key: u32, number: u64, rooms: &[(Address, RoomName)], event: &BufferedEvent) {
        let here = self.context.node;
        let Some(session) = self.sessions.checked(key, number) else { return };
        let Some(known) = &mut session.dedup else { return };
        let (message, volatile, copies) = match event {
            BufferedEvent::Broadcast(broadcast) => {
                if known.cursor.has_seen(broadcast) {
                    return;
                }
                let copies = recipients(session, rooms, broadcast);
                (broadcast.message.clone(), broadcast.volatile, copies)
            }
            BufferedEvent::Change { room, number, change, message } => {
                let Some(news) = known.cursor.news(here, room, *number, change) else { return };
                let is_same = std::mem::discriminant(&news) == std::mem::discriminant(change);
                let other = if is_same { None } else { change_message(&room.namespace, &news) };
                let subject = change.record().socket;
                let is_recipient = |(id, name): &&(Address, RoomName)| name == room && *id != subject;
                (other.unwrap_or_else(|| message.clone()), false, rooms.iter().filter(is_recipient).count())
            }
        };
        for _ in 0..copies {
            self.send(key, &message, volatile);
        }
    }

    /// The session is here, or will never be.
    fn end_incoming(&mut self, sid: Address) -> Option<DestinationTransfer> {
        let transfer = self.transfers.incoming.remove(&sid)?;
        for key in &transfer.rooms {
            if let Some(room) = self.rooms.get_mut(*key) {
                room.expected -= 1;
                room.incoming_transfers.retain(|incoming| *incoming != sid);
            }
            self.rooms.check_later(*key);
        }
        debug_assert_eq!(transfer.connection.shard, self.context.id);
        Some(transfer)
    }

    /// The session will not come. The source is told if it still waits for word from here.
    pub(super) fn cancel_incoming(&mut self, sid: Address, connection: ConnectionRef) {
        if self.transfers.incoming_to(sid, connection).is_some()
            && let Some(transfer) = self.end_incoming(sid)
            && transfer.is_subscribing()
        {
            self.send_transfer(transfer.source, TransferMessage::Refused { sid, connection });
        }
        self.close_probe(connection);
    }

    /// The node that sessions were to come from has died.
    pub(in crate::shard) fn cancel_incoming_from(&mut self, lost: NodeTag) {
        for (sid, connection) in self.transfers.incoming_from(lost) {
            self.cancel_incoming(sid, connection);
        }
    }

    pub(super) fn arrival_timed_out(&mut self, due: Instant, sid: Address) {
        let Some(transfer) = self.transfers.incoming.get(&sid) else { return };
        if transfer.path == Path::OtherNode && transfer.started + ARRIVAL_TIMEOUT <= due {
            self.cancel_incoming(sid, transfer.connection);
        }
    }
}

/// How many of the session's sockets a broadcast is for.
fn recipients(session: &Session, rooms: &[(Address, RoomName)], broadcast: &Broadcast) -> usize {
    let to = &broadcast.to;
    let is_in = |id: Address, names: &[Arc<str>]| {
        rooms.iter().any(|(member, room)| *member == id && names.contains(&room.name))
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
