//! Signals: from one socket to one other, wherever that is, with an answer either way.

use std::time::Duration;

use signalbox_cluster::{Command, MessageTrace, NodeTag};
use signalbox_telemetry::traces::Outcome;

use super::{
    effects::Effect,
    replies::{self, NOT_FOUND, Refusal, Refused},
    step::Step,
    tables::{
        PendingRequest, PendingRequests, Sessions, Timer,
        pending::{RuleRun, Signal},
    },
};
use crate::{
    protocol::{NodeMessage, RemoteSocketOp},
    routing::{SignalReply, SocketCommand, SocketOp},
};

/// How long another node may take to answer for a socket.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Signals of one client that may be unanswered. When there are so many, what the client sends next waits, since each is held for it
/// until its answer comes, and a socket that does not exist answers late.
const MAX_UNANSWERED: u32 = 64;

/// The shard of the addressed socket is too far behind.
const BUSY: Refused = ("busy", "the server is overloaded, try again in a moment");

/// Whose signal was answered: the session, whether its frames waited for that, and the rule that goes on.
pub(super) type Answered = Option<(u32, bool, Option<Box<RuleRun>>)>;

/// Sends a signal on its way: to the shard of the socket, or to the node that it was born on. Gives back what is for a socket of this
/// shard.
pub(super) fn begin(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    mut signal: Signal,
) -> Result<Option<SocketCommand>, Refused> {
    let to = signal.to;
    // Wherever it waits, it is its sender that it is charged to.
    let session = sessions.get_mut(signal.key);
    let sender = session.as_ref().and_then(|session| session.account());
    signal.message = step.outboxes.share(sender, signal.message);
    let shard = step.context.addresses.shard_of(to);
    if shard.is_none() && (to.node() == step.context.node || !step.context.cluster.is_shared()) {
        if let Some(span) = signal.span {
            span.end(Outcome::Failed(NOT_FOUND.0));
        }
        return Err(NOT_FOUND);
    }
    signal.tried = Some(to.node());
    if let Some(session) = session {
        session.local.signals += 1;
        // A rule holds its whole event meanwhile, so there is one at a time.
        signal.is_blocking = session.local.signals >= MAX_UNANSWERED || signal.rule.is_some();
        session.begin_request(signal.is_blocking);
    }
    let ticket = step.next_number();
    let (namespace, message) = (signal.namespace.clone(), signal.message.clone());
    let trace = trace_of(&signal);
    pending.insert(ticket, PendingRequest::Signal(Box::new(signal)));
    let Some(shard) = shard else {
        send_to_node(step, pending, to.node(), ticket);
        return Ok(None);
    };
    let reply = Some(SignalReply { node: step.context.node, shard: step.context.id, ticket });
    let command = SocketCommand { to, namespace, op: SocketOp::Signal { message, reply, trace } };
    if shard == step.context.id {
        return Ok(Some(command));
    }
    step.effects.push(Effect::Signal { shard, ticket, command });
    Ok(None)
}

/// What its receiver's span follows.
fn trace_of(signal: &Signal) -> Option<MessageTrace> {
    let parent = signal.span.as_ref()?.traceparent();
    Some(MessageTrace { parent, sent: signal.asked })
}

fn send_to_node(step: &mut Step, pending: &mut PendingRequests, node: NodeTag, ticket: u64) {
    let Some(signal) = pending.signal_mut(ticket) else { return };
    signal.tried = Some(node);
    let (to, namespace) = (signal.to, signal.namespace.clone());
    let reply = SignalReply { node: step.context.node, shard: step.context.id, ticket };
    let trace = trace_of(signal);
    let what = RemoteSocketOp::Signal { message: signal.message.clone(), reply, trace };
    let format = step.context.cluster.write_format();
    let payload = NodeMessage::SocketOp { to, namespace, what }.encode(format);
    step.timers.add(step.now + SIGNAL_TIMEOUT, Timer::Signal { ticket });
    step.effects.submit(Command::SendToNode { shard: step.context.id, ticket, to: node, payload });
}

/// Asks the store where the socket is: it may have moved away from a node that is gone by now.
fn locate(step: &mut Step, pending: &mut PendingRequests, ticket: u64) {
    let Some(signal) = pending.signal_mut(ticket) else { return };
    signal.is_located = true;
    let (namespace, socket) = (signal.namespace.clone(), signal.to);
    step.effects.submit(Command::LocateSocket { shard: step.context.id, ticket, namespace, socket });
}

/// The store has said which node has the socket. Gives back whose signal this has answered, as do the others here.
pub(super) fn located(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    ticket: u64,
    node: Option<NodeTag>,
) -> Answered {
    let signal = pending.signal_mut(ticket)?;
    match node {
        Some(node) if node != step.context.node && signal.tried != Some(node) => {
            send_to_node(step, pending, node, ticket);
            None
        }
        _ => end(step, sessions, pending, ticket, Err(NOT_FOUND)),
    }
}

/// A node has answered for the socket, or there is no such node.
pub(super) fn answered(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    ticket: u64,
    found: bool,
) -> Answered {
    let signal = pending.signal_mut(ticket)?;
    let is_elsewhere = signal.to.node() != step.context.node;
    if !found && is_elsewhere && !signal.is_located && step.context.cluster.is_shared() {
        locate(step, pending, ticket);
        return None;
    }
    end(step, sessions, pending, ticket, if found { Ok(()) } else { Err(NOT_FOUND) })
}

/// The shard of the socket is too far behind to take the signal.
pub(super) fn refused(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    ticket: u64,
) -> Answered {
    end(step, sessions, pending, ticket, Err(BUSY))
}

/// Nobody has answered.
pub(super) fn timed_out(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    ticket: u64,
) -> Answered {
    end(step, sessions, pending, ticket, Err(NOT_FOUND))
}

/// A signal found its socket, or not.
fn end(
    step: &mut Step,
    sessions: &mut Sessions,
    pending: &mut PendingRequests,
    ticket: u64,
    found: Result<(), Refused>,
) -> Answered {
    let Signal { key, number, namespace, name, id, is_blocking, rule, span, asked, .. } =
        pending.remove_signal(ticket)?;
    let took = step.now.saturating_duration_since(asked);
    step.context.metrics.ack_seconds.observe(&["signal"], took.as_secs_f64());
    if let Some(span) = span {
        span.end(found.map_or_else(|(code, _)| Outcome::Failed(code), |()| Outcome::Ok));
    }
    let session = sessions.checked(key, number)?;
    session.local.signals = session.local.signals.saturating_sub(1);
    match (found, id) {
        (Ok(()), _) if rule.is_some() => return Some((key, is_blocking, rule)),
        (Ok(()), Some(id)) => replies::answer(step, sessions, key, (&namespace, id), replies::OK),
        (Ok(()), None) => {}
        (Err(refused), id) => match &rule {
            Some(rule) => replies::refuse_rule(step, sessions, rule, refused),
            None => {
                let refusal = Refusal { namespace: &namespace, event: &name, id };
                replies::refuse(step, sessions, key, &refusal, refused);
            }
        },
    }
    Some((key, is_blocking, None))
}
