//! How handlers reach sockets, wherever these are.

use signalbox_cluster::{Address, NodeTag, envelope::Format};
use signalbox_socketio::Message;

use super::Peering;
use crate::{
    app::SocketRouter,
    protocol::{LinkNotice, NodeMessage, RemoteSocketOp},
    routing::{Audience, SignalReply, SocketCommand, SocketOp},
    shard::{mailbox::ShardMessage, runtime::ShardRuntime, tasks::TaskResult},
};

impl SocketRouter for Peering {
    /// To another node goes over the link what needs an answer, and through the store what needs none. Who waits for an answer that does
    /// not come is told by the end of the reply.
    fn send(&self, command: SocketCommand) {
        if let Some(shard) = self.addresses.shard_of(command.to) {
            self.mailboxes.push(shard, ShardMessage::SocketCommand(command));
            return;
        }
        let SocketCommand { to, namespace, op } = command;
        match RemoteSocketOp::of(&namespace, op) {
            Ok(what) => {
                self.send_node_message(to.node(), &NodeMessage::SocketOp { to, namespace, what });
            }
            Err(op) => self.request_socket(to.node(), to, namespace, op),
        }
    }

    fn is_known(&self, address: Address) -> bool {
        self.addresses.is_known(address, &self.cluster)
    }

    /// On this thread's shard, or on the first.
    fn broadcast(&self, to: Audience, message: Message, volatile: bool) {
        let shard = ShardRuntime::current().map_or(0, |shard| shard.id());
        self.mailboxes.broadcast(shard, ShardMessage::BeginBroadcast { to, message, volatile });
    }
}

impl Peering {
    /// Hands a command to the node that its socket has moved to: over the link, behind the socket.
    pub(super) fn forward_command(&self, node: NodeTag, command: SocketCommand) {
        let SocketCommand { to, namespace, op } = command;
        let op = match op {
            SocketOp::Ordered(ordered) if self.format_for(node) == Format::V1 => {
                let Some(op) = ordered.for_previous_version() else { return };
                op
            }
            op => op,
        };
        match RemoteSocketOp::of(&namespace, op) {
            Ok(what) => {
                let reply =
                    if let RemoteSocketOp::Signal { reply, .. } = &what { Some(*reply) } else { None };
                let message = NodeMessage::SocketOp { to, namespace, what }.encode(self.format_for(node));
                if !self.notify(node, &LinkNotice::NodeMessage(&message))
                    && let Some(reply) = reply
                {
                    self.report_signal(reply, false);
                }
            }
            Err(op) => self.request_socket(node, to, namespace, op),
        }
    }

    /// The socket is nowhere. Whoever waits for an answer of the socket is told by the end of its reply.
    pub(super) fn socket_not_found(&self, op: SocketOp) {
        if let SocketOp::Signal { reply: Some(reply), .. } = op {
            self.report_signal(reply, false);
        }
    }

    /// Tells whoever sent a signal what became of it.
    pub(super) fn report_signal(&self, reply: SignalReply, found: bool) {
        let SignalReply { node, shard, ticket } = reply;
        if node == self.node {
            let result = ShardMessage::TaskDone(ticket, TaskResult::Signalled(found));
            self.mailboxes.push(shard, result);
        } else {
            self.send_node_message(node, &NodeMessage::Signalled { shard, ticket, found });
        }
    }
}
