//! What every worker thread of a node shares.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use signalbox_cluster::{Cluster, NodeTag};
use signalbox_telemetry::Metrics;

use crate::{
    budget::MemoryBudget,
    config::Config,
    lifecycle::Lifecycle,
    peering::Peering,
    policy::GuardedPolicy,
    routing::location::request_number,
    shard::runtime::{Mailboxes, ShardRuntime},
};

/// A node, as its edge sees it.
pub(crate) struct NodeShared {
    pub(crate) tag: NodeTag,
    pub(crate) config: Arc<Config>,
    pub(crate) policy: Arc<GuardedPolicy>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) peering: Arc<Peering>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) metrics: Metrics,
    /// Numbers requests.
    pub(crate) requests: AtomicU64,
}

impl NodeShared {
    /// This thread's shard.
    pub(crate) fn shard(&self) -> Option<Rc<ShardRuntime>> {
        ShardRuntime::current()
    }

    /// A number for a request, unlike any other's on any node.
    pub(crate) fn request_number(&self) -> u64 {
        request_number(self.tag, self.requests.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
