//! A node that has joined makes itself known to the others before it takes clients.
//!
//! The others learn of it from their next heartbeat, a second later at most. Until then they could not answer what it asks for its
//! clients, nor send anything to it: those that come in that second would be cut off. So it asks each node that it knows of whether it
//! is known there, and is not ready before they have answered, or had the time to. Who does not know it yet looks it up.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use signalbox_cluster::{NodeTag, Status};
use signalbox_node_link::{RemoteNode, Responder};
use tokio::{task::JoinHandle, time::timeout};

use super::{ANSWER_WITHIN, LOOKUP_INTERVAL, Peering};

/// The kind of a request that asks whether the node it comes from is known. It and its answer are empty. A node that is older than this
/// kind refuses it.
pub(super) const INTRODUCTION: u8 = 2;

impl Peering {
    /// Whether the other nodes know this one, as far as it could do something about it.
    pub(crate) fn is_introduced(&self) -> bool {
        self.is_introduced.load(Ordering::Acquire) || !self.cluster.is_shared()
    }

    /// Makes the node known; called whenever it has joined. Takes as long as others need for an answer, at most two seconds.
    pub(super) async fn introduce(self: Arc<Self>) {
        // The nodes and the link's secret are read behind the first heartbeat.
        let until = Instant::now() + ANSWER_WITHIN;
        while !self.can_introduce() && Instant::now() < until {
            tokio::time::sleep(LOOKUP_INTERVAL / 10).await;
        }
        let answers: Vec<_> = self.others().into_iter().filter_map(|to| self.ask_whether_known(to)).collect();
        for answer in answers {
            let _ = answer.await;
        }
        self.is_introduced.store(true, Ordering::Release);
    }

    fn can_introduce(&self) -> bool {
        self.cluster.status() == Status::Online && self.can_reach(self.node)
    }

    pub(super) fn others(&self) -> Vec<NodeTag> {
        self.cluster.nodes().keys().copied().filter(|tag| *tag != self.node).collect()
    }

    fn ask_whether_known(&self, to: NodeTag) -> Option<JoinHandle<()>> {
        let (link, node) = self.link.get().zip(RemoteNode::find(&self.cluster, to))?;
        let answer = link.request(node, INTRODUCTION, Bytes::new());
        Some(tokio::spawn(async move {
            // Whatever comes, or not: there is nothing else to be done.
            let _ = timeout(ANSWER_WITHIN, answer).await;
        }))
    }

    /// A node asks whether it is known here; it is answered as soon as it is.
    pub(super) fn serve_introduction(self: Arc<Self>, from: NodeTag, answer: Responder) {
        tokio::spawn(async move {
            if self.look_up(from).await {
                answer.send(Bytes::new());
            }
        });
    }
}
