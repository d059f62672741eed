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

use self::arrival::Abroad;
pub(super) use self::away::{Departure, Given, SWEEP};
use super::{
    State,
    rooms::RoomKey,
    seen::{Remembered, Seen, SeenRoom},
    session::{Local, Session},
    timers::Timer,
};
use crate::{
    message::{Broadcast, ConnAt, End, MoveStep, Moved, Place, ToShard},
    transport::Owner,
};

/// How long something that the giver saw may still be on its way to the taker.
const LATE: Duration = Duration::from_secs(10);
/// Most messages kept for a session on its way.
const MAX_HEARD: usize = 10_000;

/// A session on its way here.
pub(super) struct Taking {
    at: ConnAt,
    rooms: Vec<RoomKey>,
    heard: Vec<Heard>,
    is_overflown: bool,
    /// It comes from another node.
    from: Option<Abroad>,
}

/// What was heard meanwhile.
enum Heard {
    Broadcast(Broadcast),
    Change { room: RoomName, number: u128, change: Change, message: Message },
}

impl State {
    /// A WebSocket has sent the upgrade packet for a session that lives here.
    pub(super) fn upgrade(&mut self, now: Instant, key: u32, at: ConnAt) {
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
        if session.effects > 0 || session.local.post.is_some() || session.local.is_moving {
            return;
        }
        if at.node == self.node.tag && at.shard == self.id {
            session.local.move_to = None;
            self.upgrade_here(now, key, at);
            return;
        }
        if at.node != self.node.tag {
            self.depart(now, key, at);
            return;
        }
        session.local.is_moving = true;
        session.local.fences = self.node.inboxes.len();
        let rooms = session.connection.sockets().iter().flat_map(|joined| joined.socket.rooms.iter());
        let rooms = rooms.filter_map(|room| self.rooms.get(*room)).map(|room| room.name.clone()).collect();
        let step = MoveStep::Prepare { sid: session.sid, giver: self.id, at, rooms };
        self.node.inboxes.push(at.shard, ToShard::Move(step));
    }

    /// The WebSocket is on this very shard.
    fn upgrade_here(&mut self, now: Instant, key: u32, at: ConnAt) {
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
    fn attach(&mut self, now: Instant, key: u32, at: ConnAt, frames: VecDeque<Frame>) {
        self.node.metrics.upgrades.with_label_values(&["completed"]).inc();
        self.count_session(Transport::Polling, -1);
        self.count_session(Transport::WebSocket, 1);
        let probe = self.probe(at).is_some().then(|| self.probes.remove(at.key as usize));
        if let Some(probe) = &probe {
            probe.conn.owner.set(Owner::Nobody);
        }
        let Some(conn) = probe.map(|probe| probe.conn).filter(|conn| conn.is_open()) else {
            self.end(now, key, End::Lost(CloseReason::TransportClose));
            return;
        };
        conn.owner.set(Owner::Session(key));
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
            self.end(now, key, End::Lost(CloseReason::ForcedClose));
        }
    }

    pub(super) fn move_step(&mut self, now: Instant, step: MoveStep) {
        match step {
            MoveStep::Prepare { sid, giver, at, rooms } => self.prepare_to_take(sid, giver, at, &rooms),
            MoveStep::Fence { sid, tell, at } => {
                self.node.inboxes.push(tell, ToShard::Move(MoveStep::FenceReached { sid, at }));
            }
            MoveStep::FenceReached { sid, at } if self.is_expected(sid, at) => self.fence_passed(sid),
            MoveStep::FenceReached { sid, at } => self.fence_reached(sid, at),
            MoveStep::Session(moved) => self.take_session(now, *moved),
            MoveStep::Cancelled { sid, at } => self.cancel_taking(sid, at),
            MoveStep::Expect { sid, giver, at, rooms, answer } => {
                self.expect(now, (sid, giver, at), &rooms, answer);
            }
            MoveStep::Ready { sid, at, everywhere } => self.taker_ready(now, sid, at, everywhere),
            MoveStep::FenceHeard { fence, is_current } => self.fence_heard(now, fence, is_current),
            MoveStep::Arrived { sent, answer } => self.arrived(now, *sent, answer),
            MoveStep::Given { sid, is_taken } => self.given(now, sid, is_taken),
        }
    }

    /// Taker: listens to the session's rooms, and asks for the fences.
    fn prepare_to_take(&mut self, sid: Address, giver: ShardId, at: ConnAt, rooms: &[RoomName]) {
        self.begin_taking(sid, at, rooms, None);
        // From here on this shard hears other nodes in these rooms, and what it has not heard is in the giver's inbox.
        self.node.cluster.barrier();
        self.ask_for_fences(sid, giver, at);
    }

    /// Asks every shard for a fence, to be told to `tell`.
    fn ask_for_fences(&self, sid: Address, tell: ShardId, at: ConnAt) {
        for shard in 0..self.node.inboxes.len() {
            let fence = MoveStep::Fence { sid, tell, at };
            self.node.inboxes.push(shard as ShardId, ToShard::Move(fence));
        }
    }

    /// Listens to the rooms of a session that is to come, and keeps what is heard from now on.
    fn begin_taking(&mut self, sid: Address, at: ConnAt, rooms: &[RoomName], from: Option<Abroad>) {
        // An earlier one may not have been heard to be cancelled.
        self.stop_taking(sid);
        let node = self.node.clone();
        let keys: Vec<RoomKey> = rooms
            .iter()
            .map(|name| {
                let key = self.rooms.open(name, || node.cluster.route(name));
                if let Some(room) = self.rooms.get_mut(key) {
                    room.route.add(self.id);
                    room.expected += 1;
                    room.takings.push(sid);
                }
                key
            })
            .collect();
        self.takings.insert(sid, Taking { at, rooms: keys, heard: Vec::new(), is_overflown: false, from });
    }

    /// Giver: hands the session over once the last fence is reached.
    fn fence_reached(&mut self, sid: Address, at: ConnAt) {
        let Some(key) = self.find_session(sid) else { return };
        let session = &mut self.sessions[key as usize];
        if session.local.move_to != Some(at) || !session.local.is_moving {
            // A fence of a move that was given up.
            return;
        }
        session.local.fences -= 1;
        if session.local.fences > 0 {
            return;
        }
        debug_assert!(session.effects == 0 && session.held_post.is_none());
        let Some(frames) = self.leave_polling(key) else {
            self.stop_moving(key);
            return;
        };
        let mut session = self.sessions.remove(key as usize);
        let (rooms, seen) = self.let_go(&mut session, at.place());
        let deferred = std::mem::take(&mut session.local.deferred);
        let moved = Box::new(Moved { at, session: session.portable, frames, rooms, seen });
        self.node.inboxes.push(at.shard, ToShard::Move(MoveStep::Session(moved)));
        for directed in deferred {
            self.node.inboxes.push(at.shard, ToShard::Directed(directed));
        }
    }

    /// Giver: takes a session out of everything here; what is for it is sent on from now on. Gives back its rooms, and what it was
    /// told.
    fn let_go(&mut self, session: &mut Session, to: Place) -> (Vec<(Address, RoomName)>, Seen) {
        let sid = session.sid;
        self.by_sid.remove(&sid);
        self.forwards.insert(sid, to);
        let mut rooms = Vec::new();
        let mut left = Vec::new();
        let mut seen_rooms = Vec::new();
        for slot in 0..session.connection.sockets().len() {
            let Some(joined) = session.connection.socket_mut(slot) else { continue };
            let id = joined.socket.id;
            self.sockets.remove(&id);
            self.forwards.insert(id, to);
            for key in std::mem::take(&mut joined.socket.rooms) {
                let Some(room) = self.rooms.get_mut(key) else { continue };
                room.members.swap_remove(&id);
                rooms.push((id, room.name.clone()));
                let (broadcasts, told) = (room.seen.clone(), room.told);
                seen_rooms.push(SeenRoom { room: room.name.clone(), broadcasts, told, changes: Vec::new() });
                left.push(key);
            }
        }
        self.account(-(std::mem::take(&mut session.local.accounted) as isize));
        let seen = Seen {
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
    fn take_session(&mut self, now: Instant, moved: Moved) {
        let Moved { at, session: portable, frames, rooms, seen } = moved;
        let number = self.next_number();
        let mut session = Session { portable, local: Local { number, ..Local::default() } };
        session.seen = Some(Box::new(Remembered { seen, until: now + LATE }));
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
        self.node.metrics.moves.inc();
        let taking = self.stop_taking(sid);
        self.attach(now, key, at, frames);
        let Some(taking) = taking else { return };
        if taking.is_overflown {
            self.end(now, key, End::Lost(CloseReason::TransportError));
            return;
        }
        for heard in taking.heard {
            self.catch_up(key, number, &rooms, &heard);
        }
    }

    /// Gives a session that has arrived what was heard for it, unless it saw that before it moved.
    fn catch_up(&mut self, key: u32, number: u64, rooms: &[(Address, RoomName)], heard: &Heard) {
        let here = self.node.tag;
        let Some(session) = self.session(key, number) else { return };
        let Some(known) = &mut session.seen else { return };
        match heard {
            Heard::Broadcast(broadcast) => {
                if known.seen.has_seen(broadcast) {
                    return;
                }
                let hearers = hearers(session, rooms, broadcast);
                for _ in 0..hearers {
                    self.send(key, &broadcast.message, broadcast.volatile);
                }
            }
            Heard::Change { room, number, change, message } => {
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
    pub(super) fn keep_for_takings(&mut self, broadcast: &Broadcast) {
        let to = &broadcast.to;
        let name = |room: &Arc<str>| RoomName { namespace: to.namespace.clone(), name: room.clone() };
        let rooms: Vec<RoomKey> = to.rooms.iter().filter_map(|room| self.rooms.find(&name(room))).collect();
        for taking in self.takings.values_mut() {
            if to.rooms.is_empty() || rooms.iter().any(|room| taking.rooms.contains(room)) {
                taking.keep(Heard::Broadcast(broadcast.clone()));
            }
        }
    }

    pub(super) fn keep_change_for_takings(
        &mut self,
        key: RoomKey,
        number: u128,
        change: &Change,
        message: &Message,
    ) {
        let Some(room) = self.rooms.get(key) else { return };
        for sid in &room.takings {
            if let Some(taking) = self.takings.get_mut(sid) {
                let (room, message) = (room.name.clone(), message.clone());
                taking.keep(Heard::Change { room, number, change: change.clone(), message });
            }
        }
    }

    /// Taker: the session is here, or will never be.
    fn stop_taking(&mut self, sid: Address) -> Option<Taking> {
        let taking = self.takings.remove(&sid)?;
        for key in &taking.rooms {
            if let Some(room) = self.rooms.get_mut(*key) {
                room.expected -= 1;
                room.takings.retain(|taking| *taking != sid);
            }
            self.close_room_if_unused(*key);
        }
        debug_assert_eq!(taking.at.shard, self.id);
        Some(taking)
    }

    /// Taker: there is nothing to take any more.
    fn cancel_taking(&mut self, sid: Address, at: ConnAt) {
        if self.takings.get(&sid).is_some_and(|taking| taking.at == at) {
            self.stop_taking(sid);
        }
        self.close_probe(at);
    }

    /// A session or socket that was born elsewhere is over: nobody needs to send on what is for it.
    pub(super) fn forget_at_birthplace(&self, address: Address) {
        let birthplace = Place::birth(address);
        if birthplace != (Place { node: self.node.tag, shard: self.id }) {
            self.node.forget_at(birthplace, address);
        }
    }

    /// Giver: the session will not be handed over. What waited for the end of the move goes on here.
    pub(super) fn stop_moving(&mut self, key: u32) {
        let session = &mut self.sessions[key as usize];
        let sid = session.sid;
        let Some(at) = session.local.move_to.take() else { return };
        session.local.fences = 0;
        if std::mem::take(&mut session.local.is_moving) {
            self.departures.remove(&sid);
            self.node.cancel_move(sid, at);
        }
        for directed in std::mem::take(&mut self.sessions[key as usize].local.deferred) {
            self.node.inboxes.push(self.id, ToShard::Directed(directed));
        }
    }
}

impl Taking {
    fn keep(&mut self, heard: Heard) {
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
