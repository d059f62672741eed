//! Acks of messages that go to other nodes too. Such an ack says that the members there are told: it waits until the store has taken what
//! was published, and becomes `degraded` where the store has not. The members of this node have the message all the same.

use std::sync::Arc;

use signalbox_cluster::{Address, Command, Status};
use signalbox_socketio::Message;

use super::{
    step::Step,
    tables::{PendingRequest, PendingRequests, Sessions, pending::PublishAck},
};
use crate::ledger::OVERHEAD;

/// Acks of one client that may wait. When there are so many, what the client sends next waits.
const MAX_WAITING: u32 = 64;
/// So does it behind an ack of more bytes than this, which a rule has made of what the client sent.
const LARGE: usize = 1024;
/// What a client is told whose message may not have reached other nodes.
const DEGRADED: &str = "{\"ok\":false,\"error\":\"degraded\"}";

/// Sends the ack of an event whose broadcasts were begun just now, as soon as it is known what has become of them. Without other nodes,
/// and where they cannot be told anyway, that is at once.
pub(super) fn acknowledge(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    socket: Address,
    (namespace, id): (&Arc<str>, u64),
    ack: Message,
) {
    let cluster = &step.context.cluster;
    if !cluster.is_shared() {
        step.send(sessions, key, &ack);
        return;
    }
    if cluster.status() != Status::Online {
        step.send(sessions, key, &degraded(namespace, id));
        return;
    }
    let session = &mut sessions[key];
    let is_blocking = session.in_flight >= MAX_WAITING || ack.len() > LARGE;
    session.begin_request(is_blocking);
    session.local.held += ack.len() + OVERHEAD;
    session.update_charge();
    let (namespace, number) = (namespace.clone(), session.local.number);
    step.publish_acks.push(PublishAck { key, number, socket, is_blocking, namespace, id, ack });
}

/// The shard comes to rest: asks once for all acks of this step.
pub(super) fn wait(step: &mut Step, pending: &mut PendingRequests) {
    if step.publish_acks.is_empty() {
        return;
    }
    let acks = std::mem::take(&mut step.publish_acks);
    let ticket = step.next_number();
    // What the step has published is on its way only afterwards.
    let failures = step.context.cluster.publish_failures();
    pending.insert(ticket, PendingRequest::PublishAcks { acks, failures });
    step.effects.submit(Command::FlushOutgoing { shard: step.context.id, ticket, with_users: false });
}

/// The store has taken what was published before, or has failed to. That something has failed meanwhile is true for all who wait.
pub(super) fn published(step: &mut Step, sessions: &mut Sessions, acks: &[PublishAck], failures: u64) {
    let cluster = &step.context.cluster;
    let is_told = cluster.publish_failures() == failures && cluster.status() == Status::Online;
    for PublishAck { key, number, socket, namespace, id, ack, .. } in acks {
        // Another socket of the session would take it for the ack of an event of its own.
        if sessions.checked(*key, *number).is_none_or(|session| session.slot_of(*socket).is_none()) {
            continue;
        }
        match is_told {
            true => step.send(sessions, *key, ack),
            false => step.send(sessions, *key, &degraded(namespace, *id)),
        }
    }
}

fn degraded(namespace: &str, id: u64) -> Message {
    Message::ack(namespace, id, &[DEGRADED], &[])
}
