//! Sessions that move to the shard of their WebSocket.
//!
//! - `away`: to another node.
//! - `arrival`: from another node.
//!
//! The giver (where the session lives) tells the taker (where the WebSocket landed) its rooms; the taker listens to them from
//! then on, and keeps what it hears. It asks every shard for a *fence*: behind it in the giver's inbox there is nothing of
//! that shard that the taker does not hear itself. With all fences reached the giver has seen all that the taker might have
//! missed; it hands the session over, with the number of the last broadcast of each shard and the last change of each room it
//! has seen, and the taker drops from what it kept what was seen already. So nothing is lost, doubled or reordered, and no
//! client hears of it.

mod arrival;
mod away;

use std::{collections::VecDeque, sync::Arc, time::Duration, time::Instant};

use signalbox_cluster::{Address, RoomName, ShardId, command::Change};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_socketio::Message;
use signalbox_websocket::Frame;

use self::arrival::RemoteSource;
pub(super) use self::away::{OutgoingTransfer, SWEEP, UnconfirmedTransfer};
use super::{
    State,
    rooms::RoomKey,
    seen::{DedupWindow, DeliveryCursor, RoomCursor},
    session::{Session, ShardLocal},
    timers::Timer,
};
use crate::{
    mailbox::{
        Broadcast, CloseCommand, ConnectionRef, Location, ShardMessage, TransferMessage, TransferredSession,
    },
    transport::Role,
};

/// How long something that the giver saw may still be on its way to the taker.
const DEDUP_WINDOW: Duration = Duration::from_secs(10);
/// Most messages kept for a session on its way.
const MAX_HEARD: usize = 10_000;

/// A session on its way here.
pub(super) struct IncomingTransfer {
    at: ConnectionRef,
    rooms: Vec<RoomKey>,
    heard: Vec<BufferedEvent>,
    is_overflown: bool,
    /// It comes from another node.
    from: Option<RemoteSource>,
}

/// What was heard meanwhile.
enum BufferedEvent {
    Broadcast(Broadcast),
    Change { room: RoomName, number: u128, change: Change, message: Message },
}

impl State {
    /// A WebSocket has sent the upgrade packet for a session that lives here.
    pub(super) fn upgrade(&mut self, now: Instant, key: u32, at: ConnectionRef) {
        let session = &mut self.sessions[key as usize];
        if session.local.probe != Some(at) {
            self.node.close_probe(at);
            return;
        }
        session.local.move_to = Some(at);
        self.try_move(now, key);
    }

    /// Goes on with an upgrade once nothing of the session is under way on this shard.
    pub(super) fn try_move(&mut self, now: Instant, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else { return };
        let Some(at) = session.local.move_to else { return };
        if session.in_flight > 0 || session.local.post.is_some() || session.local.is_moving {
            return;
        }
        if at.node == self.node.tag && at.shard == self.id {
            session.local.move_to = None;
            self.upgrade_here(now, key, at);
            return;
        }
        if at.node != self.node.tag {
            self.start_transfer(now, key, at);
            return;
        }
        session.local.is_moving = true;
        session.local.markers = self.node.inboxes.len();
        let rooms = session.connection.sockets().iter().flat_map(|joined| joined.socket.rooms.iter());
        let rooms = rooms.filter_map(|room| self.rooms.get(*room)).map(|room| room.name.clone()).collect();
        let step = TransferMessage::Prepare { sid: session.sid, source: self.id, at, rooms };
        self.node.inboxes.push(at.shard, ShardMessage::Move(step));
    }

    /// The WebSocket is on this very shard.
    fn upgrade_here(&mut self, now: Instant, key: u32, at: ConnectionRef) {
        let Some(frames) = self.leave_polling(key) else {
            self.close_probe(at);
            return;
        };
        self.attach(now, key, at, frames);
    }

    /// Ends polling: a GET that waits is released, and what waited for it is given back.
    fn leave_polling(&mut self, key: u32) -> Option<VecDeque<Frame>> {
        let session = &mut self.sessions[key as usize];
        let frames = session.engine.complete_upgrade()?;
        if let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.release_poll()) {
            let _ = poll.send(body);
        }
        session.local.probe = None;
        self.account_session(key);
        Some(frames)
    }

    /// The WebSocket becomes the session's transport.
    fn attach(&mut self, now: Instant, key: u32, at: ConnectionRef, frames: VecDeque<Frame>) {
        self.node.metrics.upgrades.with_label_values(&["completed"]).inc();
        self.count_session(Transport::Polling, -1);
        self.count_session(Transport::WebSocket, 1);
        let probe = self.probe(at).is_some().then(|| self.probes.remove(at.key as usize));
        if let Some(probe) = &probe {
            probe.conn.owner.set(Role::Nobody);
        }
        let Some(conn) = probe.map(|probe| probe.conn).filter(|conn| conn.is_open()) else {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportClose));
            return;
        };
        conn.owner.set(Role::Session(key));
        for frame in &frames {
            self.push(&conn, frame);
        }
        let session = &mut self.sessions[key as usize];
        session.local.conn = Some(conn.clone());
        if session.engine.is_open() {
            conn.resume();
            self.arm(key);
        } else {
            // The server had closed the session while the client was still polling.
            self.end(now, key, CloseCommand::Lost(CloseReason::ForcedClose));
        }
    }

    pub(super) fn move_step(&mut self, now: Instant, step: TransferMessage) {
        match step {
            TransferMessage::Prepare { sid, source, at, rooms } => {
                self.prepare_to_take(sid, source, at, &rooms)
            }
            TransferMessage::Marker { sid, tell, at } => {
                self.node.inboxes.push(tell, ShardMessage::Move(TransferMessage::MarkerReached { sid, at }));
            }
            TransferMessage::MarkerReached { sid, at } if self.is_expected(sid, at) => {
                self.marker_passed(sid)
            }
            TransferMessage::MarkerReached { sid, at } => self.marker_reached(sid, at),
            TransferMessage::Session(moved) => self.take_session(now, *moved),
            TransferMessage::Cancelled { sid, at } => self.cancel_incoming(sid, at),
            TransferMessage::Expect { sid, source, at, rooms, answer } => {
                self.expect(now, (sid, source, at), &rooms, answer);
            }
            TransferMessage::Ready { sid, at, everywhere } => self.taker_ready(now, sid, at, everywhere),
            TransferMessage::MarkerHeard { marker, is_current } => self.marker_heard(now, marker, is_current),
            TransferMessage::Arrived { sent, answer } => self.arrived(now, *sent, answer),
            TransferMessage::Confirmed { sid, is_taken } => self.given(now, sid, is_taken),
        }
    }

    /// Taker: listens to the session's rooms, and asks for the fences.
    fn prepare_to_take(&mut self, sid: Address, source: ShardId, at: ConnectionRef, rooms: &[RoomName]) {
        self.begin_incoming(sid, at, rooms, None);
        // From here on this shard hears other nodes in these rooms, and what it has not heard is in the giver's inbox.
        self.node.cluster.barrier();
        self.request_markers(sid, source, at);
    }

    /// Asks every shard for a fence, to be told to `tell`.
    fn request_markers(&self, sid: Address, tell: ShardId, at: ConnectionRef) {
        for shard in 0..self.node.inboxes.len() {
            let marker = TransferMessage::Marker { sid, tell, at };
            self.node.inboxes.push(shard as ShardId, ShardMessage::Move(marker));
        }
    }

    /// Listens to the rooms of a session that is to come, and keeps what is heard from now on.
    fn begin_incoming(
        &mut self,
        sid: Address,
        at: ConnectionRef,
        rooms: &[RoomName],
        from: Option<RemoteSource>,
    ) {
        // An earlier one may not have been heard to be cancelled.
        self.end_incoming(sid);
        let node = self.node.clone();
        let keys: Vec<RoomKey> = rooms
            .iter()
            .map(|name| {
                let key = self.rooms.open(name, || node.cluster.route(name));
                if let Some(room) = self.rooms.get_mut(key) {
                    room.route.add(self.id);
                    room.expected += 1;
                    room.incoming_transfers.push(sid);
                }
                key
            })
            .collect();
        self.incoming_transfers
            .insert(sid, IncomingTransfer { at, rooms: keys, heard: Vec::new(), is_overflown: false, from });
    }

    /// Giver: hands the session over once the last fence is reached.
    fn marker_reached(&mut self, sid: Address, at: ConnectionRef) {
        let Some(key) = self.find_session(sid) else { return };
        let session = &mut self.sessions[key as usize];
        if session.local.move_to != Some(at) || !session.local.is_moving {
            // A fence of a move that was given up.
            return;
        }
        session.local.markers -= 1;
        if session.local.markers > 0 {
            return;
        }
        debug_assert!(session.in_flight == 0 && session.held_post.is_none());
        let Some(frames) = self.leave_polling(key) else {
            self.stop_moving(key);
            return;
        };
        let mut session = self.sessions.remove(key as usize);
        let (rooms, seen) = self.detach(&mut session, at.place());
        let deferred = std::mem::take(&mut session.local.deferred);
        let moved = Box::new(TransferredSession { at, session: session.portable, frames, rooms, seen });
        self.node.inboxes.push(at.shard, ShardMessage::Move(TransferMessage::Session(moved)));
        for socket_command in deferred {
            self.node.inboxes.push(at.shard, ShardMessage::SocketCommand(socket_command));
        }
    }

    /// Giver: takes a session out of everything here; what is for it is sent on from now on. Gives back its rooms, and what it was
    /// told.
    fn detach(&mut self, session: &mut Session, to: Location) -> (Vec<(Address, RoomName)>, DeliveryCursor) {
        let sid = session.sid;
        self.by_sid.remove(&sid);
        self.moved_out.insert(sid, to);
        let mut rooms = Vec::new();
        let mut left = Vec::new();
        let mut seen_rooms = Vec::new();
        for slot in 0..session.connection.sockets().len() {
            let Some(joined) = session.connection.socket_mut(slot) else { continue };
            let id = joined.socket.id;
            self.sockets.remove(&id);
            self.moved_out.insert(id, to);
            for key in std::mem::take(&mut joined.socket.rooms) {
                let Some(room) = self.rooms.get_mut(key) else { continue };
                room.members.swap_remove(&id);
                rooms.push((id, room.name.clone()));
                let (broadcasts, told) = (room.seen.clone(), room.told);
                seen_rooms.push(RoomCursor {
                    room: room.name.clone(),
                    broadcasts,
                    told,
                    changes: Vec::new(),
                });
                left.push(key);
            }
        }
        self.account(-(std::mem::take(&mut session.local.accounted) as isize));
        let seen = DeliveryCursor {
            node: self.node.tag,
            numbers: self.seen.to_vec(),
            everywhere: self.seen_everywhere.clone(),
            rooms: seen_rooms,
        };
        for key in left {
            self.close_room_if_unused(key);
        }
        (rooms, seen)
    }

    /// Taker: the session is here.
    fn take_session(&mut self, now: Instant, moved: TransferredSession) {
        let TransferredSession { at, session: portable, frames, rooms, seen } = moved;
        let number = self.next_number();
        let mut session = Session { portable, local: ShardLocal { number, ..ShardLocal::default() } };
        session.seen = Some(Box::new(DedupWindow { seen, until: now + DEDUP_WINDOW }));
        let sid = session.sid;
        let key = self.sessions.insert(session) as u32;
        self.by_sid.insert(sid, key);
        let node = self.node.clone();
        for (id, name) in &rooms {
            let room_key = self.rooms.open(name, || node.cluster.route(name));
            if let Some(room) = self.rooms.get_mut(room_key) {
                room.route.add(self.id);
                room.members.insert(*id, key);
            }
            let session = &mut self.sessions[key as usize];
            let slot = session.slot_of(*id);
            if let Some(joined) = slot.and_then(|slot| session.connection.socket_mut(slot)) {
                joined.socket.rooms.push(room_key);
            }
        }
        let session = &self.sessions[key as usize];
        for joined in session.connection.sockets() {
            self.sockets.insert(joined.socket.id, key);
            for asked in &joined.socket.asked {
                self.timers.add(asked.until, Timer::Ack { key, number, id: asked.id });
            }
        }
        self.node.metrics.session_transfers.inc();
        let taking = self.end_incoming(sid);
        self.attach(now, key, at, frames);
        let Some(taking) = taking else { return };
        if taking.is_overflown {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
            return;
        }
        for heard in taking.heard {
            self.catch_up(key, number, &rooms, &heard);
        }
    }

    /// Gives a session that has arrived what was heard for it, unless it saw that before it moved.
    fn catch_up(&mut self, key: u32, number: u64, rooms: &[(Address, RoomName)], heard: &BufferedEvent) {
        let here = self.node.tag;
        let Some(session) = self.session(key, number) else { return };
        let Some(known) = &mut session.seen else { return };
        match heard {
            BufferedEvent::Broadcast(broadcast) => {
                if known.seen.has_seen(broadcast) {
                    return;
                }
                let hearers = hearers(session, rooms, broadcast);
                for _ in 0..hearers {
                    self.send(key, &broadcast.message, broadcast.volatile);
                }
            }
            BufferedEvent::Change { room, number, change, message } => {
                if known.seen.was_told(here, room, *number, change) {
                    return;
                }
                let about = change.record().socket;
                let is_news = |(id, name): &&(Address, RoomName)| name == room && *id != about;
                for _ in 0..rooms.iter().filter(is_news).count() {
                    self.send(key, message, false);
                }
            }
        }
    }

    /// Taker: whatever is heard while a session is on its way is kept for it.
    pub(super) fn buffer_for_transfers(&mut self, broadcast: &Broadcast) {
        let to = &broadcast.to;
        let name = |room: &Arc<str>| RoomName { namespace: to.namespace.clone(), name: room.clone() };
        let rooms: Vec<RoomKey> = to.rooms.iter().filter_map(|room| self.rooms.find(&name(room))).collect();
        for taking in self.incoming_transfers.values_mut() {
            if to.rooms.is_empty() || rooms.iter().any(|room| taking.rooms.contains(room)) {
                taking.keep(BufferedEvent::Broadcast(broadcast.clone()));
            }
        }
    }

    pub(super) fn buffer_change_for_transfers(
        &mut self,
        key: RoomKey,
        number: u128,
        change: &Change,
        message: &Message,
    ) {
        let Some(room) = self.rooms.get(key) else { return };
        for sid in &room.incoming_transfers {
            if let Some(taking) = self.incoming_transfers.get_mut(sid) {
                let (room, message) = (room.name.clone(), message.clone());
                taking.keep(BufferedEvent::Change { room, number, change: change.clone(), message });
            }
        }
    }

    /// Taker: the session is here, or will never be.
    fn end_incoming(&mut self, sid: Address) -> Option<IncomingTransfer> {
        let taking = self.incoming_transfers.remove(&sid)?;
        for key in &taking.rooms {
            if let Some(room) = self.rooms.get_mut(*key) {
                room.expected -= 1;
                room.incoming_transfers.retain(|taking| *taking != sid);
            }
            self.close_room_if_unused(*key);
        }
        debug_assert_eq!(taking.at.shard, self.id);
        Some(taking)
    }

    /// Taker: there is nothing to take any more.
    fn cancel_incoming(&mut self, sid: Address, at: ConnectionRef) {
        if self.incoming_transfers.get(&sid).is_some_and(|taking| taking.at == at) {
            self.end_incoming(sid);
        }
        self.close_probe(at);
    }

    /// A session or socket that was born elsewhere is over: nobody needs to send on what is for it.
    pub(super) fn forget_at_birthplace(&self, address: Address) {
        let birthplace = Location::birth(address);
        if birthplace != (Location { node: self.node.tag, shard: self.id }) {
            self.node.forget_at(birthplace, address);
        }
    }

    /// Giver: the session will not be handed over. What waited for the end of the move goes on here.
    pub(super) fn stop_moving(&mut self, key: u32) {
        let session = &mut self.sessions[key as usize];
        let sid = session.sid;
        let Some(at) = session.local.move_to.take() else { return };
        session.local.markers = 0;
        if std::mem::take(&mut session.local.is_moving) {
            self.outgoing_transfers.remove(&sid);
            self.node.cancel_move(sid, at);
        }
        for socket_command in std::mem::take(&mut self.sessions[key as usize].local.deferred) {
            self.node.inboxes.push(self.id, ShardMessage::SocketCommand(socket_command));
        }
    }
}

impl IncomingTransfer {
    fn keep(&mut self, heard: BufferedEvent) {
        if self.heard.len() < MAX_HEARD {
            self.heard.push(heard);
        } else {
            self.is_overflown = true;
        }
    }
}

/// How many of the session's sockets a broadcast is for.
fn hearers(session: &Session, rooms: &[(Address, RoomName)], broadcast: &Broadcast) -> usize {
    let to = &broadcast.to;
    let is_in = |id: Address, names: &[std::sync::Arc<str>]| {
        rooms.iter().any(|(member, room)| *member == id && names.contains(&room.name))
    };
    let sockets = session.connection.sockets().iter().filter(|joined| joined.namespace == to.namespace);
    sockets
        .filter(|joined| {
            let id = joined.socket.id;
            (to.rooms.is_empty() || is_in(id, &to.rooms))
                && !to.except.contains(&id)
                && !is_in(id, &to.except_rooms)
        })
        .count()
}
