//! Events that a client is to answer, and whoever waits for its answers: a handler, or an operator. Whoever waits stays where it is when
//! the session moves to another node, which sends the answers after it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use signalbox_cluster::Address;
use signalbox_socketio::Args;

use super::{
    effects::Effect,
    step::Step,
    tables::{AcksElsewhere, Sessions, Timer, acks_elsewhere::AckElsewhere},
    transfer::table::Transfers,
};
use crate::{
    routing::{AckError, Location},
    session::{AckWaiter, PendingAck, Session, Socket},
};

/// How long answers are waited for of a node that is gone: when Redis has lost what it had, all nodes are, and write themselves again.
const GONE_GRACE: Duration = Duration::from_secs(3);

/// The client answers an event of the server.
pub(super) fn acked(
    step: &mut Step,
    session: &mut Session,
    slot: usize,
    id: u64,
    (body, attachments): (&str, &[Bytes]),
) {
    let Some(joined) = session.connection.socket_mut(slot) else { return };
    let socket = joined.socket.id;
    let pending = &mut joined.socket.pending_acks;
    let Some(index) = pending.iter().position(|pending| pending.id == id) else { return };
    let Some(PendingAck { waiter, asked, .. }) = pending.remove(index) else { return };
    let args = Args::from_raw(body, attachments.to_vec()).unwrap_or_default();
    match waiter {
        AckWaiter::Here(reply) => answer(step, AckElsewhere { id, asked, reply }, args),
        AckWaiter::Elsewhere(to) => step.effects.push(Effect::Acked { to, socket, id, args }),
    }
}

/// The client of a socket that has gone to another node has answered. One that nobody waits for any more came too late.
pub(super) fn acked_elsewhere(
    step: &mut Step,
    acks: &mut AcksElsewhere,
    socket: Address,
    id: u64,
    args: Args,
) {
    if let Some(ack) = acks.remove(socket, id) {
        answer(step, ack, args);
    }
}

/// Tells whoever waits. A handler that does not wait any more does not care.
fn answer(step: &mut Step, ack: AckElsewhere, args: Args) {
    let took = step.now.saturating_duration_since(ack.asked);
    step.context.metrics.ack_seconds.observe(&["client"], took.as_secs_f64());
    step.effects.answer(ack.reply, Ok(args));
}

/// A socket goes to another node: whoever waits for its answers here goes on waiting.
pub(super) fn stay_behind(step: &mut Step, acks: &mut AcksElsewhere, socket: &mut Socket) {
    for PendingAck { id, asked, until, waiter } in std::mem::take(&mut socket.pending_acks) {
        let AckWaiter::Here(reply) = waiter else { continue };
        if let Some(at) = until {
            step.timers.add(at, Timer::AckElsewhere { socket: socket.id, id });
        }
        acks.insert(socket.id, AckElsewhere { id, asked, reply });
    }
}

/// An answer has not come in time, of a socket that has gone to another node.
pub(super) fn elsewhere_timed_out(step: &mut Step, acks: &mut AcksElsewhere, socket: Address, id: u64) {
    if let Some(ack) = acks.remove(socket, id) {
        count_lost(step, "timed_out", 1);
        step.effects.answer(ack.reply, Err(AckError::TimedOut));
    }
}

/// A socket that had gone to another node is over: whoever waits is told by the end of the reply.
pub(super) fn socket_is_over(step: &Step, acks: &mut AcksElsewhere, socket: Address) {
    count_lost(step, "disconnected", acks.remove_socket(socket).len());
}

/// A node is gone, perhaps the one that has a socket whose answer somebody here waits for.
pub(super) fn node_is_gone(step: &mut Step, acks: &AcksElsewhere) {
    if !acks.is_empty() {
        step.timers.add(step.now + GONE_GRACE, Timer::AcksOfGone);
    }
}

/// Sockets that had gone to nodes which are gone now are over.
pub(super) fn sweep(step: &mut Step, transfers: &mut Transfers) {
    let Transfers { acks, forwarding, .. } = transfers;
    let (here, nodes) = (step.context.node, step.context.cluster.nodes());
    let is_there = |at: &Location| at.node == here || nodes.contains_key(&at.node);
    let is_over = |socket: &Address| !forwarding.get(socket).is_some_and(is_there);
    for socket in acks.sockets().filter(is_over).collect::<Vec<_>>() {
        socket_is_over(step, acks, socket);
    }
}

/// A socket of this shard is over. What somebody waits for elsewhere is counted there.
pub(super) fn count_unanswered(step: &Step, socket: &Socket) {
    let is_here = |ack: &&PendingAck| matches!(ack.waiter, AckWaiter::Here(_));
    count_lost(step, "disconnected", socket.pending_acks.iter().filter(is_here).count());
}

fn count_lost(step: &Step, reason: &str, count: usize) {
    if count > 0 {
        step.context.metrics.acks_lost.with_label_values(&[reason]).inc_by(count as u64);
    }
}

/// Queues a timer for the acks of a socket that somebody waits for: for one that is waited for until `at`, unless an earlier timer
/// is queued already.
pub(super) fn arm(step: &mut Step, key: u32, session: &mut Session, slot: usize, at: Instant) {
    let number = session.local.number;
    let Some(joined) = session.connection.socket_mut(slot) else { return };
    let socket = &mut joined.socket;
    if socket.acks_timer_at.is_none_or(|queued| at < queued) {
        socket.acks_timer_at = Some(at);
        step.timers.add(at, Timer::Acks { key, number, socket: socket.id });
    }
}

/// Queues a timer for the first of them to be given up.
pub(super) fn arm_first(step: &mut Step, key: u32, session: &mut Session, slot: usize) {
    let Some(joined) = session.connection.socket_mut(slot) else { return };
    joined.socket.acks_timer_at = None;
    if let Some(at) = joined.socket.pending_acks.iter().filter_map(|pending| pending.until).min() {
        arm(step, key, session, slot, at);
    }
}

/// Acks of a socket may not have come in time. Whoever waits elsewhere knows the time itself.
pub(super) fn timed_out(
    step: &mut Step,
    sessions: &mut Sessions,
    due: Instant,
    (key, number): (u32, u64),
    socket: Address,
) {
    let Some(session) = sessions.checked(key, number) else { return };
    let Some(slot) = session.slot_of(socket) else { return };
    let Some(joined) = session.connection.socket_mut(slot) else { return };
    if joined.socket.acks_timer_at != Some(due) {
        return;
    }
    let is_over = |pending: &PendingAck| pending.until.is_some_and(|until| until <= step.now);
    let pending_acks = std::mem::take(&mut joined.socket.pending_acks);
    let (expired, waiting): (VecDeque<_>, VecDeque<_>) = pending_acks.into_iter().partition(is_over);
    joined.socket.pending_acks = waiting;
    for pending in expired {
        if let AckWaiter::Here(reply) = pending.waiter {
            count_lost(step, "timed_out", 1);
            step.effects.answer(reply, Err(AckError::TimedOut));
        }
    }
    arm_first(step, key, session, slot);
}
