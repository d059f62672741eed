//! The transfer of a session to the shard of its WebSocket: another shard of the same node, or of another node.
//!
//! One state machine serves both. The *source* is the shard where the session lives, the *destination* the one where its WebSocket
//! was accepted. A broadcast reaches the source on several ways: from each shard of its node, and from other nodes through the
//! channel of each room and that of all. The destination subscribes to all of them, buffers what comes, and has a *marker* sent down
//! each way. Behind a marker, the source receives nothing that the destination does not receive as well. With all markers in, the
//! source sends the session with the last broadcast of each origin and the last change of each room that it was told; the
//! destination drops from its buffer what was told already and delivers the rest. So nothing is lost, doubled or reordered, and no
//! client notices.
//!
//! | state | side | waits for | goes on to |
//! |---|---|---|---|
//! | *quiescing* | source | the end of the session's requests and its POST | sends `Prepare`: *preparing* |
//! | *subscribing* | destination | its subscriptions; between nodes also a `ShardMarker` of each shard of its node | publishes a `RoomMarker` in each room, sends `Ready`: *buffering* |
//! | *preparing* | source | `Ready`; a marker on each way; between nodes also what the destination had received on the channel of all (1 s at most) | within a node sends `Session`: done; between nodes *flushing* |
//! | *flushing* | source | everything that the client has sent is published | sends `Session`: *unconfirmed* |
//! | *buffering* | destination | `Session` | the session is here; between nodes *adopting* |
//! | *adopting* | destination | its records have this node as their owner | sends `Confirmed`: done |
//! | *unconfirmed* | source | `Confirmed` | keeps a forwarding entry: done |
//!
//! | what fails | what happens |
//! |---|---|
//! | the WebSocket closes before the upgrade packet | the session goes on polling |
//! | the session ends | the source sends `Cancelled`; the destination drops its buffer and closes the WebSocket |
//! | the destination cannot subscribe, a room's changes were missed, or the destination is not ready within 5 s | the source closes the session: its client has left polling for a WebSocket that it cannot have, and connects again |
//! | the destination's node dies before `Confirmed` | the source removes the records that are still its own, so the others are told once |
//! | the source's node dies | the destination drops its buffer and closes the WebSocket; survivors reap the records |
//!
//! - [`message`]: what the two ends send each other.
//! - [`source`], [`destination`]: the two sides, without I/O.
//! - [`table`]: the transfers of a shard.
//! - `outgoing`, `incoming`: how a shard takes part on either side.

mod destination;
mod incoming;
pub(crate) mod message;
mod outgoing;
mod source;
pub(in crate::shard) mod table;

use std::{collections::VecDeque, time::Duration, time::Instant};

use signalbox_cluster::{Address, ShardId};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_websocket::Frame;

use self::{
    message::MovingSession, message::TransferMessage, source::CATCH_UP_TIMEOUT, source::PREPARE_TIMEOUT,
};
use super::{Shard, effects::Effect, mailbox::CloseCommand, mailbox::ShardMessage, tables::Timer};
use crate::{
    protocol::Marker,
    routing::{Broadcast, ConnectionRef, Location},
    transport::Role,
};

/// How often the shard forgets what it kept for nodes that are gone.
pub(in crate::shard) const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Where a session moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// To another shard of its node: what both ends send each other stays in this process.
    SameNode,
    OtherNode,
}

impl Path {
    fn between(one: Location, other: Location) -> Self {
        if one.node == other.node { Self::SameNode } else { Self::OtherNode }
    }
}

impl Shard {
    /// A step of a session's transfer.
    pub(super) fn transfer_message(&mut self, now: Instant, message: TransferMessage) {
        match message {
            TransferMessage::Prepare { sid, source, connection, rooms } => {
                self.prepare_incoming(now, sid, source, connection, rooms);
            }
            TransferMessage::RequestMarker { sid, reply_to, connection } => {
                let marker = TransferMessage::ShardMarker { sid, connection };
                self.effects.send(reply_to, ShardMessage::Transfer(marker));
            }
            TransferMessage::ShardMarker { sid, connection } => self.shard_marker(now, sid, connection),
            TransferMessage::RoomMarker { marker: Marker { sid, connection, .. }, is_current } => {
                self.source_marker(now, sid, connection, is_current);
            }
            TransferMessage::Ready { sid, connection, received_on_all } => {
                self.destination_ready(now, sid, connection, received_on_all);
            }
            TransferMessage::Refused { sid, connection } => self.transfer_refused(now, sid, connection),
            TransferMessage::Session { source, connection, session } => match *session {
                MovingSession::Whole(session) => self.take_session(now, connection, session),
                MovingSession::Saved(saved) => self.adopt_session(now, source, saved),
            },
            TransferMessage::Confirmed { sid, connection, is_taken } => {
                self.transfer_confirmed(sid, connection, is_taken);
            }
            TransferMessage::Cancelled { sid, connection } => self.cancel_incoming(sid, connection),
        }
    }

    /// A shard of this node says that the destination receives what it sends: to the destination itself when the session comes from
    /// another node, else to the source.
    fn shard_marker(&mut self, now: Instant, sid: Address, connection: ConnectionRef) {
        let incoming = self.transfers.incoming_to(sid, connection);
        match incoming.filter(|transfer| transfer.path == Path::OtherNode) {
            Some(transfer) => {
                transfer.marker();
                self.announce_if_ready(sid);
            }
            None => self.source_marker(now, sid, connection, true),
        }
    }

    /// A transfer between nodes takes long, or too long.
    pub(super) fn transfer_timer(&mut self, now: Instant, due: Instant, sid: Address) {
        match self.transfers.outgoing.get(&sid).map(|transfer| transfer.started) {
            Some(started) if started + PREPARE_TIMEOUT <= due => self.give_up_transfer(now, sid),
            Some(started) if started + CATCH_UP_TIMEOUT <= due => self.continue_outgoing(now, sid),
            _ => {}
        }
        self.arrival_timed_out(due, sid);
    }

    /// A broadcast has come that a session may have waited for.
    pub(super) fn continue_transfers_after(&mut self, now: Instant, broadcast: &Broadcast) {
        if self.transfers.outgoing.is_empty() || broadcast.to.channel().is_some() {
            return;
        }
        for sid in self.transfers.outgoing.keys().copied().collect::<Vec<_>>() {
            self.continue_outgoing(now, sid);
        }
    }

    /// Sends a step to the shard at the other end.
    fn send_transfer(&mut self, to: Location, message: TransferMessage) {
        self.effects.push(Effect::Transfer { to, message });
    }

    /// Asks every shard of this node for a marker.
    fn request_markers(&mut self, sid: Address, reply_to: ShardId, connection: ConnectionRef) {
        for shard in 0..self.context.shards {
            let request = TransferMessage::RequestMarker { sid, reply_to, connection };
            self.effects.send(shard as ShardId, ShardMessage::Transfer(request));
        }
    }

    /// Ends polling: a GET that waits is released, and what waited for it is given back.
    fn leave_polling(&mut self, key: u32) -> Option<VecDeque<Frame>> {
        let session = &mut self.sessions[key];
        let frames = session.engine.complete_upgrade()?;
        if let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.release_poll()) {
            self.effects.answer(poll, Ok(body));
        }
        session.local.probe = None;
        self.account_session(key);
        Some(frames)
    }

    /// The WebSocket becomes the session's transport.
    fn attach(&mut self, now: Instant, key: u32, connection: ConnectionRef, frames: VecDeque<Frame>) {
        self.context.metrics.upgrades.with_label_values(&["completed"]).inc();
        self.count_session(Transport::Polling, -1);
        self.count_session(Transport::WebSocket, 1);
        let probe = self.probes.remove(connection);
        let Some(conn) = probe.map(|probe| probe.conn).filter(|conn| conn.is_open()) else {
            self.end(now, key, CloseCommand::Lost(CloseReason::TransportClose));
            return;
        };
        conn.role.set(Role::Session(key));
        for frame in &frames {
            self.outboxes.push(&conn, frame);
        }
        let session = &mut self.sessions[key];
        session.local.conn = Some(conn.clone());
        if session.engine.is_open() {
            conn.resume();
            self.arm(key);
        } else {
            // The server had closed the session while the client was still polling.
            self.end(now, key, CloseCommand::Lost(CloseReason::ForcedClose));
        }
    }

    /// A session or socket that was born elsewhere is over: nobody needs to forward to it.
    pub(super) fn forget_at_birthplace(&mut self, address: Address) {
        let birth = Location::birth(address);
        if birth != self.context.location() {
            self.effects.push(Effect::Forget { birth, address });
        }
    }

    /// Forgets what was kept for nodes that are gone.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.timers.add(now + SWEEP_INTERVAL, Timer::Sweep);
        let (here, nodes) = (self.context.node, self.context.cluster.nodes());
        let is_there = |node| node == here || nodes.contains_key(&node);
        self.forwarding.retain(|_, location| is_there(location.node));
        self.received_on_all.retain(is_there);
        for room in self.rooms.iter_mut() {
            room.received.retain(is_there);
        }
    }
}
