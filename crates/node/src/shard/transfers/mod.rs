//! How a shard takes part in transfers: it does what the state machines of [`transfer`](super::transfer) decide.
//!
//! - `outgoing`: as the source.
//! - `incoming`: as the destination.

mod incoming;
mod outgoing;

use std::{collections::VecDeque, time::Instant};

use signalbox_cluster::{Address, ShardId};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_websocket::Frame;

use super::{
    Shard,
    effects::Effect,
    mailbox::{CloseCommand, ShardMessage},
    tables::Timer,
    transfer::{
        message::{MovingSession, TransferMessage},
        path::Path,
        source::{CATCH_UP_TIMEOUT, PREPARE_TIMEOUT},
        table::SWEEP_INTERVAL,
    },
};
use crate::{
    ledger::Charge,
    protocol::Marker,
    routing::{Broadcast, ConnectionRef, Location},
    transport::Role,
};

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
                match connection.location() == self.context.location() {
                    true => self.marker_of_source(now, sid, connection),
                    false => self.source_marker(now, sid, connection, is_current),
                }
            }
            TransferMessage::Ready { sid, connection, received_on_all } => {
                self.destination_ready(now, sid, connection, received_on_all);
            }
            TransferMessage::Refused { sid, connection } => self.transfer_refused(now, sid, connection),
            TransferMessage::Session { source, connection, session } => match *session {
                MovingSession::Whole(session) => self.take_session(now, connection, session),
                MovingSession::Saved(saved) => self.adopt_session(now, source, saved),
            },
            TransferMessage::Confirmed { sid, connection, confirmation } => {
                self.transfer_confirmed(sid, connection, confirmation);
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
        self.catching_up_timed_out(now, due, sid);
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
        if session.local.charge.is_none() {
            session.local.charge = conn.account().cloned().map(Charge::new);
            session.settle();
        }
        if session.engine.is_open() {
            conn.resume();
            self.arm(now, key);
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
