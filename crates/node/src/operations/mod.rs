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
#[cfg(test)]
mod tests;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use signalbox_admin::{
    Row,
    operations::{Operation, OperationKind, OperationStatus},
};
use signalbox_cluster::{NodeTag, Status, operations::Written};
use signalbox_cluster_redis::StoreAway;
use tokio::time::timeout_at;

pub(crate) use self::run::run;
use crate::{
    operation_store::Versioned,
    peering::{inquiries::ANSWER_BY, inquiry_state::DescribeNode as _},
    shared::NodeShared,
};

/// For how long a request that is sent again with the same key is the same one, in milliseconds, once its operation is over.
const KEY_KEPT: u64 = 600_000;
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
    /// Redis was asked, and has not answered in time.
    #[error(
        "Redis has not answered in time: it may have begun (see the operations; the same request with the same Idempotency-Key begins it once)"
    )]
    Unknown,
    /// The node is of a version before there were operations.
    #[error("the node is of a version that knows no operations (send it SIGTERM)")]
    OlderNode,
}

/// What an operation is begun with.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// Who wants it, for the record.
    pub started_by: String,
    /// The same for a request that is sent again: then it is the same operation.
    pub key: Option<String>,
    /// Until when Redis is waited for.
    pub until: Instant,
}

impl NewOperation {
    /// The operation's name, which is the same for the same key.
    fn id(&self) -> String {
        let number = self.key.as_ref().and_then(|key| Sha256::digest(key).first_chunk().copied());
        format!("{:016x}", number.map_or_else(rand::random, u64::from_be_bytes))
    }
}

impl NodeShared {
    /// All operations that are known, the latest first.
    pub(crate) async fn all_operations(&self) -> Result<Vec<Operation>, StoreAway> {
        let all = self.in_time(Instant::now() + ANSWER_BY, self.operations.read(false)).await?;
        let mut all: Vec<Operation> = all.into_iter().map(|it| it.operation).collect();
        all.sort_by_key(Row::cursor);
        Ok(all)
    }

    /// Begins an operation, which `runner` runs.
    pub(crate) async fn begin_operation(
        &self,
        kind: OperationKind,
        runner: NodeTag,
        rate: Option<u32>,
        new: &NewOperation,
    ) -> Result<Operation, CannotBegin> {
        let now = unix_millis();
        let operation = Operation {
            id: new.id(),
            kind,
            status: OperationStatus::Running,
            detail: "it begins within a second".to_owned(),
            runner: runner.to_string(),
            runner_name: self.name_of(runner),
            started_by: new.started_by.clone(),
            started_at: now,
            updated_at: now,
            ended_at: None,
            total: 0,
            done: 0,
            rate,
            nodes: Vec::new(),
        };
        if self.cluster.status() != Status::Online {
            return Err(CannotBegin::Away);
        }
        // The store does not know either whether it has taken what it was told.
        let begun = timeout_at(new.until.into(), self.begin(operation)).await;
        begun.unwrap_or(Err(StoreAway)).map_err(|_| CannotBegin::Unknown)?
    }

    async fn begin(&self, operation: Operation) -> Result<Result<Operation, CannotBegin>, StoreAway> {
        let mut versioned = Versioned { version: 0, operation };
        for _ in 0..2 {
            match self.operations.write(&mut versioned).await? {
                Written::Stored(_) => {
                    let Operation { id, kind, runner_name, started_by, rate, .. } = &versioned.operation;
                    tracing::info!(
                        operation = id,
                        ?kind,
                        runner_name,
                        started_by,
                        rate,
                        "operation has begun"
                    );
                    return Ok(Ok(versioned.operation));
                }
                Written::Busy(id) => return Ok(Err(CannotBegin::Busy(id))),
                Written::Full => break,
                Written::Changed => {}
            }
            // Its name is taken: the same request has begun it before, and has not learned of it.
            let new = &mut versioned.operation;
            let all = self.operations.read(false).await?;
            let known = all.into_iter().map(|it| it.operation).find(|it| it.id == new.id);
            let is_same = |it: &Operation| {
                (it.kind, it.rate, &it.started_by) == (new.kind, new.rate, &new.started_by)
                    && (!it.status.is_over() || it.started_at + KEY_KEPT >= new.started_at)
            };
            if let Some(known) = known.filter(is_same) {
                return Ok(Ok(known));
            }
            new.id = format!("{:016x}", rand::random::<u64>());
        }
        Ok(Err(CannotBegin::Full))
    }

    /// Stops an operation, if it is there and runs. Redis is waited for until then.
    pub(crate) async fn stop_operation(
        &self,
        id: &str,
        until: Instant,
    ) -> Result<Option<Operation>, StoreAway> {
        self.in_time(until, self.try_to_stop(id)).await
    }

    /// What is asked of the store, unless that is away.
    async fn in_time<T>(
        &self,
        until: Instant,
        asked: impl Future<Output = Result<T, StoreAway>>,
    ) -> Result<T, StoreAway> {
        match self.cluster.status() {
            Status::Online => timeout_at(until.into(), asked).await.unwrap_or(Err(StoreAway)),
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
            self.ended_operations.remember(&of.operation);
            let Operation { id, kind, status, detail, done, started_by, .. } = &of.operation;
            tracing::info!(operation = id, ?kind, ?status, done, started_by, detail, "operation is over");
        }
        is_written
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
