//! What a node does with the operations once a second.

use std::{collections::HashMap, sync::Arc, time::Duration};

use signalbox_admin::operations::{Operation, OperationKind, OperationStatus};
use signalbox_cluster::Status;
use tokio::time::{MissedTickBehavior, interval};

use super::{drain::Draining, rebalance::Rebalance};
use crate::{operation_store::Versioned, shared::NodeShared};

/// How often a node looks, and how often one that runs an operation says how far it is.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in which a node has to be missing before another one goes on with what it ran: one that has just joined may not know all.
const MISSED: u32 = 2;

/// What a node knows of the operations from one look to the next.
#[derive(Default)]
struct Known {
    /// The one that it runs.
    rebalance: Option<Rebalance>,
    /// Its own.
    draining: Option<Draining>,
    /// In how many looks the node that runs an operation was missing.
    missing: HashMap<String, u32>,
}

/// Looks until the runtime ends.
pub(crate) async fn run(node: Arc<NodeShared>) {
    let mut known = Known::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        // What runs waits while Redis is away. A node that drains goes on, and says so later.
        if node.cluster.status() != Status::Online {
            continue;
        }
        let Ok(running) = node.operations.read(true).await else { continue };
        known.missing.retain(|id, _| running.iter().any(|of| of.operation.id == *id));
        let me = node.tag.to_string();
        let is_mine = |rebalance: &Rebalance| {
            running.iter().any(|of| rebalance.is_of(&of.operation) && of.operation.runner == me)
        };
        known.warn_of_lost(&running);
        if known.rebalance.as_ref().is_some_and(|rebalance| !is_mine(rebalance)) {
            known.rebalance = None;
        }
        for of in running {
            known.look_at(&node, of).await;
        }
        if known.rebalance.is_none() {
            node.metrics.rebalance_left.set(0);
        }
    }
}

impl Known {
    /// Forgets its own operations that Redis does not know any more, and says so.
    fn warn_of_lost(&mut self, running: &[Versioned]) {
        let is_there = |id: &str| running.iter().any(|of| of.operation.id == id);
        let lost = "the record of an operation is gone while this node runs it: Redis has lost it, or another node has ended it";
        if let Some(rebalance) = self.rebalance.take_if(|rebalance| !is_there(rebalance.id())) {
            tracing::warn!(operation = rebalance.id(), "{lost}");
        }
        // The node drains all the same.
        if let Some(draining) = self.draining.take_if(|draining| !is_there(draining.id())) {
            tracing::warn!(operation = draining.id(), "{lost}");
        }
    }

    async fn look_at(&mut self, node: &Arc<NodeShared>, mut of: Versioned) {
        // A failover of Redis has forgotten that it is over.
        if let Some(ended) = node.ended_operations.find(&of.operation) {
            tracing::warn!(
                operation = of.operation.id,
                "Redis says that an operation runs which is over; it is ended again"
            );
            of.operation = ended;
            let _ = node.operations.write(&mut of).await;
            return;
        }
        let runs_here = of.operation.runner == node.tag.to_string();
        if !runs_here && !self.has_lost_its_node(node, &of.operation) {
            return;
        }
        match of.operation.kind {
            OperationKind::Drain if runs_here => Draining::look(&mut self.draining, node, of).await,
            OperationKind::Drain => {
                let (status, why) = match has_drained(node, &of.operation.runner).await {
                    true => (OperationStatus::Done, "the node had drained already, and has ended"),
                    false => (OperationStatus::Failed, "the node ended without saying how far it was"),
                };
                node.end(&mut of, status, why).await;
            }
            OperationKind::Rebalance => {
                if !runs_here && !take_over(node, &mut of).await {
                    return;
                }
                let rebalance = match self.rebalance.take() {
                    Some(rebalance) if runs_here && rebalance.is_of(&of.operation) => rebalance,
                    _ => Rebalance::new(&of.operation),
                };
                self.rebalance = rebalance.step(node, of).await;
            }
        }
    }

    /// Whether the node that runs an operation is gone.
    fn has_lost_its_node(&mut self, node: &NodeShared, operation: &Operation) -> bool {
        let nodes = node.cluster.nodes();
        if nodes.keys().any(|tag| tag.to_string() == operation.runner) {
            self.missing.remove(&operation.id);
            return false;
        }
        let missing = self.missing.entry(operation.id.clone()).or_default();
        *missing += 1;
        *missing >= MISSED
    }
}

/// Whether a node has said at its end that it had drained. What is begun after that it does not see any more.
async fn has_drained(node: &NodeShared, runner: &str) -> bool {
    let all = node.operations.read(false).await.unwrap_or_default();
    all.into_iter().map(|of| of.operation).any(|it| {
        it.kind == OperationKind::Drain && it.runner == runner && it.status == OperationStatus::Done
    })
}

/// Goes on with an operation of a node that is gone, unless another node was faster.
async fn take_over(node: &NodeShared, of: &mut Versioned) -> bool {
    let from = of.operation.runner_name.clone();
    of.operation.runner = node.tag.to_string();
    of.operation.runner_name = node.name_of(node.tag);
    let is_taken = node.say(of, format!("taken over from {from}, which is gone")).await;
    if is_taken {
        tracing::info!(operation = of.operation.id, from, "this node goes on with an operation");
    }
    is_taken
}
