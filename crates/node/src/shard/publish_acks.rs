//! Acks of messages that go to other nodes too. Such an ack says that the members there are told: it waits until the store has taken what
//! was published, and becomes `degraded` where the store has not. The members of this node have the message all the same.

use std::sync::Arc;

use signalbox_cluster::Command;
use signalbox_socketio::Message;

use super::{
    step::Step,
    tables::{PendingRequest, PendingRequests, Sessions, pending::PublishAck},
};

/// Acks of one client that may wait. When there are so many, what the client sends next waits.
const MAX_WAITING: u32 = 64;
/// What a client is told whose message may not have reached other nodes.
const DEGRADED: &str = "{\"ok\":false,\"error\":\"degraded\"}";

/// Sends the ack of an event whose broadcasts were begun just now, as soon as it is known what has become of them. Without other nodes,
/// and where they cannot be told anyway, that is at once.
pub(super) fn acknowledge(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    (namespace, id): (&Arc<str>, u64),
    ack: Message,
) {
    let cluster = &step.context.cluster;
    if !cluster.is_shared() {
        step.send(sessions, key, &ack);
        return;
    }
    if !cluster.can_publish() {
        step.send(sessions, key, &degraded(namespace, id));
        return;
    }
    let session = &mut sessions[key];
    let is_blocking = session.in_flight >= MAX_WAITING;
    session.begin_request(is_blocking);
    let (namespace, number) = (namespace.clone(), session.local.number);
    step.publish_acks.push(PublishAck { key, number, is_blocking, namespace, id, ack });
}

/// The shard comes to rest: asks once for all acks of this step.
pub(super) fn wait(step: &mut Step, pending: &mut PendingRequests) {
    if step.publish_acks.is_empty() {
        return;
    }
    let acks = std::mem::take(&mut step.publish_acks);
    let ticket = step.next_number();
    pending.insert(ticket, PendingRequest::PublishAcks(acks));
    step.effects.submit(Command::FlushOutgoing { shard: step.context.id, ticket });
}

/// The store has taken what was published before, or has failed to. A failure is remembered for a moment, whosever message it was.
pub(super) fn published(step: &mut Step, sessions: &mut Sessions, acks: &[PublishAck]) {
    let is_told = step.context.cluster.can_publish();
    for PublishAck { key, number, namespace, id, ack, .. } in acks {
        if sessions.checked(*key, *number).is_none() {
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
