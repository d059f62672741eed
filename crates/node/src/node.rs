//! A node: what its shards share, and how it is started and stopped.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use signalbox_cluster::{Address, Cluster, NodeInfo, NodeTag, Owner, ShardId, Status};
use signalbox_cluster_redis::{CannotConnect, Connected, Settings, connect};
use signalbox_node_link::LinkHandle;
use signalbox_socketio::Message;
use signalbox_telemetry::Metrics;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    app::{App, Socket, To},
    config::ClusterConfig,
    config::Config,
    inbox::Inboxes,
    mailbox::{Audience, ShardMessage, SocketCommand},
    policy::{AllowAll, Policy},
    relay::{Acceptances, NodeLookup, RelayedPolls},
    remote::{NodeMessage, RemoteSocketOp},
    shard::Shard,
};

thread_local! {
    static SHARD: RefCell<Option<Rc<Shard>>> = const { RefCell::new(None) };
}

/// How often a stopping node looks whether its clients are gone.
const STOP_POLL: Duration = Duration::from_millis(20);

/// Which node gave a request its number: the one where it landed.
pub(crate) fn node_of_request(number: u64) -> NodeTag {
    NodeTag((number >> 32) as u32)
}

/// What the shards of a node share.
pub(crate) struct NodeShared {
    pub(crate) tag: NodeTag,
    pub(crate) config: Config,
    pub(crate) app: App,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) inboxes: Arc<Inboxes>,
    pub(crate) cluster: Arc<Cluster>,
    /// The link to other nodes, once it is there.
    pub(crate) link: LinkHandle,
    /// Requests that other nodes have yet to accept.
    pub(crate) acceptances: Acceptances,
    /// Requests that wait here for other nodes.
    pub(crate) relayed_polls: RelayedPolls,
    /// Nodes that were looked for in vain.
    pub(crate) node_lookup: NodeLookup,
    /// Sockets that were born on other nodes and have moved here, and their shards.
    pub(crate) moved_in: papaya::HashMap<Address, ShardId, ahash::RandomState>,
    pub(crate) metrics: Metrics,
    /// Bytes that wait for slow clients, by shard.
    pub(crate) waiting: Box<[AtomicIsize]>,
    /// Bytes of answers to polls that their clients have yet to read.
    pub(crate) unread: AtomicUsize,
    /// A client is being cut off because of the budget.
    pub(crate) is_evicting: AtomicBool,
    /// Numbers requests.
    requests: AtomicU64,
    /// WebSockets that are open.
    pub(crate) open_conns: AtomicUsize,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) is_draining: AtomicBool,
    unclaimed: Mutex<Vec<UnboundedReceiver<ShardMessage>>>,
}

impl NodeShared {
    /// The shard of this node that knows where an address is: it was born there, or has moved there from another node.
    pub(crate) fn shard_of(&self, address: Address) -> Option<ShardId> {
        if address.node() != self.tag {
            return self.moved_in.pin().get(&address).copied();
        }
        (usize::from(address.shard()) < self.inboxes.len()).then(|| address.shard())
    }

    /// A number for a request, unlike any other's on any node.
    pub(crate) fn request_number(&self) -> u64 {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        u64::from(self.tag.0) << 32 | number & 0xFFFF_FFFF
    }

    /// Hands something to the shard of a socket, or to its node. To another node goes what needs no answer; who waits for one is
    /// told by the end of its channel.
    pub(crate) fn direct(&self, socket_command: SocketCommand) {
        if let Some(shard) = self.shard_of(socket_command.to) {
            self.inboxes.push(shard, ShardMessage::SocketCommand(socket_command));
            return;
        }
        let SocketCommand { to, namespace, what } = socket_command;
        if let Ok(what) = RemoteSocketOp::of(&namespace, what) {
            self.tell(to.node(), &NodeMessage::SocketOp { to, namespace, what });
        }
    }

    /// Begins a broadcast on this thread's shard, or on the first.
    pub(crate) fn broadcast(&self, to: Audience, message: Message, volatile: bool) {
        let shard = SHARD.with_borrow(|shard| shard.as_ref().map_or(0, |shard| shard.id()));
        self.inboxes.broadcast(shard, ShardMessage::Begin { to, message, volatile });
    }
}

/// A node: sessions, rooms and peers on any number of worker threads. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<NodeShared>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("tag", &self.shared.tag).finish_non_exhaustive()
    }
}

impl Node {
    /// A node in a cluster of its own, that allows everything.
    pub fn new(config: Config, app: App, metrics: Metrics) -> Self {
        Self::with_policy(config, app, metrics, Arc::new(AllowAll))
    }

    /// A node in a cluster of its own, guarded by a policy.
    pub fn with_policy(config: Config, app: App, metrics: Metrics, policy: Arc<dyn Policy>) -> Self {
        Self::build(config, app, metrics, policy, |config, _, outlet| {
            (Arc::new(Cluster::standalone(config, outlet)), LinkHandle::default())
        })
    }

    /// A node of the cluster that shares a Redis, guarded by a policy. It connects in the background.
    ///
    /// # Errors
    /// The URL of Redis cannot be used, or the node link cannot listen.
    pub fn join(
        config: Config,
        cluster: &ClusterConfig,
        app: App,
        metrics: Metrics,
        policy: Arc<dyn Policy>,
    ) -> Result<Self, CannotConnect> {
        let mut failed = None;
        let largest = config.outbox_limit.max(config.engine.max_payload);
        let node = Self::build(config, app, metrics, policy, |config, tag, outlet| {
            let owner = Owner { tag, epoch: 0 };
            let name = cluster.name.clone().unwrap_or_else(|| tag.to_string());
            let info = NodeInfo::new(owner, name);
            let settings = Settings {
                url: cluster.redis_url.clone(),
                prefix: cluster.redis_prefix.clone(),
                listen: cluster.listen,
                secret: cluster.secret.clone(),
                largest,
            };
            match connect(config, &settings, info, outlet.clone(), outlet.clone()) {
                Ok(Connected { cluster, link }) => (cluster, link),
                Err(error) => {
                    failed = Some(error);
                    (Arc::new(Cluster::standalone(config, outlet)), LinkHandle::default())
                }
            }
        });
        failed.map_or(Ok(node), Err)
    }

    fn build(
        config: Config,
        app: App,
        metrics: Metrics,
        policy: Arc<dyn Policy>,
        cluster: impl FnOnce(&signalbox_cluster::Config, NodeTag, Arc<Inboxes>) -> (Arc<Cluster>, LinkHandle),
    ) -> Self {
        let (inboxes, receivers) =
            Inboxes::new(config.shards.clamp(1, 256), config.inbox_limit, metrics.clone());
        let inboxes = Arc::new(inboxes);
        let tag = NodeTag::random();
        let shared = signalbox_cluster::Config {
            realms: config.peer.keys.clone(),
            concurrent_limit: config.peer.concurrent_limit,
            expire_timeout: config.peer.expire_timeout,
        };
        let (cluster, link) = cluster(&shared, tag, inboxes.clone());
        let waiting = (0..inboxes.len()).map(|_| AtomicIsize::new(0)).collect();
        let shared = NodeShared {
            tag,
            config,
            app,
            policy,
            inboxes,
            cluster,
            link,
            acceptances: Acceptances::default(),
            relayed_polls: RelayedPolls::default(),
            node_lookup: NodeLookup::default(),
            moved_in: papaya::HashMap::default(),
            metrics,
            waiting,
            unread: AtomicUsize::new(0),
            is_evicting: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            open_conns: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            unclaimed: Mutex::new(receivers),
        };
        let shared = Arc::new(shared);
        shared.inboxes.belong_to(Arc::downgrade(&shared));
        Self { shared }
    }

    /// Whether Redis can be relied on; always in a cluster of one.
    pub fn status(&self) -> Status {
        self.shared.cluster.status()
    }

    /// The metrics it counts in, those that show a present state brought up to date.
    pub fn metrics_now(&self) -> &Metrics {
        let metrics = &self.shared.metrics;
        metrics.degraded.set(i64::from(self.status() == Status::Degraded));
        metrics.cluster_nodes.set(self.shared.cluster.nodes().len() as i64);
        metrics.draining.set(i64::from(self.is_draining()));
        metrics
    }

    /// The metrics it counts in.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// What the cluster calls it where it has no other name; made at every start.
    pub fn tag(&self) -> String {
        self.shared.tag.to_string()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Makes the present thread one of the node's shards, if it is none yet and there is one left to be. Call it on every worker
    /// thread, inside its runtime; [`Node::serve`] does.
    pub fn enter(&self) -> bool {
        if SHARD.with_borrow(Option::is_some) {
            return true;
        }
        let receiver = {
            let mut unclaimed = self.shared.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
            let id = self.shared.inboxes.len() - unclaimed.len();
            (!unclaimed.is_empty()).then(|| (id as ShardId, unclaimed.remove(0)))
        };
        let Some((id, receiver)) = receiver else { return false };
        let shard = Shard::start(id, self.shared.clone(), receiver);
        SHARD.set(Some(shard));
        true
    }

    /// This thread's shard.
    pub(crate) fn shard(&self) -> Option<Rc<Shard>> {
        SHARD.with_borrow(Clone::clone)
    }

    /// Everybody in a namespace.
    pub fn namespace(&self, namespace: &str) -> To {
        To::new(self.shared.clone(), namespace.into())
    }

    /// A client's socket, by its id; `None` for what is no id. Whether the client is still there shows when it is used.
    pub fn socket(&self, namespace: &str, id: &str) -> Option<Socket> {
        let id = Address::parse(id)?;
        Some(Socket { node: self.shared.clone(), namespace: namespace.into(), id })
    }

    /// Whether the node is stopping.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Acquire)
    }

    /// Closes every client's transport, so that clients reconnect elsewhere (a Socket.IO client that is told to *disconnect* would
    /// not), and waits until they are gone, at most `grace`. Returns how many are left.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.shared.is_stopping.store(true, Ordering::Release);
        for shard in 0..self.shared.inboxes.len() {
            self.shared.inboxes.push(shard as ShardId, ShardMessage::Stop);
        }
        let until = Instant::now() + grace;
        loop {
            let open = self.shared.open_conns.load(Ordering::Acquire);
            if open == 0 || Instant::now() >= until {
                return open;
            }
            tokio::time::sleep(STOP_POLL).await;
        }
    }
}
