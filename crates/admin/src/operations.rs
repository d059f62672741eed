//! Long operations: what takes a while, and goes on whichever node ends.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::{Cursor, Row};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// A node disconnects its clients one after the other, and ends.
    Drain,
    /// The nodes with the most Socket.IO clients send some away, until all have equally many.
    Rebalance,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OperationStatus {
    /// It runs.
    Running,
    /// Somebody has stopped it, and the node that runs it has yet to say so.
    Stopping,
    /// It is over, and has done what it was for.
    Done,
    /// It is over, since somebody has stopped it.
    Stopped,
    /// It is over, and could not do what it was for: `detail` says why.
    Failed,
}

impl OperationStatus {
    /// Whether it goes on no more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Stopped | Self::Failed)
    }
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its name.
    pub id: String,
    /// What it does.
    pub kind: OperationKind,
    /// How far it is.
    pub status: OperationStatus,
    /// What it does just now, waits for, or has come to; for people.
    pub detail: String,
    /// The node that runs it. When that node ends, another one goes on; a drain is run by the node that drains.
    pub runner: String,
    /// The name of that node.
    pub runner_name: String,
    /// Who has begun it.
    pub started_by: String,
    /// When it began.
    pub started_at: u64,
    /// When the node that runs it has last said how far it is.
    pub updated_at: u64,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// How many clients it is about: those that have been sent away, and those that have yet to be, as far as is known.
    pub total: u64,
    /// How many have been sent away.
    pub done: u64,
    /// How many it sends away in a second, all nodes together; absent for a drain, which takes its time (`--drain-timeout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How many Socket.IO clients the nodes have that a rebalance is between.
    #[serde(default)]
    pub nodes: Vec<OperationNode>,
}

/// A node that a rebalance is between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationNode {
    /// The node.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Its Socket.IO clients.
    pub clients: u64,
}

/// The latest first.
impl Row for Operation {
    fn cursor(&self) -> Cursor {
        Cursor(format!("{:020}", u64::MAX - self.started_at), self.id.clone())
    }
}

/// How a cluster is to be rebalanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RebalanceRequest {
    /// How many clients are sent away in a second, all nodes together: 1 to 10,000.
    #[serde(default = "default_rate")]
    #[schema(minimum = 1, maximum = 10000, default = 50)]
    pub rate: u32,
}

fn default_rate() -> u32 {
    50
}
