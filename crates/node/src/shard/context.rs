//! What a shard knows of its node.

use std::sync::Arc;

use signalbox_cluster::{Address, Cluster, NodeTag, ShardId};
use signalbox_telemetry::Metrics;

use crate::{
    app::{App, SocketRouter},
    client_log::ClientLog,
    config::Config,
    events::EventHub,
    ledger::Ledger,
    lifecycle::Lifecycle,
    policy::GuardedPolicy,
    routing::{LocalAddresses, Location},
};

/// What a shard knows of its node.
pub(crate) struct ShardContext {
    pub(crate) id: ShardId,
    pub(crate) node: NodeTag,
    /// How many shards the node has.
    pub(crate) shards: usize,
    pub(crate) config: Arc<Config>,
    pub(crate) app: Arc<App>,
    pub(crate) policy: Arc<GuardedPolicy>,
    /// Read for routes and the state of the cluster; what changes it is an effect.
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) addresses: Arc<LocalAddresses>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Metrics,
    /// Whose stories are told.
    pub(crate) client_log: Arc<ClientLog>,
    /// Told what happens, if it wants to know.
    pub(crate) events: Arc<EventHub>,
    /// What handlers reach sockets through.
    pub(crate) router: Arc<dyn SocketRouter>,
    /// Makes the addresses of new sessions and sockets; [`Address::random`] but where the same addresses have to come again.
    pub(crate) new_address: fn(NodeTag, ShardId) -> Address,
}

impl ShardContext {
    /// This shard, as others name it.
    pub(crate) fn location(&self) -> Location {
        Location { node: self.node, shard: self.id }
    }
}
