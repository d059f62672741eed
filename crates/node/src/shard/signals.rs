//! Signals: from one socket to one other, wherever that is, with an answer either way.

use std::{sync::Arc, time::Duration, time::Instant};

use signalbox_cluster::{Address, Command, NodeTag};
use signalbox_socketio::Message;

use super::{State, actions::Refused, answers::PendingRequest, timers::Timer};
use crate::{
    mailbox::{ShardMessage, SignalReply, SocketCommand, SocketOp},
    remote::{NodeMessage, RemoteSocketOp},
};

/// How long another node may take to answer for a socket.
const PATIENCE: Duration = Duration::from_secs(2);

/// A signal that is not answered yet.
pub(super) struct Signal {
    /// Whose it is: the session, and the event to be answered.
    pub(super) key: u32,
    pub(super) number: u64,
    pub(super) namespace: Arc<str>,
    pub(super) name: String,
    pub(super) id: Option<u64>,
    pub(super) to: Address,
    pub(super) message: Message,
    /// Where the socket was looked for.
    pub(super) tried: Option<NodeTag>,
    /// The store has said where the socket is.
    pub(super) is_located: bool,
}

impl State {
    /// Sends a signal on its way: to the shard of the socket, or to the node that it was born on.
    pub(super) fn signal(&mut self, now: Instant, mut signal: Signal) -> Result<(), Refused> {
        let to = signal.to;
        let shard = self.node.shard_of(to);
        if shard.is_none() && (to.node() == self.node.tag || !self.node.cluster.is_shared()) {
            return Err(Self::not_found());
        }
        signal.tried = Some(to.node());
        self.request_begins(signal.key, false);
        let ticket = self.next_number();
        let (namespace, message) = (signal.namespace.clone(), signal.message.clone());
        self.waiting.insert(ticket, PendingRequest::Signal(Box::new(signal)));
        let Some(shard) = shard else {
            self.tell_signal(now, to.node(), ticket);
            return Ok(());
        };
        let reply = Some(SignalReply { node: self.node.tag, shard: self.id, ticket });
        let socket_command = SocketCommand { to, namespace, what: SocketOp::Signal { message, reply } };
        if shard == self.id {
            self.socket_command(now, socket_command);
        } else if self.node.inboxes.request(shard, ShardMessage::SocketCommand(socket_command)).is_err() {
            self.signalled(now, ticket, Err(("busy", "the server is overloaded, try again in a moment")));
        }
        Ok(())
    }

    fn tell_signal(&mut self, now: Instant, node: NodeTag, ticket: u64) {
        let Some(PendingRequest::Signal(signal)) = self.waiting.get_mut(&ticket) else { return };
        signal.tried = Some(node);
        let (to, namespace) = (signal.to, signal.namespace.clone());
        let reply = SignalReply { node: self.node.tag, shard: self.id, ticket };
        let what = RemoteSocketOp::Signal { message: signal.message.clone(), reply };
        let payload = NodeMessage::SocketOp { to, namespace, what }.encode();
        self.timers.add(now + PATIENCE, Timer::Signal { ticket });
        let command = Command::SendToNode { shard: self.id, ticket, to: node, payload };
        self.node.clone().cluster.submit(now, command);
    }

    /// A signal was told to a node, or there is no such node.
    pub(super) fn signal_told(&mut self, now: Instant, ticket: u64, is_heard: bool) {
        if !is_heard {
            self.signal_answered(now, ticket, false);
        }
    }

    /// Asks the store where the socket is: it may have moved away from a node that is gone by now.
    fn locate(&mut self, now: Instant, ticket: u64) {
        let Some(PendingRequest::Signal(signal)) = self.waiting.get_mut(&ticket) else { return };
        signal.is_located = true;
        let (namespace, socket) = (signal.namespace.clone(), signal.to);
        let command = Command::LocateSocket { shard: self.id, ticket, namespace, socket };
        self.node.clone().cluster.submit(now, command);
    }

    /// The store has said which node has the socket.
    pub(super) fn located(&mut self, now: Instant, ticket: u64, node: Option<NodeTag>) {
        let Some(PendingRequest::Signal(signal)) = self.waiting.get(&ticket) else { return };
        match node {
            Some(node) if node != self.node.tag && signal.tried != Some(node) => {
                self.tell_signal(now, node, ticket);
            }
            _ => self.signalled(now, ticket, Err(Self::not_found())),
        }
    }

    /// A node has answered for the socket.
    pub(super) fn signal_answered(&mut self, now: Instant, ticket: u64, found: bool) {
        let Some(PendingRequest::Signal(signal)) = self.waiting.get(&ticket) else { return };
        let is_elsewhere = signal.to.node() != self.node.tag;
        if !found && is_elsewhere && !signal.is_located && self.node.cluster.is_shared() {
            self.locate(now, ticket);
            return;
        }
        self.signalled(now, ticket, if found { Ok(()) } else { Err(Self::not_found()) });
    }

    /// Nobody has answered.
    pub(super) fn signal_timed_out(&mut self, now: Instant, ticket: u64) {
        self.signalled(now, ticket, Err(Self::not_found()));
    }

    /// A signal found its socket, or not.
    pub(super) fn signalled(&mut self, now: Instant, ticket: u64, found: Result<(), Refused>) {
        if !matches!(self.waiting.get(&ticket), Some(PendingRequest::Signal(_))) {
            return;
        }
        let Some(PendingRequest::Signal(signal)) = self.waiting.remove(&ticket) else { return };
        let Signal { key, number, namespace, name, id, .. } = *signal;
        if self.session(key, number).is_none() {
            return;
        }
        match (found, id) {
            (Ok(()), Some(id)) => self.answer(key, &namespace, id, "{\"ok\":true}"),
            (Ok(()), None) => {}
            (Err((code, hint)), id) => {
                self.node.metrics.refusals.with_label_values(&[code]).inc();
                let refusal = super::packets::Refusal { namespace: &namespace, event: &name, id };
                let message = refusal.message(code, hint);
                self.send(key, &message, false);
            }
        }
        self.request_done(now, key, false);
    }
}
