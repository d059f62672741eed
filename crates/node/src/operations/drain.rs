//! A node that drains because an operator wants it to, and says how far it is.

use std::{sync::Arc, time::Duration};

use signalbox_admin::operations::{OperationKind, OperationStatus};
use tokio::time::timeout;

use super::ATTEMPTS;
use crate::{operation_store::Versioned, peering::inquiry_state::DescribeNode as _, shared::NodeShared};

/// How long the last word may take: the node ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Looks after which a drain has failed that the node's program has not begun.
const LOOKS_TO_BEGIN: u32 = 10;

/// This node's own drain.
#[derive(Debug)]
pub(super) struct Draining {
    id: String,
    /// The clients that there were when it began.
    total: u64,
    /// In how many looks the node had not begun.
    waited: u32,
}

impl Draining {
    /// One that begins.
    fn new(id: String, node: &NodeShared) -> Self {
        Self { id, total: clients(node), waited: 0 }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Looks at the operation: begins it, goes on, or gives it up.
    pub(super) async fn look(own: &mut Option<Self>, node: &Arc<NodeShared>, mut of: Versioned) {
        let is_new = own.as_ref().is_none_or(|own| own.id != of.operation.id);
        let draining = match own {
            Some(draining) if !is_new => draining,
            _ => own.insert(Self::new(of.operation.id.clone(), node)),
        };
        if let Some((status, why)) = draining.ends(node, is_new, of.operation.status) {
            *own = None;
            node.end(&mut of, status, why).await;
            // Whether that is written or not: it is over.
            node.ended_operations.remember(&of.operation);
            return;
        }
        // Also at the next look, if a drain that was stopped is not over yet.
        node.request_drain();
        let left = clients(node);
        draining.total = draining.total.max(left);
        (of.operation.total, of.operation.done) = (draining.total, draining.total - left);
        let detail = match node.lifecycle.is_stopping() {
            true => format!("{left} clients are left"),
            false if !node.lifecycle.is_leaving() => "it begins within a second".to_owned(),
            false => "the node is not ready any more; it disconnects its clients in a moment (--drain-delay)"
                .to_owned(),
        };
        node.say(&mut of, detail).await;
    }

    /// Whether it is over before the node is, and why.
    fn ends(
        &mut self,
        node: &NodeShared,
        is_new: bool,
        status: OperationStatus,
    ) -> Option<(OperationStatus, &'static str)> {
        let is_stopped = status == OperationStatus::Stopping;
        if is_stopped && node.lifecycle.cancel_drain() {
            node.drain_cancelled.notify_one();
            return Some((OperationStatus::Stopped, "somebody has stopped it: the node takes clients again"));
        }
        if node.lifecycle.is_leaving() {
            return None;
        }
        // The node serves: its program knows nothing of this yet, or is about to begin.
        if is_stopped && (is_new || node.lifecycle.withdraw_drain()) {
            return Some((OperationStatus::Stopped, "somebody has stopped it before it began"));
        }
        self.waited += 1;
        if self.waited <= LOOKS_TO_BEGIN {
            return None;
        }
        node.lifecycle.give_up_drain();
        let why = "the program has not begun to drain the node (does it wait for `Node::drain_requested`?)";
        Some((if is_stopped { OperationStatus::Stopped } else { OperationStatus::Failed }, why))
    }
}

/// The clients of both protocols.
fn clients(node: &NodeShared) -> u64 {
    let row = node.node();
    row.polling_clients + row.websocket_clients + row.peers
}

impl NodeShared {
    /// The node has drained, and is about to leave the cluster.
    pub(crate) async fn end_drain(&self) {
        let last_word = async {
            // What the node says once a second may come between.
            for _ in 0..ATTEMPTS {
                let running = self.operations.read(true).await.ok()?;
                let own = running.into_iter().find(|of| {
                    of.operation.kind == OperationKind::Drain && of.operation.runner == self.tag.to_string()
                });
                let mut own = own?;
                let left = clients(self);
                own.operation.total = own.operation.total.max(left);
                own.operation.done = own.operation.total - left;
                if self.end(&mut own, OperationStatus::Done, "the node has ended").await {
                    break;
                }
            }
            Some(())
        };
        // Nobody waits for a node that ends because Redis is away.
        let _ = timeout(LAST_WORD, last_word).await;
    }
}
