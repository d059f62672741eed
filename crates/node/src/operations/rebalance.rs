//! Rebalancing: the nodes with the most Socket.IO clients close the transports of some, which connect again, to whichever node their load
//! balancer prefers.

use std::{sync::Arc, time::Instant};

use futures_util::future::join_all;
use signalbox_admin::{
    NodeStatus, PartialReason,
    operations::{Operation, OperationNode, OperationStatus},
};

use super::{
    MAX_RATE,
    plan::{Idle, Pace, Plan, plan},
};
use crate::{
    operation_store::Versioned,
    peering::inquiries::Nodes,
    protocol::inquiry::{Answer, Question},
    shared::NodeShared,
};

/// Clients are sent away so many times each, on average, before it is given up: they come back to where they were.
const MOST_TIMES: u64 = 2;
/// And so many more, where there are few.
const AT_LEAST: u64 = 100;

/// A rebalance that this node runs.
#[derive(Debug)]
pub(super) struct Rebalance {
    id: String,
    pace: Pace,
    /// How many have been sent away, all nodes together.
    pub(super) done: u64,
    idle: Idle,
}

/// How a step ends.
enum Next {
    /// Sends these away, node by node.
    Shed(Plan, String),
    /// Nothing for now.
    Wait(String),
    /// It is over.
    End(OperationStatus, String),
}

impl Rebalance {
    /// One that begins here, or goes on here.
    pub(super) fn new(operation: &Operation) -> Self {
        let now = Instant::now();
        let pace = match operation.done {
            0 => Pace::new(now),
            _ => Pace::resumed(now, rate(operation)),
        };
        Self { id: operation.id.clone(), pace, done: operation.done, idle: Idle::new(now) }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_of(&self, operation: &Operation) -> bool {
        self.id == operation.id
    }

    /// One second of it; `None` once it is over. Whether it is another node's meanwhile shows at the next look: what could not be written
    /// may have met somebody who stops it, and what is known of it is not to be lost.
    pub(super) async fn step(mut self, node: &Arc<NodeShared>, mut of: Versioned) -> Option<Self> {
        if of.operation.status == OperationStatus::Stopping {
            let why = "somebody has stopped it".to_owned();
            return self.over(node, of, OperationStatus::Stopped, why).await;
        }
        let next = self.next(node, &mut of.operation).await;
        of.operation.done = self.done;
        match next {
            Next::End(status, detail) => self.over(node, of, status, detail).await,
            Next::Wait(detail) => self.wait(node, of, detail).await,
            Next::Shed(plan, detail) => {
                // Clients are sent away only once it is sure that no other node does.
                if !node.say(&mut of, detail.clone()).await {
                    return Some(self);
                }
                let orders = of.operation.nodes.iter().zip(plan.shed).filter(|(_, count)| *count > 0);
                let shed = orders.map(|(at, count)| shed(node, at, count));
                let (mut count, mut refused) = (0, None);
                for outcome in join_all(shed).await {
                    match outcome {
                        Ok(shed) => count += shed,
                        Err(name) => refused = Some(name),
                    }
                }
                self.done = self.done.saturating_add(count);
                self.pace.sent_away(Instant::now(), count);
                if let Some(name) = refused {
                    let why = format!("{name} is of a version that sends no clients away (update it first)");
                    return self.over(node, of, OperationStatus::Failed, why).await;
                }
                if count == 0 {
                    let why = format!("{detail}; those that have too many find nobody to send away");
                    return self.wait(node, of, why).await;
                }
                self.idle = Idle::new(Instant::now());
                Some(self)
            }
        }
    }

    /// Nothing is done for now, nor for ever.
    async fn wait(mut self, node: &NodeShared, mut of: Versioned, detail: String) -> Option<Self> {
        if self.idle.is_too_long(Instant::now()) {
            let why = format!("nobody could be sent away for five minutes: {detail}");
            return self.over(node, of, OperationStatus::Failed, why).await;
        }
        node.say(&mut of, detail).await;
        Some(self)
    }

    async fn over(
        self,
        node: &NodeShared,
        mut of: Versioned,
        status: OperationStatus,
        detail: String,
    ) -> Option<Self> {
        of.operation.done = self.done;
        (!node.end(&mut of, status, detail).await).then_some(self)
    }

    /// What to do now, by what the nodes say.
    async fn next(&mut self, node: &Arc<NodeShared>, operation: &mut Operation) -> Next {
        let (answer, partial) = node.peering.inquire(Question::Node, Nodes::All).await;
        let Answer::Nodes(mut nodes) = answer else {
            return Next::Wait("waits for the nodes' answers".to_owned());
        };
        if let Some(older) = partial.iter().find(|missing| missing.reason == PartialReason::Format) {
            let why = format!("{} is of a version that cannot be asked (update it first)", older.name);
            return Next::End(OperationStatus::Failed, why);
        }
        if let Some(missing) = partial.first() {
            return Next::Wait(format!("waits: {} does not answer", missing.name));
        }
        if let Some(degraded) = nodes.iter().find(|it| it.status == NodeStatus::Degraded) {
            return Next::Wait(format!("waits: {} is without Redis", degraded.name));
        }
        if let Some(joining) = nodes.iter().find(|it| it.status == NodeStatus::Joining) {
            return Next::Wait(format!("waits: {} has yet to join", joining.name));
        }
        // The others take no clients, or not for long.
        nodes.retain(|it| it.status == NodeStatus::Online);
        nodes.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        let row = |it: &signalbox_admin::Node| OperationNode {
            node: it.id.clone(),
            name: it.name.clone(),
            clients: it.polling_clients + it.websocket_clients,
        };
        operation.nodes = nodes.iter().map(row).collect();
        if nodes.len() < 2 {
            return Next::End(OperationStatus::Done, "there is no other node that takes clients".to_owned());
        }
        let clients: Vec<u64> = operation.nodes.iter().map(|it| it.clients).collect();
        let now = Instant::now();
        let (away, budget) = (self.pace.away(now), self.pace.budget(now, rate(operation)));
        let plan = plan(&clients, away, budget);
        operation.total = self.done.saturating_add(plan.left);
        node.metrics.rebalance_left.set(plan.left as i64);
        let (fewest, most) = (
            clients.iter().min().copied().unwrap_or_default(),
            clients.iter().max().copied().unwrap_or_default(),
        );
        let have = format!("the nodes have {fewest} to {most} clients");
        if plan.is_level && away == 0 {
            return Next::End(OperationStatus::Done, have);
        }
        if self.done > clients.iter().sum::<u64>() * MOST_TIMES + AT_LEAST {
            let why = "clients come back to the nodes that have sent them away (let the load balancer prefer the node with the fewest connections)";
            return Next::End(OperationStatus::Failed, why.to_owned());
        }
        match plan.shed.iter().any(|count| *count > 0) {
            true => Next::Shed(plan, have),
            false if away == 0 => Next::Wait(have),
            false => Next::Wait(format!("{have}; those that were sent away are on their way")),
        }
    }
}

/// How many clients may be sent away in a second, whatever the record says.
fn rate(operation: &Operation) -> u32 {
    operation.rate.unwrap_or(1).clamp(1, MAX_RATE)
}

/// Has a node send clients away. How many have gone, or the node's name if it does not know how.
async fn shed(node: &Arc<NodeShared>, at: &OperationNode, count: u64) -> Result<u64, String> {
    let tag = node.cluster.nodes().keys().find(|tag| tag.to_string() == at.node).copied();
    let Some(tag) = tag else { return Ok(0) };
    let (answer, partial) = node.peering.inquire(Question::Shed { clients: count }, Nodes::One(tag)).await;
    match (answer, partial.first()) {
        (_, Some(missing)) if missing.reason == PartialReason::Format => Err(at.name.clone()),
        // It may have sent them away, and not be able to say so.
        (_, Some(_)) => Ok(count),
        (Answer::Done(outcomes, _), None) => Ok(outcomes.iter().map(|outcome| outcome.done).sum()),
        (_, None) => Ok(0),
    }
}
