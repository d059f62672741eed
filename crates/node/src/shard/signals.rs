//! Signals: from one socket to one other, wherever that is, with an answer either way.

use std::time::{Duration, Instant};

use signalbox_cluster::{Command, NodeTag};

use super::{
    Shard,
    actions::Refused,
    effects::Effect,
    socketio::Refusal,
    tables::{PendingRequest, Timer, pending::Signal},
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

impl Shard {
    /// Sends a signal on its way: to the shard of the socket, or to the node that it was born on.
    pub(super) fn signal(&mut self, now: Instant, mut signal: Signal) -> Result<(), Refused> {
        let to = signal.to;
        // Wherever it waits, it is its sender that it is charged to.
        let sender = self.sessions.get_mut(signal.key).and_then(|session| session.account());
        signal.message = self.outboxes.share(sender, signal.message);
        let shard = self.context.addresses.shard_of(to);
        if shard.is_none() && (to.node() == self.context.node || !self.context.cluster.is_shared()) {
            return Err(Self::not_found());
        }
        signal.tried = Some(to.node());
        if let Some(session) = self.sessions.get_mut(signal.key) {
            session.local.signals += 1;
            signal.is_blocking = session.local.signals >= MAX_UNANSWERED;
        }
        self.request_begins(signal.key, signal.is_blocking);
        let ticket = self.next_number();
        let (namespace, message) = (signal.namespace.clone(), signal.message.clone());
        self.pending.insert(ticket, PendingRequest::Signal(Box::new(signal)));
        let Some(shard) = shard else {
            self.tell_signal(now, to.node(), ticket);
            return Ok(());
        };
        let reply = Some(SignalReply { node: self.context.node, shard: self.context.id, ticket });
        let command = SocketCommand { to, namespace, op: SocketOp::Signal { message, reply } };
        if shard == self.context.id {
            self.socket_command(now, command);
        } else {
            self.effects.push(Effect::Signal { shard, ticket, command });
        }
        Ok(())
    }

    fn tell_signal(&mut self, now: Instant, node: NodeTag, ticket: u64) {
        let Some(signal) = self.pending.signal_mut(ticket) else { return };
        signal.tried = Some(node);
        let (to, namespace) = (signal.to, signal.namespace.clone());
        let reply = SignalReply { node: self.context.node, shard: self.context.id, ticket };
        let what = RemoteSocketOp::Signal { message: signal.message.clone(), reply };
        let format = self.context.cluster.write_format();
        let payload = NodeMessage::SocketOp { to, namespace, what }.encode(format);
        self.timers.add(now + SIGNAL_TIMEOUT, Timer::Signal { ticket });
        let command = Command::SendToNode { shard: self.context.id, ticket, to: node, payload };
        self.effects.submit(command);
    }

    /// A signal was told to a node, or there is no such node.
    pub(super) fn signal_told(&mut self, now: Instant, ticket: u64, is_heard: bool) {
        if !is_heard {
            self.signal_answered(now, ticket, false);
        }
    }

    /// Asks the store where the socket is: it may have moved away from a node that is gone by now.
    fn locate(&mut self, ticket: u64) {
        let Some(signal) = self.pending.signal_mut(ticket) else { return };
        signal.is_located = true;
        let (namespace, socket) = (signal.namespace.clone(), signal.to);
        let command = Command::LocateSocket { shard: self.context.id, ticket, namespace, socket };
        self.effects.submit(command);
    }

    /// The store has said which node has the socket.
    pub(super) fn located(&mut self, now: Instant, ticket: u64, node: Option<NodeTag>) {
        let Some(signal) = self.pending.signal_mut(ticket) else { return };
        match node {
            Some(node) if node != self.context.node && signal.tried != Some(node) => {
                self.tell_signal(now, node, ticket);
            }
            _ => self.signalled(now, ticket, Err(Self::not_found())),
        }
    }

    /// A node has answered for the socket.
    pub(super) fn signal_answered(&mut self, now: Instant, ticket: u64, found: bool) {
        let Some(signal) = self.pending.signal_mut(ticket) else { return };
        let is_elsewhere = signal.to.node() != self.context.node;
        if !found && is_elsewhere && !signal.is_located && self.context.cluster.is_shared() {
            self.locate(ticket);
            return;
        }
        self.signalled(now, ticket, if found { Ok(()) } else { Err(Self::not_found()) });
    }

    /// The shard of the socket is too far behind to take the signal.
    pub(super) fn signal_refused(&mut self, now: Instant, ticket: u64) {
        self.signalled(now, ticket, Err(BUSY));
    }

    /// Nobody has answered.
    pub(super) fn signal_timed_out(&mut self, now: Instant, ticket: u64) {
        self.signalled(now, ticket, Err(Self::not_found()));
    }

    /// A signal found its socket, or not.
    pub(super) fn signalled(&mut self, now: Instant, ticket: u64, found: Result<(), Refused>) {
        if self.pending.signal_mut(ticket).is_none() {
            return;
        }
        let Some(PendingRequest::Signal(signal)) = self.pending.remove(ticket) else { return };
        let Signal { key, number, namespace, name, id, is_blocking, .. } = *signal;
        let Some(session) = self.sessions.checked(key, number) else { return };
        session.local.signals = session.local.signals.saturating_sub(1);
        match (found, id) {
            (Ok(()), Some(id)) => self.answer(key, &namespace, id, "{\"ok\":true}"),
            (Ok(()), None) => {}
            (Err((code, hint)), id) => {
                self.context.metrics.refusals.with_label_values(&[code]).inc();
                let refusal = Refusal { namespace: &namespace, event: &name, id };
                let message = refusal.message(code, hint);
                self.send(key, &message, false);
            }
        }
        self.request_done(now, key, is_blocking);
    }
}
