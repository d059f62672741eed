//! The taker's side of a move from another node. See `away`.

use std::time::{Duration, Instant};

use signalbox_cluster::{Address, Command, NodeTag, RoomName, Scope};
use signalbox_engineio::Transport;
use tokio::sync::oneshot;

use super::super::{State, answers::PendingRequest, seen::VersionVector, timers::Timer};
use super::{IncomingTransfer, away::PATIENCE};
use crate::{
    mailbox::{ConnectionRef, Location, TransferredSession},
    wire::{BusMessage, Marker, SessionTransfer},
};

/// How long the session may take to come: longer than the giver waits, so that it is there that a late move is given up.
const WAIT: Duration = PATIENCE.saturating_mul(2);

/// What is peculiar to a session from another node.
pub(super) struct RemoteSource {
    source: Location,
    since: Instant,
    /// Shards of this node that may not know yet that this one listens.
    markers: usize,
    is_listening: bool,
    /// What was heard everywhere before anything was kept.
    everywhere: VersionVector,
    /// Tells the giver; dropped when that cannot be.
    answer: Option<oneshot::Sender<VersionVector>>,
}

impl State {
    /// A session is to come from another node.
    pub(super) fn expect(
        &mut self,
        now: Instant,
        (sid, source, at): (Address, Location, ConnectionRef),
        rooms: &[(RoomName, u128)],
        answer: oneshot::Sender<VersionVector>,
    ) {
        if self.probe(at).is_none() || self.node.is_leaving() {
            return;
        }
        let from = RemoteSource {
            source,
            since: now,
            markers: self.node.inboxes.len(),
            is_listening: false,
            everywhere: self.seen_everywhere.clone(),
            answer: Some(answer),
        };
        let names: Vec<RoomName> = rooms.iter().map(|(room, _)| room.clone()).collect();
        self.begin_incoming(sid, at, &names, Some(from));
        self.timers.add(now + WAIT, Timer::Move { sid });
        self.request_markers(sid, self.id, at);
        let ticket = self.next_number();
        self.waiting.insert(ticket, PendingRequest::Listen { sid, at });
        let command = Command::SubscribeRooms { shard: self.id, ticket, rooms: rooms.to_vec() };
        self.node.clone().cluster.submit(now, command);
    }

    /// Whether a session is on its way here from another node.
    pub(super) fn is_expected(&self, sid: Address, at: ConnectionRef) -> bool {
        self.incoming_transfers.get(&sid).is_some_and(|taking| taking.at == at && taking.from.is_some())
    }

    /// A shard of this node knows now that this one listens.
    pub(super) fn marker_passed(&mut self, sid: Address) {
        if let Some(from) = self.incoming_transfers.get_mut(&sid).and_then(|taking| taking.from.as_mut()) {
            from.markers = from.markers.saturating_sub(1);
            self.say_fences_if_ready(sid);
        }
    }

    /// The rooms are heard, or cannot be.
    pub(in crate::shard) fn listening(&mut self, sid: Address, at: ConnectionRef, is_live: bool) {
        let Some(taking) = self.incoming_transfers.get_mut(&sid).filter(|taking| taking.at == at) else {
            return;
        };
        let Some(from) = taking.from.as_mut() else { return };
        if is_live {
            from.is_listening = true;
            self.say_fences_if_ready(sid);
        } else {
            // Dropping the answer tells the giver.
            self.cancel_incoming(sid, at);
        }
    }

    /// Once everything that is said from now on is heard, the fences are said, behind whatever this node's shards have said.
    fn say_fences_if_ready(&mut self, sid: Address) {
        let Some(taking) = self.incoming_transfers.get_mut(&sid) else { return };
        let Some(from) = taking.from.as_mut().filter(|from| from.is_listening && from.markers == 0) else {
            return;
        };
        let Some(answer) = from.answer.take() else { return };
        let said = BusMessage::Marker(Marker { sid, source: from.source, at: taking.at }).encode();
        let _ = answer.send(std::mem::take(&mut from.everywhere));
        for room in taking.rooms.iter().filter_map(|room| self.rooms.get(*room)) {
            self.node.cluster.broadcast(Instant::now(), Scope::Room(&room.name), said.clone());
        }
    }

    /// The session has come. Its records are this node's from now on; the giver is told when the store knows.
    pub(super) fn arrived(&mut self, now: Instant, sent: SessionTransfer, answer: oneshot::Sender<()>) {
        let (sid, at) = (sent.session.sid, sent.at);
        let is_expected = self.is_expected(sid, at) && self.probe(at).is_some();
        let session = sent.session.restore(now, &self.node.app).filter(|_| is_expected);
        let frames = sent.frames.into_iter().map(signalbox_websocket::Frame::from_bytes).collect();
        let (Some(session), Some(frames)) = (session, frames) else {
            self.cancel_incoming(sid, at);
            return;
        };
        let ticket = self.next_number();
        self.waiting.insert(ticket, PendingRequest::Adopt { answer });
        let adopt = Command::AdoptSession {
            shard: self.id,
            ticket,
            from: sent.seen.node,
            memberships: sent.belongings.memberships,
            sockets: sent.belongings.sockets,
        };
        self.node.clone().cluster.submit(now, adopt);
        self.count_session(Transport::Polling, 1);
        self.take_session(
            now,
            TransferredSession { at, session, frames, rooms: sent.rooms, seen: sent.seen },
        );
    }

    /// The node they were to come from has died.
    pub(in crate::shard) fn cancel_takings_from(&mut self, lost: NodeTag) {
        let from =
            |taking: &IncomingTransfer| taking.from.as_ref().is_some_and(|from| from.source.node == lost);
        let incoming_transfers = self.incoming_transfers.iter().filter(|(_, taking)| from(taking));
        for (sid, at) in incoming_transfers.map(|(sid, taking)| (*sid, taking.at)).collect::<Vec<_>>() {
            self.cancel_incoming(sid, at);
        }
    }

    pub(super) fn arrival_timed_out(&mut self, due: Instant, sid: Address) {
        let Some(taking) = self.incoming_transfers.get(&sid) else { return };
        if taking.from.as_ref().is_some_and(|from| from.since + WAIT <= due) {
            self.cancel_incoming(sid, taking.at);
        }
    }
}
