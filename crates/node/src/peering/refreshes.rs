//! Tokens that clients of one node have shown in place of others: they count for the PeerServer clients of the same subject on every
//! node. They travel over the node link, so that they count while Redis is away too.

use std::sync::Arc;

use bytes::Bytes;
use signalbox_node_link::RemoteNode;

use super::Peering;
use crate::{policy::Principal, protocol, shard::mailbox::ShardMessage};

/// The kind of a notice with the [`Principal`] of a new token. A node that is older than this kind passes over it.
pub(super) const REFRESHED: u8 = 5;

impl Peering {
    /// Tells all other nodes that can be reached. Whoever misses it goes by the token that it has.
    pub(super) fn tell_refreshed(&self, principal: &Principal) {
        let Some(link) = self.link.get() else { return };
        for node in self.others() {
            if let Some(peer) = RemoteNode::find(&self.cluster, node) {
                let _ = link.notify(peer, REFRESHED, self.encode_for(node, principal));
            }
        }
    }

    /// A client of another node has shown a new token.
    pub(super) fn handle_refreshed(&self, body: &Bytes) {
        match protocol::decode::<Principal>(body) {
            Ok(principal) => {
                let principal = Arc::new(principal);
                for shard in self.mailboxes.shards() {
                    self.mailboxes.push(shard, ShardMessage::Refreshed(principal.clone()));
                }
            }
            Err(_) => self.metrics.bus_refused.inc(),
        }
    }
}
