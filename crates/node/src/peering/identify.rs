//! Whose a session of another node is.

use std::sync::Arc;

use bytes::Bytes;
use signalbox_cluster::{Address, NodeTag};
use signalbox_node_link::{RemoteNode, Responder};
use tokio::time::timeout;

use super::{ANSWER_WITHIN, Peering};
use crate::{policy::SessionClient, protocol, routing::Reply, shard::mailbox::Request};

/// The kind of a request that asks whose a session is: an address, answered with an `Option<SessionClient>`. A node that is older than this
/// kind refuses it.
pub(super) const IDENTIFY: u8 = 3;

impl Peering {
    /// Asks the node that has the session. Whoever waits is told of no session where there is no answer.
    pub(super) fn relay_identify(&self, to: NodeTag, sid: Address, reply: Reply<Option<SessionClient>>) {
        let Some((link, node)) = self.link.get().zip(RemoteNode::find(&self.cluster, to)) else { return };
        let answer = link.request(node, IDENTIFY, self.encode_for(to, &sid));
        tokio::spawn(async move {
            if let Ok(Ok(body)) = timeout(ANSWER_WITHIN, answer).await
                && let Ok(client) = protocol::decode::<Option<SessionClient>>(&body)
            {
                let _ = reply.send(client);
            }
        });
    }

    /// Another node asks. Dropped without an answer where it cannot be answered.
    pub(super) fn serve_identify(self: Arc<Self>, from: NodeTag, body: &Bytes, answer: Responder) {
        let Ok(sid) = protocol::decode::<Address>(body) else {
            self.metrics.bus_refused.inc();
            return;
        };
        let (reply, client) = Reply::channel();
        if self.request_here(Request::Identify { sid, reply }).is_err() {
            return;
        }
        tokio::spawn(async move {
            let client: Option<SessionClient> = client.await.unwrap_or_default();
            answer.send(self.encode_for(from, &client));
        });
    }
}
