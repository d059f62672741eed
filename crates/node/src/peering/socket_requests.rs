//! Operations on sockets of other nodes whose answers somebody waits for: joins, leaves, lists of rooms, events with an acknowledgement.

use std::sync::Arc;

use bytes::Bytes;
use signalbox_cluster::{Address, NodeTag};
use signalbox_node_link::{RemoteNode, Responder};

use super::{Peering, name_of};
use crate::{
    protocol::{
        self,
        socket_request::{SocketRequest, SocketResponse},
    },
    routing::SocketOp,
    shard::mailbox::ShardMessage,
};

/// The kind of such a request. A node that is older than this kind refuses it, and whoever waits is told as if the client had gone.
pub(super) const SOCKETS: u8 = 5;

impl Peering {
    /// Asks a socket of another node. Whoever waits is told by the end of the reply when there is no answer. An operation without an
    /// answer is given back.
    pub(super) fn request_socket(&self, node: NodeTag, to: Address, namespace: Arc<str>, op: SocketOp) {
        let Some((request, reply)) = SocketRequest::of(to, namespace, op) else { return };
        let Some((link, peer)) = self.link.get().zip(RemoteNode::find(&self.cluster, node)) else { return };
        let answer = link.request(peer, SOCKETS, self.encode_for(node, &request));
        let metrics = self.metrics.clone();
        link.spawn(async move {
            let answer = answer.await;
            let outcome = answer.as_ref().map_or_else(|error| name_of(*error), |_| "answered");
            metrics.link_requests.with_label_values(&[outcome]).inc();
            if let Ok(response) = answer.map(|bytes| protocol::decode::<SocketResponse>(&bytes))
                && let Ok(response) = response
            {
                reply.send(response);
            }
        });
    }

    /// Another node asks a socket of this one.
    pub(super) fn serve_socket_request(self: Arc<Self>, from: NodeTag, body: &Bytes, answer: Responder) {
        let Ok(request) = protocol::decode::<SocketRequest>(body) else {
            self.metrics.bus_refused.inc();
            return;
        };
        let Some(shard) = self.addresses.shard_of(request.to) else {
            if let Some(response) = request.answer_of_nobody() {
                answer.send(self.encode_for(from, &response));
            }
            return;
        };
        let Some((command, answered)) = request.begin() else { return };
        if self.mailboxes.request(shard, ShardMessage::SocketCommand(command)).is_err() {
            return;
        }
        tokio::spawn(async move {
            if let Some(response) = answered.await {
                answer.send(self.encode_for(from, &response));
            }
        });
    }
}
