//! The giver's side of a move to another node.
//!
//! What nodes say to each other comes over the bus, so the fences go over the bus as well: once the taker hears a session's rooms,
//! it says a fence in each. Behind that the giver has heard everything that was said there before the taker listened. What is said
//! everywhere would cost every node a message for each move; there, the taker tells how far it had heard when it began to keep, and
//! the giver waits until it has heard as much.
//!
//! What the client said before it moves may still be on its way to the bus; it goes first, or what the client says on its new node
//! could overtake it.
//!
//! The session goes over the node link. Until the taker has said that its records are its own, the giver keeps what it needs to say
//! farewell should the taker die: each record is removed only by the node that has it, so that is said once.

use std::time::{Duration, Instant};

use signalbox_cluster::{Address, Command, NodeTag, RoomName, command::Change};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_socketio::Joined;

use super::super::{
    State,
    answers::PendingRequest,
    rooms::RoomKey,
    seen::{VersionVector, digest},
    session::Socket,
    timers::Timer,
};
use crate::{
    mailbox::{Broadcast, CloseCommand, ConnectionRef, ShardMessage, TransferMessage},
    wire::{LinkRequest, LinkResponse, Marker, SavedSession, SessionTransfer},
};

/// How long the other node may take to get ready. Its joins of rooms may have to wait for three seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long what the other node has heard everywhere may be on its way here. What has not come by then was missed here, or said
/// before this node was there.
const LEVEL: Duration = Duration::from_secs(1);
/// How often the shard forgets what it kept for nodes that are gone.
pub(in crate::shard) const SWEEP: Duration = Duration::from_secs(60);

/// A session that is to move to another node.
pub(in crate::shard) struct OutgoingTransfer {
    at: ConnectionRef,
    since: Instant,
    /// Fences that were not heard yet.
    markers: usize,
    /// What is to be heard everywhere before the session may go, once the taker has said so.
    behind: Option<VersionVector>,
    /// It goes as soon as the client's last words are out.
    is_going: bool,
    /// What has changed in which rooms since the move began.
    changes: Vec<(RoomKey, Address, Option<u64>)>,
}

/// A session that was sent to another node, which has not said yet that it has it.
pub(in crate::shard) struct UnconfirmedTransfer {
    at: ConnectionRef,
    memberships: Vec<(RoomName, Address)>,
    sockets: Vec<Joined<Socket>>,
}

impl OutgoingTransfer {
    /// Whether a shard of this node that has `heard` so much everywhere has heard all that the taker does not hear itself.
    fn is_level(&self, now: Instant, here: NodeTag, heard: &VersionVector) -> bool {
        let Some(behind) = self.behind.as_ref().filter(|_| self.markers == 0) else { return false };
        // What began here was heard here before anybody else could hear it.
        let mut elsewhere = behind.iter().filter(|(origin, _)| origin.node != here);
        self.since + LEVEL <= now || elsewhere.all(|(origin, sequence)| heard.has_seen(origin, sequence))
    }
}

impl State {
    /// The move begins: the other node is to listen to the session's rooms.
    pub(super) fn start_transfer(&mut self, now: Instant, key: u32, at: ConnectionRef) {
        let session = &mut self.sessions[key as usize];
        session.local.is_moving = true;
        let sid = session.sid;
        let rooms = session.connection.sockets().iter().flat_map(|joined| joined.socket.rooms.iter());
        let rooms = rooms.filter_map(|room| self.rooms.get(*room));
        let rooms: Vec<_> = rooms.map(|room| (room.name.clone(), room.told)).collect();
        let (markers, changes) = (rooms.len(), Vec::new());
        let departure = OutgoingTransfer { at, since: now, markers, behind: None, is_going: false, changes };
        self.outgoing_transfers.insert(sid, departure);
        self.timers.add(now + LEVEL, Timer::Move { sid });
        self.timers.add(now + PATIENCE, Timer::Move { sid });
        let answer = self.node.ask(at.node, &LinkRequest::Prepare { sid, source: self.id, at, rooms });
        let (node, shard) = (self.node.clone(), self.id);
        tokio::spawn(async move {
            let everywhere = match answer.await {
                Some(LinkResponse::Ready(everywhere)) => Some(everywhere),
                _ => None,
            };
            node.inboxes.push(shard, ShardMessage::Move(TransferMessage::Ready { sid, at, everywhere }));
        });
    }

    /// Whatever the client has said was said to other nodes.
    pub(in crate::shard) fn flushed(&mut self, now: Instant, sid: Address, at: ConnectionRef) {
        if self.outgoing_transfers.get(&sid).is_some_and(|departure| departure.at == at) {
            self.send_session(now, sid);
        }
    }

    /// A room has changed: what a session that is to move is told of it, its new node may tell in another way.
    pub(in crate::shard) fn note_change_for_transfers(&mut self, room: RoomKey, change: &Change) {
        if self.outgoing_transfers.is_empty() {
            return;
        }
        let (about, now) = (change.record().socket, digest(change));
        for departure in self.outgoing_transfers.values_mut() {
            departure.changes.retain(|(of, socket, _)| (*of, *socket) != (room, about));
            departure.changes.push((room, about, now));
        }
    }

    /// The other node is ready, or cannot take the session.
    pub(super) fn taker_ready(
        &mut self,
        now: Instant,
        sid: Address,
        at: ConnectionRef,
        everywhere: Option<VersionVector>,
    ) {
        let Some(departure) = self.outgoing_transfers.get_mut(&sid).filter(|departure| departure.at == at)
        else {
            return;
        };
        match everywhere {
            Some(everywhere) => {
                departure.behind = Some(everywhere);
                self.check_departure(now, sid);
            }
            None => self.cannot_depart(now, sid),
        }
    }

    /// A fence was heard in one of the session's rooms.
    pub(super) fn marker_heard(&mut self, now: Instant, marker: Marker, is_current: bool) {
        let sid = marker.sid;
        let Some(departure) =
            self.outgoing_transfers.get_mut(&sid).filter(|departure| departure.at == marker.at)
        else {
            return;
        };
        departure.markers = departure.markers.saturating_sub(1);
        if is_current {
            self.check_departure(now, sid);
        } else {
            // Changes of the room were missed here, and the taker does not know which of them the client was told.
            self.cannot_depart(now, sid);
        }
    }

    /// The client has left polling for a WebSocket that it cannot have: it has to begin anew.
    fn cannot_depart(&mut self, now: Instant, sid: Address) {
        self.node.metrics.upgrades.with_label_values(&["failed"]).inc();
        match self.find_session(sid) {
            Some(key) => self.end(now, key, CloseCommand::Lost(CloseReason::TransportError)),
            None => drop(self.outgoing_transfers.remove(&sid)),
        }
    }

    /// Something was said everywhere that a session may have waited for.
    pub(in crate::shard) fn check_outgoing_transfers(&mut self, now: Instant, heard: &Broadcast) {
        if self.outgoing_transfers.is_empty() || heard.to.place().is_some() {
            return;
        }
        for sid in self.outgoing_transfers.keys().copied().collect::<Vec<_>>() {
            self.check_departure(now, sid);
        }
    }

    fn check_departure(&mut self, now: Instant, sid: Address) {
        let (here, heard) = (self.node.tag, &self.seen_everywhere);
        if !self.outgoing_transfers.get(&sid).is_some_and(|departure| departure.is_level(now, here, heard)) {
            return;
        }
        let ticket = self.next_number();
        let Some(departure) = self.outgoing_transfers.get_mut(&sid).filter(|departure| !departure.is_going)
        else {
            return;
        };
        // At last whatever the client said; the answer comes between two versions of a room, never within one.
        departure.is_going = true;
        let at = departure.at;
        self.waiting.insert(ticket, PendingRequest::Flush { sid, at });
        self.node.clone().cluster.submit(now, Command::FlushOutgoing { shard: self.id, ticket });
    }

    /// The session goes.
    fn send_session(&mut self, now: Instant, sid: Address) {
        let Some(OutgoingTransfer { at, changes, .. }) = self.outgoing_transfers.remove(&sid) else { return };
        let Some(key) = self.find_session(sid) else { return };
        let Some(frames) = self.leave_polling(key) else {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
            return;
        };
        let Some(saved) = SavedSession::save(now, &self.sessions[key as usize]) else {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportError));
            return;
        };
        let mut session = self.sessions.remove(key as usize);
        self.client_gone();
        self.count_session(Transport::Polling, -1);
        let changes: Vec<_> = changes
            .into_iter()
            .filter_map(|(room, about, now)| Some((self.rooms.get(room)?.name.clone(), about, now)))
            .collect();
        let (rooms, mut seen) = self.detach(&mut session, at.place());
        for seen in &mut seen.rooms {
            let here = changes.iter().filter(|(room, ..)| *room == seen.room);
            seen.changes = here.map(|(_, about, now)| (*about, *now)).collect();
        }
        let memberships: Vec<_> = rooms.iter().map(|(id, room)| (room.clone(), *id)).collect();
        let sockets = session.portable.connection.leave_all();
        let ids: Vec<_> = sockets.iter().map(|joined| (joined.namespace.clone(), joined.socket.id)).collect();
        let belongings = self.node.cluster.session_records(&memberships, &ids);
        self.node.cluster.release_session(&memberships, &ids);
        let frames = frames.iter().map(|frame| frame.bytes().clone()).collect();
        let sent = SessionTransfer { at, session: saved, frames, rooms, seen, belongings };
        let answer = self.node.ask(at.node, &LinkRequest::Take(Box::new(sent)));
        self.given
            .insert(sid, UnconfirmedTransfer { at, memberships, sockets: sockets.into_iter().collect() });
        let (node, shard) = (self.node.clone(), self.id);
        tokio::spawn(async move {
            let is_taken = matches!(answer.await, Some(LinkResponse::Taken));
            node.inboxes.push(shard, ShardMessage::Move(TransferMessage::Confirmed { sid, is_taken }));
        });
    }

    /// The other node has the session, or nobody knows whether it does. What is its own by now is not removed by this node.
    pub(super) fn given(&mut self, now: Instant, sid: Address, is_taken: bool) {
        let Some(UnconfirmedTransfer { at, memberships, sockets }) = self.given.remove(&sid) else { return };
        if is_taken {
            return;
        }
        self.node.cancel_move(sid, at);
        self.moved_out.remove(&sid);
        let reason = CloseReason::TransportError.to_string();
        self.node.metrics.disconnects.with_label_values(&["socketio", &reason]).inc();
        for (room, socket) in memberships {
            self.node.cluster.submit(now, Command::Leave { room, socket });
        }
        for Joined { namespace, socket } in sockets {
            self.moved_out.remove(&socket.id);
            self.disconnected(now, &namespace, &socket, &reason);
        }
    }

    /// A move between nodes takes long, or too long.
    pub(in crate::shard) fn move_timed_out(&mut self, now: Instant, at: Instant, sid: Address) {
        match self.outgoing_transfers.get(&sid).map(|departure| departure.since) {
            Some(since) if since + PATIENCE <= at => self.cannot_depart(now, sid),
            Some(since) if since + LEVEL <= at => self.check_departure(now, sid),
            _ => {}
        }
        self.arrival_timed_out(at, sid);
    }

    /// Forgets what was kept for nodes that are gone.
    pub(in crate::shard) fn sweep(&mut self, now: Instant) {
        self.timers.add(now + SWEEP, Timer::Sweep);
        let (tag, nodes) = (self.node.tag, self.node.cluster.nodes());
        let is_there = |node| node == tag || nodes.contains_key(&node);
        self.moved_out.retain(|_, place| is_there(place.node));
        self.seen_everywhere.retain(is_there);
        for room in self.rooms.iter_mut() {
            room.seen.retain(is_there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Origin;

    #[test]
    fn what_was_missed_everywhere_is_not_waited_for_forever() {
        let (here, there, third) = (NodeTag(1), NodeTag(2), NodeTag(3));
        let lasts = |said: &[(NodeTag, u64)]| {
            let mut lasts = VersionVector::default();
            said.iter().for_each(|(node, sequence)| lasts.saw(Origin { node: *node, shard: 0 }, *sequence));
            lasts
        };
        let since = Instant::now();
        let mut departure = OutgoingTransfer {
            at: ConnectionRef { node: there, shard: 0, key: 0, number: 1 },
            since,
            markers: 0,
            behind: Some(lasts(&[(here, 9), (third, 7)])),
            is_going: false,
            changes: Vec::new(),
        };
        assert!(departure.is_level(since, here, &lasts(&[(third, 7)])));
        assert!(!departure.is_level(since, here, &lasts(&[(third, 6)])));
        // It began after the third node had said anything everywhere.
        assert!(!departure.is_level(since, here, &VersionVector::default()));
        assert!(departure.is_level(since + LEVEL, here, &VersionVector::default()));
        departure.markers = 1;
        assert!(!departure.is_level(since + LEVEL, here, &lasts(&[(third, 7)])));
    }
}
