//! How a shard takes part in transfers: it does what the state machines of [`transfer`](super::transfer) decide.
//!
//! - `outgoing`: as the source.
//! - `incoming`: as the destination.

pub(super) mod incoming;
pub(super) mod outgoing;

use std::collections::VecDeque;

use signalbox_cluster::{Address, ShardId};
use signalbox_engineio::{CloseReason, Transport};
use signalbox_websocket::Frame;

use super::{
    acks, closing,
    mailbox::{CloseCommand, ShardMessage},
    step::Step,
    tables::{Probes, Rooms, Sequences, Sessions, Timer},
    transfer::{
        message::TransferMessage,
        table::{SWEEP_INTERVAL, Transfers},
    },
};
use crate::{ledger::Charge, routing::ConnectionRef, session::Session, transport::Role};

/// Asks every shard of this node for a marker.
fn request_markers(step: &mut Step, sid: Address, reply_to: ShardId, connection: ConnectionRef) {
    for shard in 0..step.context.shards {
        let request = TransferMessage::RequestMarker { sid, reply_to, connection };
        step.effects.send(shard as ShardId, ShardMessage::Transfer(request));
    }
}

/// Ends polling: a GET that waits is released, and what waited for it is given back.
fn leave_polling(step: &mut Step, session: &mut Session) -> Option<VecDeque<Frame>> {
    let frames = session.engine.complete_upgrade()?;
    if let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.release_poll()) {
        step.effects.answer(poll, Ok(body));
    }
    session.local.probe = None;
    session.update_charge();
    Some(frames)
}

/// The WebSocket becomes the session's transport, and gets what waited for a poll.
fn attach(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    probes: &mut Probes,
    key: u32,
    (connection, frames): (ConnectionRef, VecDeque<Frame>),
) {
    step.context.metrics.upgrades.with_label_values(&["completed"]).inc();
    closing::count_session(&step.context, Transport::Polling, -1);
    closing::count_session(&step.context, Transport::WebSocket, 1);
    let probe = probes.remove(connection);
    let Some(conn) = probe.map(|probe| probe.conn).filter(|conn| conn.is_open()) else {
        let lost = CloseCommand::Lost(CloseReason::TransportClose);
        closing::end(step, sessions, rooms, transfers, key, lost);
        return;
    };
    conn.role.set(Role::Session(key));
    for frame in &frames {
        step.outboxes.push(&conn, frame);
    }
    let session = &mut sessions[key];
    session.local.conn = Some(conn.clone());
    // Its WebSocket has a place of its own.
    session.local.slot = None;
    if session.local.charge.is_none() {
        session.local.charge = conn.account().cloned().map(Charge::new);
        session.update_charge();
    }
    step.tell(session, "upgraded", "websocket");
    if session.engine.is_open() {
        step.outboxes.resume(&conn);
        closing::arm(step, key, session);
    } else {
        // The server had closed the session while the client was still polling.
        let lost = CloseCommand::Lost(CloseReason::ForcedClose);
        closing::end(step, sessions, rooms, transfers, key, lost);
    }
}

/// Forgets what was kept for nodes that are gone.
pub(super) fn sweep(
    step: &mut Step,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    sequences: &mut Sequences,
) {
    step.timers.add(step.now + SWEEP_INTERVAL, Timer::Sweep);
    acks::sweep(step, transfers);
    let (here, nodes) = (step.context.node, step.context.cluster.nodes());
    let is_there = |node| node == here || nodes.contains_key(&node);
    transfers.forwarding.retain(|_, location| is_there(location.node));
    transfers.departed.forget_expired(step.now);
    transfers.orders.forget_expired(step.now);
    sequences.on_all.retain(is_there);
    for room in rooms.iter_mut() {
        room.received.retain(is_there);
    }
}
