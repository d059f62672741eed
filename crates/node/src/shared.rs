//! What every worker thread of a node shares.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use signalbox_admin::events::{Event, EventKind, Protocol};
use signalbox_admin::{Node as NodeRow, NodeRates, NodeStatus};
use signalbox_cluster::{Cluster, NodeTag, Status, command::RealmId};
use signalbox_cluster_redis::{RedisAccess, Revoker, RulesStore};
use signalbox_telemetry::Metrics;
use tokio::sync::Notify;

use crate::{
    client_log::{ClientLog, ClientSelector, STORIES, Who},
    config::Config,
    events::{EventHub, shown},
    ledger::{Account, Charge, EvictAt, Ledger},
    lifecycle::Lifecycle,
    limits::{AddressSlot, Admission, Gate, TurnedAway},
    operation_store::{EndedOperations, OperationStore},
    peering::{
        Peering, bus::ClusterEvents, inquiry_state::DescribeNode, revocations::Revocations,
        rules::SharedRules,
    },
    policy::GuardedPolicy,
    protocol::inquiry::LogOrder,
    rates::RateSamples,
    routing::location::request_number,
    shard::{
        mailbox::ShardMessage,
        runtime::{Mailboxes, ShardRuntime, load::Loads},
    },
    transport::Pace,
};

/// A node, as its edge sees it.
pub(crate) struct NodeShared {
    pub(crate) tag: NodeTag,
    /// What the cluster calls it, where it has a name.
    pub(crate) name: Option<String>,
    pub(crate) config: Arc<Config>,
    pub(crate) policy: Arc<GuardedPolicy>,
    pub(crate) revocations: Arc<Revocations>,
    /// Tells the other nodes; `None` where there are none.
    pub(crate) revoker: Option<Revoker>,
    /// Its way to Redis, where it has one.
    pub(crate) redis_access: Option<RedisAccess>,
    pub(crate) rules: Arc<SharedRules>,
    /// Where the nodes share rules; `None` where there is one node.
    pub(crate) rules_store: Option<RulesStore>,
    /// Long operations of operators.
    pub(crate) operations: OperationStore,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) peering: Arc<Peering>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Metrics,
    pub(crate) client_log: Arc<ClientLog>,
    /// Connections to the public listener that are open.
    pub(crate) connection_slots: Arc<AtomicUsize>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) admission: Admission,
    pub(crate) loads: Arc<Loads>,
    pub(crate) events: Arc<ClusterEvents>,
    /// What happens here, for those who listen.
    pub(crate) hub: Arc<EventHub>,
    pub(crate) rates: Arc<RateSamples>,
    /// An operator wants the node to drain, and to end.
    pub(crate) drain_requested: Notify,
    /// Operations that this node has ended.
    pub(crate) ended_operations: EndedOperations,
    /// The operator has stopped that.
    pub(crate) drain_cancelled: Notify,
    /// When the node started.
    pub(crate) started: SystemTime,
    /// Numbers requests.
    pub(crate) requests: AtomicU64,
}

impl NodeShared {
    /// How slow a client may be with what it has begun.
    pub(crate) fn pace(&self) -> Pace {
        Pace::of(&self.config)
    }

    /// A connection is closed for what it did not do in time, or does too much.
    pub(crate) fn count_dropped(&self, reason: &str) {
        self.metrics.connections_dropped.with_label_values(&[reason]).inc();
    }

    /// A client was not let in at all: reports it.
    pub(crate) fn report_refused(&self, protocol: &str, address: Option<IpAddr>, reason: &str) {
        if self.hub.wants(EventKind::Refuse) {
            let is_peer = protocol == "peerserver";
            let protocol = Some(if is_peer { Protocol::Peerserver } else { Protocol::Socketio });
            let reason = Some(shown(reason));
            self.hub.report(Event { protocol, address, reason, ..Event::of(EventKind::Refuse) });
        }
    }

    /// Whether clients take too much memory for more to come.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.admission.is_full(now, self.ledger.held(), self.open_connections())
    }

    /// Tells what became of a request, where its client is followed.
    pub(crate) fn tell_story(&self, address: Option<IpAddr>, what: &'static str, status: &str) {
        if !self.client_log.is_on() {
            return;
        }
        if let Some(client) = self.client_log.find_one(Who { address, ..Who::default() }) {
            let address = address.map(tracing::field::display);
            tracing::info!(target: STORIES, client = client.as_str(), address, status, "{what}");
        }
    }

    /// Connections to the public listener.
    pub(crate) fn open_connections(&self) -> usize {
        self.connection_slots.load(Ordering::Relaxed)
    }

    /// A client begins a session on a WebSocket, or is turned away. Behind a trusted proxy (`peer` is one) its place among the connections
    /// of its own address is given back; else its connection has had one since it was accepted.
    pub(crate) fn let_in(
        &self,
        address: Option<IpAddr>,
        peer: Option<SocketAddr>,
    ) -> Result<Option<AddressSlot>, TurnedAway> {
        let now = Instant::now();
        if self.is_full(now) {
            self.count_dropped(TurnedAway::FULL.reason);
            return Err(TurnedAway::FULL);
        }
        let slot = self.place_of(address, peer)?;
        self.gate.handshake(now, address).inspect_err(|away| self.count_dropped(away.reason))?;
        Ok(slot)
    }

    /// Whether a token is looked at that a request shows which is no handshake.
    pub(crate) fn let_in_token(&self, address: Option<IpAddr>) -> Result<(), TurnedAway> {
        self.gate.token(Instant::now(), address).inspect_err(|away| self.count_dropped(away.reason))
    }

    /// The same for a session that begins with polling: it has a place of its own until it has a WebSocket.
    pub(crate) fn let_in_polling(
        &self,
        address: Option<IpAddr>,
        peer: Option<SocketAddr>,
    ) -> Result<Option<AddressSlot>, TurnedAway> {
        match self.let_in(address, peer)? {
            Some(slot) => Ok(Some(slot)),
            None => {
                let slot = self.gate.session(Instant::now(), address);
                slot.inspect_err(|away| self.count_dropped(away.reason))
            }
        }
    }

    /// The place of a client among the connections of its address, where its connection has none of its own: behind a trusted proxy.
    pub(crate) fn place_of(
        &self,
        address: Option<IpAddr>,
        peer: Option<SocketAddr>,
    ) -> Result<Option<AddressSlot>, TurnedAway> {
        if !peer.is_some_and(|peer| self.config.trusts(peer.ip())) {
            return Ok(None);
        }
        let slot = self.gate.connection(Instant::now(), address, self.open_connections());
        slot.inspect_err(|away| self.count_dropped(away.reason))
    }

    /// This thread's shard.
    pub(crate) fn shard(&self) -> Option<Rc<ShardRuntime>> {
        ShardRuntime::current()
    }

    /// Has a client cut off when the node holds more than its budget.
    pub(crate) fn evict_for_budget(&self, now: Instant) {
        self.ledger.observe(now);
        if let Some(victim) = self.ledger.next_victim() {
            self.cut_off(&victim);
        }
    }

    /// The same while this one waits for room for so many bytes; when the budget is just kept, only one that does not move. Whether there
    /// was one.
    pub(crate) fn evict_for_room(&self, now: Instant, waiting: &Charge, bytes: usize) -> bool {
        self.ledger.observe(now);
        let victim = self.ledger.next_victim().or_else(|| self.ledger.next_stuck(waiting, bytes));
        victim.inspect(|victim| self.cut_off(victim)).is_some()
    }

    fn cut_off(&self, victim: &Arc<Account>) {
        match victim.evict_at() {
            EvictAt::Shard(shard) => {
                self.mailboxes.push(*shard, ShardMessage::EvictForBudget(victim.clone()));
            }
            EvictAt::Connection(connection) => {
                self.metrics.evictions.with_label_values(&["memory_budget"]).inc();
                connection.hang_up();
            }
        }
    }

    /// Clients that are connected.
    pub(crate) fn clients(&self) -> u64 {
        let all = [("socketio", "polling"), ("socketio", "websocket"), ("peerserver", "websocket")];
        let of =
            |(protocol, transport)| self.metrics.connections.with_label_values(&[protocol, transport]).get();
        all.into_iter().map(of).sum::<i64>().max(0) as u64
    }

    /// A number for a request, unlike any other's on any node.
    pub(crate) fn request_number(&self) -> u64 {
        request_number(self.tag, self.requests.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl DescribeNode for NodeShared {
    fn node(&self) -> NodeRow {
        let clients = |protocol, transport| {
            let clients = self.metrics.connections.with_label_values(&[protocol, transport]).get();
            clients.max(0) as u64
        };
        let own = self.cluster.nodes().get(&self.tag).map(|node| node.name.clone());
        NodeRow {
            id: self.tag.to_string(),
            name: own.unwrap_or_else(|| self.name.clone().unwrap_or_else(|| self.tag.to_string())),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            status: self.node_status(),
            started_at: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            shards: self.mailboxes.len() as u32,
            polling_clients: clients("socketio", "polling"),
            websocket_clients: clients("socketio", "websocket"),
            peers: clients("peerserver", "websocket"),
            held_bytes: self.ledger.held() as u64,
            waiting_bytes: self.ledger.waiting() as u64,
            memory_budget: self.config.memory_budget as u64,
        }
    }

    fn rates(&self) -> NodeRates {
        NodeRates { node: self.tag.to_string(), rates: self.rates.rates(&self.metrics) }
    }

    fn realm(&self, key: Option<&str>) -> Option<RealmId> {
        let keys = &self.config.peer.keys;
        let realm = key.map_or(Some(0), |key| keys.iter().position(|known| known == key))?;
        RealmId::try_from(realm).ok()
    }

    fn request_drain(&self) {
        if self.lifecycle.request_drain() {
            self.drain_requested.notify_one();
        }
    }

    fn set_log(&self, order: &LogOrder) -> bool {
        let clients: Result<Vec<ClientSelector>, _> = order.clients.iter().map(|text| text.parse()).collect();
        let (Ok(clients), Ok(level)) = (clients, order.level.as_deref().map(str::parse).transpose()) else {
            return false;
        };
        self.client_log.change(clients, level, Duration::from_secs(order.seconds))
    }
}

impl NodeShared {
    fn node_status(&self) -> NodeStatus {
        match self.cluster.status() {
            _ if self.lifecycle.is_draining() => NodeStatus::Draining,
            _ if self.lifecycle.is_stopping() => NodeStatus::Stopping,
            Status::Joining => NodeStatus::Joining,
            Status::Degraded => NodeStatus::Degraded,
            Status::Online => NodeStatus::Online,
        }
    }
}
