//! Long operations of operators: draining a node, and rebalancing the cluster.
//!
//! An operation is a record that all nodes share, in Redis. One node runs it, and writes once a second how far it is; each write takes
//! place only if nobody else has written since, so that a node that was paused, and has lost its operation to another one, does nothing
//! more. The others look once a second: where the node that runs one is gone, one of them goes on with it.
//!
//! - `run`: what a node does with them once a second.
//! - `rebalance`: the fullest nodes send clients away; `plan`: how many, as a plain calculation.
//! - `drain`: a node drains.

mod drain;
mod plan;
mod rebalance;
mod run;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use signalbox_admin::operations::{Operation, OperationKind, OperationStatus};
use signalbox_cluster::{NodeTag, Status, operations::Written};
use signalbox_cluster_redis::StoreAway;
use tokio::time::timeout;

pub(crate) use self::run::run;
use crate::{operation_store::Versioned, peering::inquiry_state::DescribeNode as _, shared::NodeShared};

/// How long Redis is waited for: whoever asks is answered within two seconds.
const PATIENCE: Duration = Duration::from_millis(1_700);
/// Most clients that a rebalance sends away in a second.
pub const MAX_RATE: u32 = 10_000;
/// Times that a record is read again because somebody has written it meanwhile.
const ATTEMPTS: usize = 10;

/// Why an operation does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotBegin {
    /// Operations are kept in Redis, which is away.
    #[error(
        "Redis is away, and operations are kept there (try again when it is back; a node drains when it gets SIGTERM, too)"
    )]
    Away,
    /// Another one does the same: its name.
    #[error("the operation {0} does that already")]
    Busy(String),
    /// As many run as may.
    #[error("too many operations run")]
    Full,
    /// No node has this id or name.
    #[error("no node has this id or name")]
    NoSuchNode,
    /// The node is of a version before there were operations.
    #[error("the node is of a version that knows no operations (send it SIGTERM)")]
    OlderNode,
}

impl From<StoreAway> for CannotBegin {
    fn from(_: StoreAway) -> Self {
        Self::Away
    }
}

impl NodeShared {
    /// All operations that are known: those that run first, then the latest.
    pub(crate) async fn all_operations(&self) -> Result<Vec<Operation>, StoreAway> {
        let all = self.in_time(self.operations.read(false)).await?;
        let mut all: Vec<Operation> = all.into_iter().map(|it| it.operation).collect();
        all.sort_by_key(|it| (it.status.is_over(), std::cmp::Reverse(it.started_at), it.id.clone()));
        Ok(all)
    }

    /// Begins an operation, which `runner` runs.
    pub(crate) async fn begin_operation(
        &self,
        kind: OperationKind,
        runner: NodeTag,
        rate: Option<u32>,
        started_by: &str,
    ) -> Result<Operation, CannotBegin> {
        let now = unix_millis();
        let operation = Operation {
            id: format!("{:016x}", rand::random::<u64>()),
            kind,
            status: OperationStatus::Running,
            detail: "it begins within a second".to_owned(),
            runner: runner.to_string(),
            runner_name: self.name_of(runner),
            started_by: started_by.to_owned(),
            started_at: now,
            updated_at: now,
            ended_at: None,
            total: 0,
            done: 0,
            rate,
            nodes: Vec::new(),
        };
        let mut versioned = Versioned { version: 0, operation };
        match self.in_time(self.operations.write(&mut versioned)).await? {
            Written::Stored(_) => Ok(versioned.operation),
            Written::Busy(id) => Err(CannotBegin::Busy(id)),
            // A name that is taken is as unlikely as a node's.
            Written::Full | Written::Changed => Err(CannotBegin::Full),
        }
    }

    /// Stops an operation, if it is there and runs.
    pub(crate) async fn stop_operation(&self, id: &str) -> Result<Option<Operation>, StoreAway> {
        self.in_time(self.try_to_stop(id)).await
    }

    /// What is asked of the store, unless that is away.
    async fn in_time<T>(&self, asked: impl Future<Output = Result<T, StoreAway>>) -> Result<T, StoreAway> {
        match self.cluster.status() {
            Status::Online => timeout(PATIENCE, asked).await.unwrap_or(Err(StoreAway)),
            Status::Joining | Status::Degraded => Err(StoreAway),
        }
    }

    async fn try_to_stop(&self, id: &str) -> Result<Option<Operation>, StoreAway> {
        for _ in 0..ATTEMPTS {
            let all = self.operations.read(false).await?;
            let Some(mut known) = all.into_iter().find(|known| known.operation.id == id) else {
                return Ok(None);
            };
            if known.operation.status != OperationStatus::Running {
                return Ok(Some(known.operation));
            }
            known.operation.status = OperationStatus::Stopping;
            if let Written::Stored(_) = self.operations.write(&mut known).await? {
                return Ok(Some(known.operation));
            }
        }
        Err(StoreAway)
    }

    /// A node's name, where it has one.
    fn name_of(&self, tag: NodeTag) -> String {
        if tag == self.tag {
            return self.node().name;
        }
        self.cluster.nodes().get(&tag).map_or_else(|| tag.to_string(), |node| node.name.clone())
    }

    /// Writes how far an operation is. Returns whether it is still this node's.
    async fn say(&self, of: &mut Versioned, detail: impl Into<String>) -> bool {
        of.operation.detail = detail.into();
        of.operation.updated_at = unix_millis();
        matches!(self.operations.write(of).await, Ok(Written::Stored(_)))
    }

    /// An operation is over.
    async fn end(&self, of: &mut Versioned, status: OperationStatus, detail: impl Into<String>) -> bool {
        of.operation.status = status;
        of.operation.ended_at = Some(unix_millis());
        let is_written = self.say(of, detail).await;
        if is_written {
            let Operation { id, kind, status, detail, done, .. } = &of.operation;
            tracing::info!(operation = id, ?kind, ?status, done, detail, "operation is over");
        }
        is_written
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
