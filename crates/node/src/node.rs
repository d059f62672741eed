//! A node: composed of its shards, its way to other nodes and its edge; and how it is started and stopped.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use actix_server::Server;
use actix_web::{
    HttpRequest,
    http::header::{self, HeaderValue},
    web::ServiceConfig,
};
use signalbox_auth::Revocation;
use signalbox_cluster::{Address, Cluster, NodeInfo, NodeTag, Owner, ShardId, Status};
use signalbox_cluster_redis::{
    CannotConnect, CannotReplace, CannotRevoke, Connected, Operations, RedisAccess, RevocationList as _,
    Revoker, RulesStore, Settings, connect,
};
use signalbox_node_link::LinkHandle;
use signalbox_rules::RuleSet;
use signalbox_telemetry::{Metrics, take_http_errors, take_lines_left_out};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    app::{App, Socket, To},
    client_log::ClientLog,
    config::{ClusterConfig, Config},
    edge::{
        client,
        cors::Cors,
        mount, polling,
        server::{Serve, serve},
    },
    events::EventHub,
    ledger::Ledger,
    lifecycle::Lifecycle,
    limits::{Admission, Gate},
    operation_store::OperationStore,
    operations,
    peering::{
        Peering,
        bus::ClusterEvents,
        revocations::{Revocations, stored},
        rules::{PutRulesError, RulesInForce, SharedRules},
    },
    policy::{AllowAll, GuardedPolicy, Policy, SessionClient},
    routing::LocalAddresses,
    routing::Reply,
    shard::{
        ShardContext,
        mailbox::{Request, ShardMessage},
        runtime::{Mailboxes, ShardRuntime, load::Loads},
    },
    shared::NodeShared,
};

/// How often a stopping node looks whether its clients are gone.
const STOP_POLL: Duration = Duration::from_millis(20);

/// What worker threads need to become shards.
struct Workers {
    app: Arc<App>,
    addresses: Arc<LocalAddresses>,
    /// The mailboxes of shards that no thread is yet.
    unclaimed: Mutex<Vec<UnboundedReceiver<ShardMessage>>>,
}

/// A node: sessions, rooms and peers on any number of worker threads. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<NodeShared>,
    workers: Arc<Workers>,
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
        Self::build(None, config, app, metrics, policy, |config, _, events, _, _| {
            (Arc::new(Cluster::standalone(config, events)), LinkHandle::default(), None)
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
        let known = policy.clone();
        let largest = config.outbox_limit.max(config.engine.max_payload);
        let of_redis = metrics.clone();
        let name = cluster.name.clone();
        let node =
            Self::build(name, config, app, metrics, policy, |config, tag, events, revocations, rules| {
                // Until Redis has told.
                revocations.set_current(false);
                let owner = Owner { tag, epoch: 0 };
                let name = cluster.name.clone().unwrap_or_else(|| tag.to_string());
                let info = NodeInfo::new(owner, name);
                let settings = Settings {
                    url: cluster.redis_url.clone(),
                    authorities: cluster.redis_authorities.clone(),
                    prefix: cluster.redis_prefix.clone(),
                    listen: cluster.listen,
                    secret: cluster.secret.clone(),
                    tls: cluster.tls.clone(),
                    on_secret: Some(Arc::new(move |secret: &str| known.cluster_secret(secret))),
                    revocations: Some(revocations),
                    rules: Some(rules),
                    largest,
                };
                match connect(config, &settings, info, events.clone(), events.clone(), of_redis.clone()) {
                    Ok(Connected { cluster, link, revoker, access, rules, operations }) => {
                        (cluster, link, Some((revoker, access, rules, operations)))
                    }
                    Err(error) => {
                        failed = Some(error);
                        (Arc::new(Cluster::standalone(config, events)), LinkHandle::default(), None)
                    }
                }
            });
        failed.map_or(Ok(node), Err)
    }

    fn build(
        name: Option<String>,
        config: Config,
        app: App,
        metrics: Metrics,
        policy: Arc<dyn Policy>,
        cluster: impl FnOnce(
            &signalbox_cluster::Config,
            NodeTag,
            Arc<ClusterEvents>,
            Arc<Revocations>,
            Arc<SharedRules>,
        )
            -> (Arc<Cluster>, LinkHandle, Option<(Revoker, RedisAccess, RulesStore, Operations)>),
    ) -> Self {
        let shards = config.shards.clamp(1, 256);
        let tag = NodeTag::random();
        let (mailboxes, unclaimed) = Mailboxes::new(shards, config.mailbox_limit, metrics.clone());
        let mailboxes = Arc::new(mailboxes);
        let shared_state = signalbox_cluster::Config {
            realms: config.peer.keys.clone(),
            concurrent_limit: config.peer.concurrent_limit,
            room_members: config.limits.room_members,
            presence_limit: config.limits.presence,
            expire_timeout: config.peer.expire_timeout,
        };
        let gate = Arc::new(Gate::new(&config.limits, config.max_connections));
        let admission = Admission::new(config.memory_limit, config.max_connections);
        let ledger = Arc::new(Ledger::new(config.memory_budget));
        let hub = Arc::new(EventHub::new(tag, name.as_deref(), metrics.clone()));
        let events = ClusterEvents::new(tag, mailboxes.clone(), ledger.clone(), metrics.clone(), hub.clone());
        let events = Arc::new(events);
        let policy = Arc::new(GuardedPolicy::new(policy, metrics.clone()));
        let revocations = Arc::new(Revocations::new(policy.clone(), mailboxes.clone(), metrics.clone()));
        let rules = Arc::new(SharedRules::new(&app, mailboxes.clone(), metrics.clone()));
        let (cluster, link, stores) =
            cluster(&shared_state, tag, events.clone(), revocations.clone(), rules.clone());
        let (revoker, redis_access, rules_store, operations) = match stores {
            Some((revoker, access, rules, operations)) => {
                (Some(revoker), Some(access), Some(rules), Some(operations))
            }
            None => (None, None, None, None),
        };
        let addresses = Arc::new(LocalAddresses::new(tag, shards));
        let lifecycle = Arc::new(Lifecycle::default());
        let peering = Arc::new(Peering::new(
            cluster.clone(),
            link,
            mailboxes.clone(),
            addresses.clone(),
            lifecycle.clone(),
            metrics.clone(),
            hub.clone(),
        ));
        events.connect(&peering);
        let shared = NodeShared {
            tag,
            name,
            ledger,
            client_log: Arc::new(ClientLog::always(&config.log_clients)),
            config: Arc::new(config),
            policy,
            revocations,
            revoker,
            redis_access,
            rules,
            rules_store,
            operations: OperationStore::new(operations),
            cluster,
            mailboxes,
            peering,
            lifecycle,
            metrics,
            connection_slots: Arc::default(),
            gate,
            admission,
            loads: Loads::new(shards),
            events,
            hub,
            rates: Arc::default(),
            drain_requested: Default::default(),
            drain_cancelled: Default::default(),
            ended_operations: Default::default(),
            started: SystemTime::now(),
            requests: AtomicU64::new(0),
        };
        let workers = Workers { app: Arc::new(app), addresses, unclaimed: Mutex::new(unclaimed) };
        let shared = Arc::new(shared);
        shared.peering.describe(&shared);
        Self { shared, workers: Arc::new(workers) }
    }

    /// Whether Redis can be relied on; always in a cluster of one.
    pub fn status(&self) -> Status {
        self.shared.cluster.status()
    }

    /// Whether the other nodes know this one; always in a cluster of one. Before that they cannot answer what it asks them for its
    /// clients, so it should be sent none.
    pub fn is_introduced(&self) -> bool {
        self.shared.peering.is_introduced()
    }

    /// The metrics it counts in, those that show a present state brought up to date.
    pub fn metrics_now(&self) -> &Metrics {
        let NodeShared { metrics, cluster, ledger, mailboxes, policy, .. } = &*self.shared;
        metrics.degraded.set(i64::from(self.status() == Status::Degraded));
        self.shared.events.count_degraded_time();
        let lease_age = cluster.lease_age(Instant::now()).unwrap_or_default();
        metrics.lease_age_seconds.set(lease_age.as_secs_f64());
        metrics.cluster_nodes.set(cluster.nodes().len() as i64);
        metrics.outbox_bytes.set(ledger.waiting() as i64);
        metrics.held_bytes.set(ledger.held() as i64);
        metrics.memory_budget_bytes.set(self.shared.config.memory_budget as i64);
        for shard in mailboxes.shards() {
            let depth = mailboxes.depth(shard).unwrap_or_default();
            metrics.shard_mailbox_messages.with_label_values(&[&shard.to_string()]).set(depth as i64);
        }
        self.shared.loads.update(metrics);
        metrics.http_errors.inc_by(take_http_errors());
        metrics.tokens_unchecked.inc_by(policy.take_unchecked());
        metrics.revocations.set(policy.revocations().len() as i64);
        metrics.log_lines_left_out.inc_by(take_lines_left_out());
        metrics.full.set(i64::from(self.is_full()));
        metrics.memory_limit_bytes.set(self.shared.config.memory_limit.unwrap_or(0) as i64);
        metrics.draining.set(i64::from(self.is_draining()));
        metrics.followed_clients.set(self.shared.client_log.len() as i64);
        metrics.rooms.set(cluster.rooms() as i64);
        metrics.drain_clients.set(if self.is_draining() { self.shared.clients() as i64 } else { 0 });
        metrics
    }

    /// The metrics it counts in.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Whether no new client should come: those that are here take more than 80 % of the memory that there is, or have 90 % of the
    /// connections that there may be. It stays so until it is less than 70 % of the memory, and 80 % of the connections.
    pub fn is_full(&self) -> bool {
        let shared = &self.shared;
        shared.is_full(Instant::now()) || shared.admission.is_crowded(shared.open_connections())
    }

    /// Revokes tokens on all nodes of the cluster: they are refused from now on, and their holders are disconnected. On this node at once,
    /// on the others within a second; resolves when they are sure to learn of it.
    ///
    /// # Errors
    /// Redis is away, and the other nodes learn of it when it is back and this node with it; or it has no room for more.
    pub async fn revoke(&self, revocations: &[Revocation]) -> Result<(), CannotRevoke> {
        self.shared.revocations.add(revocations);
        let Some(revoker) = &self.shared.revoker else { return Ok(()) };
        revoker.revoke(revocations.iter().filter_map(stored).collect()).await
    }

    /// Introduces itself to Redis with the user and password of this URL, wherever it connects from now on. What is open stays open: give
    /// Redis the new password first, and take the old one away when all nodes have the new one.
    ///
    /// # Errors
    /// The URL makes no sense, or differs from the one in use in more than user and password; everything stays as it was. A node in a
    /// cluster of its own has no Redis, and nothing to do.
    pub fn replace_redis_credentials(&self, url: &str) -> Result<(), CannotReplace> {
        self.shared.redis_access.as_ref().map_or(Ok(()), |access| access.replace_credentials(url))
    }

    /// Its way to Redis, for what else is kept there; none without a cluster. It follows [`Self::replace_redis_credentials`].
    pub fn redis_access(&self) -> Option<&RedisAccess> {
        self.shared.redis_access.as_ref()
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
        if ShardRuntime::current().is_some() {
            return true;
        }
        let shared = &self.shared;
        let mailbox = {
            let mut unclaimed = self.workers.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
            let id = shared.mailboxes.len() - unclaimed.len();
            (!unclaimed.is_empty()).then(|| (id as ShardId, unclaimed.remove(0)))
        };
        let Some((id, mailbox)) = mailbox else { return false };
        let context = ShardContext {
            id,
            node: shared.tag,
            shards: shared.mailboxes.len(),
            config: shared.config.clone(),
            app: self.workers.app.clone(),
            policy: shared.policy.clone(),
            cluster: shared.cluster.clone(),
            addresses: self.workers.addresses.clone(),
            lifecycle: shared.lifecycle.clone(),
            ledger: shared.ledger.clone(),
            metrics: shared.metrics.clone(),
            client_log: shared.client_log.clone(),
            events: shared.hub.clone(),
            router: shared.peering.clone(),
            new_address: Address::random,
        };
        shared.loads.started(id);
        if id == 0 {
            actix_rt::spawn(shared.rates.clone().sample(shared.metrics.clone()));
            actix_rt::spawn(operations::run(shared.clone()));
        }
        ShardRuntime::start(context, shared.mailboxes.clone(), shared.peering.clone(), mailbox);
        true
    }

    /// Serves the node, with `configure`'s routes before its own, on as many workers as it has shards.
    ///
    /// # Errors
    /// What the listener answers.
    pub fn serve<F>(&self, how: Serve, configure: F) -> std::io::Result<Server>
    where
        F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let node = self.clone();
        let enter = move || {
            node.enter();
        };
        serve(self.shared.clone(), enter, how, configure)
    }

    /// Replaces the node's own rules, on every shard within a moment; rules that are under way end as they began. Gives back whether these
    /// are in force now: if others were put by [`put_rules`](Self::put_rules), on any node, those are.
    pub fn set_rules(&self, rules: Arc<RuleSet>) -> bool {
        self.shared.rules.set_own(rules)
    }

    /// Puts rules in force on all nodes of the cluster, in place of those that each has of its own: within a second, and on nodes that
    /// start later. They have to name hooks of this node only. An empty text has each node go by its own again. If `expected` is given, it
    /// has to be the version that is in force. Gives back the new version.
    ///
    /// # Errors
    /// They are wrong, Redis does not answer, or another version is in force. Those in force stay then.
    pub async fn put_rules(&self, text: &str, expected: Option<u64>) -> Result<u64, PutRulesError> {
        self.shared.rules.put(self.shared.rules_store.as_ref(), text, expected).await
    }

    /// The rules that are in force on this node.
    pub fn rules(&self) -> RulesInForce {
        self.shared.rules.in_force()
    }

    /// Mounts both protocols in an `App` of your own, beside your routes, at the paths of the configuration: Socket.IO's, and where the
    /// PeerServer is at the root, of that only `/peerjs` and `/{key}/id` and `/{key}/peers` of its keys. Call it in the factory of an
    /// `HttpServer` that has as many workers as the configuration has shards: each worker's thread becomes one of them. Clients that come to
    /// a thread which is none are answered with 503.
    ///
    /// ```no_run
    /// use actix_web::{App, HttpServer, web};
    /// use signalbox_node::{Config, Cors, Metrics, Node, app::vocabulary};
    ///
    /// # async fn serve() -> std::io::Result<()> {
    /// let config = Config { shards: 2, ..Config::default() };
    /// let app = signalbox_node::App::new().namespace(vocabulary::namespace());
    /// let node = Node::new(config, app, Metrics::new());
    /// let factory = move || {
    ///     App::new()
    ///         .route("/hello", web::get().to(async || "hello"))
    ///         .configure(|routes| node.mount(routes, Cors::Any))
    /// };
    /// HttpServer::new(factory).workers(2).bind(("127.0.0.1", 8080))?.run().await
    /// # }
    /// ```
    ///
    /// `examples/mounted.rs` is a whole server, that also ends well. **[`Node::serve`] costs less and protects more**, so take it where you
    /// have no `App`, or one that can be the routes which it takes:
    ///
    /// - Here WebSockets are those of `actix-ws`. Each keeps the buffers of actix's HTTP dispatcher, and each message is copied and encoded
    ///   for each receiver, where `serve` shares one frame among all. In a room of 100 a delivery took 10.9 µs of CPU where `serve` took
    ///   9.2, of which the node's own part is 3.4 against 0.8 and the rest is the kernel's; an idle connection took 11.8 KiB where it took
    ///   1.7 (`loadtest fanout` and `loadtest idle`, one worker, two runs in turns, 2026-11-29).
    /// - Up to 64 KiB for each client, or one message, are beyond what [`Config::memory_budget`] counts.
    /// - Connections, TLS, and the time for a head are your server's: [`Config::header_timeout`], [`Config::max_header_size`],
    ///   [`Config::proxy_protocol`] mean nothing here, [`Config::max_connections`] counts WebSockets, and
    ///   [`ClientLimits::connections_per_address`](crate::ClientLimits::connections_per_address) counts behind trusted proxies only. A body
    ///   has [`Config::body_timeout`] to arrive in, however fast it comes.
    pub fn mount(&self, routes: &mut ServiceConfig, cors: Cors) {
        if !self.enter() {
            tracing::error!(
                "more workers than the node has shards: whoever comes to this one is turned away"
            );
        }
        mount::routes(self.shared.clone(), cors, routes);
    }

    /// Everybody in a namespace.
    pub fn namespace(&self, namespace: &str) -> To {
        To::new(self.shared.peering.clone(), namespace.into())
    }

    /// A client's socket, by its id; `None` for what is no id. Whether the client is still there shows when it is used.
    pub fn socket(&self, namespace: &str, id: &str) -> Option<Socket> {
        let id = Address::parse(id)?;
        Some(Socket { router: self.shared.peering.clone(), namespace: namespace.into(), id })
    }

    /// Whose the Engine.IO session with this `sid` is, on whichever node it lives; `None` where there is none, or its node does not answer
    /// in time. Nobody but the client knows its `sid`: showing it is as good as the token that the session was opened with. Socket ids,
    /// which others know, are none.
    pub async fn session_client(&self, sid: &str) -> Option<SessionClient> {
        let (sid, place) = polling::owner(&self.shared, sid).await?;
        let (reply, client) = Reply::channel();
        polling::dispatch(&self.shared, place, Request::Identify { sid, reply }).ok()?;
        client.await.ok()?
    }

    /// Where the client of a request is, behind the proxies that are trusted: as handshakes know it.
    pub fn client_address(&self, request: &HttpRequest) -> Option<IpAddr> {
        client::address_of(request.headers(), request.peer_addr(), self.config())
    }

    /// Whether a token is looked at that a request of one's own routes shows: bad ones cost an address its handshakes
    /// ([`handshakes_per_address`](crate::config::ClientLimits::handshakes_per_address)), and one that has none left is to be told to wait so
    /// many seconds.
    ///
    /// # Errors
    /// The seconds, for `Retry-After`.
    pub fn admit_token(&self, request: &HttpRequest) -> Result<(), u64> {
        self.shared.let_in_token(self.client_address(request)).map_err(|away| away.seconds())
    }

    /// Such a token was bad.
    pub fn report_bad_token(&self, request: &HttpRequest) {
        self.shared.gate.bad_token(Instant::now(), self.client_address(request));
    }

    /// Whether a request is answered as far as its `Origin` goes: it has none, or one that is allowed.
    pub fn allows_origin(&self, request: &HttpRequest) -> bool {
        let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
        client::origin_allowed(origin, self.config())
    }

    /// Whether the node is stopping.
    pub fn is_stopping(&self) -> bool {
        self.shared.lifecycle.is_stopping()
    }

    /// Closes every client's transport, so that clients reconnect elsewhere (a Socket.IO client that is told to *disconnect* would
    /// not), and waits until they are gone, at most `grace`. Returns how many are left.
    pub async fn stop(&self, grace: Duration) -> usize {
        // There is no way back.
        self.shared.lifecycle.commit_drain();
        self.shared.lifecycle.start_stopping();
        for shard in self.shared.mailboxes.shards() {
            self.shared.mailboxes.push(shard, ShardMessage::Stop);
        }
        let until = Instant::now() + grace;
        loop {
            let open = self.shared.lifecycle.open_connections();
            if open == 0 || Instant::now() >= until {
                return open;
            }
            tokio::time::sleep(STOP_POLL).await;
        }
    }
}
