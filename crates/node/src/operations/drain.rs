//! A node that drains because an operator wants it to, and says how far it is.

use std::{sync::Arc, time::Duration};

use signalbox_admin::operations::{OperationKind, OperationStatus};
use tokio::time::timeout;

use crate::{operation_store::Versioned, peering::inquiry_state::DescribeNode as _, shared::NodeShared};

/// How long the last word may take: the node ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// This node's own drain.
#[derive(Debug)]
pub(super) struct Draining {
    id: String,
    /// The clients that there were when it began.
    total: u64,
}

impl Draining {
    /// Looks at the operation: begins it, goes on, or gives it up.
    pub(super) async fn look(own: &mut Option<Self>, node: &Arc<NodeShared>, mut of: Versioned) {
        let operation = &of.operation;
        let is_new = own.as_ref().is_none_or(|own| own.id != operation.id);
        if operation.status == OperationStatus::Stopping && (is_new || node.lifecycle.cancel_drain()) {
            let why = if is_new {
                "somebody has stopped it before it began"
            } else {
                *own = None;
                node.drain_cancelled.notify_one();
                "somebody has stopped it: the node takes clients again"
            };
            node.end(&mut of, OperationStatus::Stopped, why).await;
            return;
        }
        // Also at the next look, if a drain that was stopped is not over yet.
        node.request_drain();
        if is_new {
            *own = Some(Self { id: operation.id.clone(), total: clients(node) });
        }
        let left = clients(node);
        let total = own.as_ref().map_or(left, |own| own.total.max(left));
        (of.operation.total, of.operation.done) = (total, total - left);
        let detail = match node.lifecycle.is_stopping() {
            true => format!("{left} clients are left"),
            false => "the node is not ready any more; it disconnects its clients in a moment (--drain-delay)"
                .to_owned(),
        };
        node.say(&mut of, detail).await;
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
            let running = self.operations.read(true).await.ok()?;
            let own = running.into_iter().find(|of| {
                of.operation.kind == OperationKind::Drain && of.operation.runner == self.tag.to_string()
            });
            let mut own = own?;
            let left = clients(self);
            own.operation.total = own.operation.total.max(left);
            own.operation.done = own.operation.total - left;
            self.end(&mut own, OperationStatus::Done, "the node has ended").await;
            Some(())
        };
        // Nobody waits for a node that ends because Redis is away.
        let _ = timeout(LAST_WORD, last_word).await;
    }
}
