//! The cluster's driver for a store in Redis: it makes the calls of a [`Cluster`], and gives back what is published.
//!
//! In the order that data flows:
//!
//! - `driver`: what the cluster asks for, put into a queue.
//! - `pipeline`: takes calls out of it in their order, and sends them to Redis in batches.
//! - `heartbeats`: the lease is renewed beside all of that.
//! - `reads`, `reaps`: pages of users, and the records of dead nodes, beside the ordered calls.
//! - `calls`, `replies`: calls as Redis commands, and Redis' answers as replies; `call_kind`, `measures`: what is measured of them;
//!   `scripts`: the Lua scripts, each a step that the
//!   [`Model`](signalbox_cluster::model::Model) describes; `keys`: names of keys and channels; `wire`: the bytes of records and
//!   messages.
//! - `access`: user and password, which may change.
//! - `backend`: where Redis is. `single_server`: one server at a time, fixed or named by Sentinel; `cluster`: the masters of a
//!   Redis Cluster.
//! - `commands`: commands on their way, and what may have become of them; `router`: commands to the masters of a Redis Cluster,
//!   each to the one that owns its slot; `connection`: one connection to one server.
//! - `subscriber`: the connection through which a single server's channels are subscribed; `dispatch`: hands their messages to
//!   the cluster.
//! - `revocations`: what is revoked, which all nodes know. `operations`: long operations of operators, that any node may run.
//! - `hook_queue`: what is to be sent to the application's server.
//! - `shared_rules`: the rules that all nodes have.
//! - `clock`: the machine's, by which it is told how long something was on its way.
//! - `link`: the node link's address and secret, which nodes share through Redis.
//!
//! All of it runs on one thread of its own, so that a busy worker never costs the node its lease.

mod access;
mod backend;
mod backlog;
mod broadcasts;
mod call_kind;
mod calls;
mod clock;
mod cluster;
mod command_error;
mod commands;
mod connection;
mod dispatch;
mod driver;
mod heartbeats;
mod hook_queue;
mod keys;
mod link;
mod measures;
mod operations;
mod pipeline;
mod reads;
mod reaps;
mod replies;
mod revocations;
mod router;
mod scripts;
mod shared_rules;
mod single_server;
mod subscriber;
mod subscription_change;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use signalbox_cluster::{Cluster, Config, DeliverySink, NodeInfo};
use signalbox_node_link::{Handler, Limits, LinkHandle, LinkTls, Secret};
use signalbox_telemetry::Metrics;
use tokio::{
    sync::{Notify, mpsc::unbounded_channel},
    time::MissedTickBehavior,
};

pub use self::access::{CannotReplace, RedisAccess};
pub use self::hook_queue::{HOOK_LANES, HookEntry, HookQueue, HookQueueAway, WaitingHook};
pub use self::operations::{Operations, StoreAway};
pub use self::revocations::{CannotRevoke, Cutoff, RevocationList, Revoker, StoredRevocation, revoke_in};
pub use self::shared_rules::{CannotPutRules, RulesHolder, RulesStore, VersionedRules};
use self::{backend::Backend, calls::Context, driver::RedisDriver, keys::Keys, scripts::Scripts};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_millis(1_000);
/// How long a read or a subscription may take to be answered.
const RESPONSE: Duration = Duration::from_millis(2_000);
/// How often a subscriber connection is probed.
const PROBE: Duration = Duration::from_secs(1);
/// The pause before the next attempt to connect, in milliseconds: long enough to be no burden, short enough that a store that is
/// back is found at once.
const BACKOFF: std::ops::Range<u64> = 50..400;
/// How often the cluster is told that time has passed.
const TICK: Duration = Duration::from_millis(100);

/// Told the secret that all nodes of a cluster share.
pub type OnSecret = Arc<dyn Fn(&str) + Send + Sync>;

/// Where the store is, and how other nodes reach this one.
#[derive(Clone)]
pub struct Settings {
    /// `redis://[user:password@]host[:port][/db]`, or with Sentinel
    /// `redis+sentinel://[user:password@]host:port,host:port/NAME[/db]`, or of a Redis Cluster
    /// `redis+cluster://[user:password@]host:port,host:port`; `rediss` for TLS.
    pub url: String,
    /// Certificates in PEM of the only authorities that count for `rediss`; `None`: those that browsers trust.
    pub authorities: Option<Vec<u8>>,
    /// The beginning of the names of all keys and channels; without braces.
    pub prefix: String,
    /// Where the node link listens; `None`: any free port of the address that reaches Redis.
    pub listen: Option<SocketAddr>,
    /// The cluster's secret; `None`: made once, and shared through Redis.
    pub secret: Option<String>,
    /// TLS for the node link, where it is on.
    pub tls: Option<Arc<LinkTls>>,
    /// Told the secret, once it is known and whenever it changes. It must not block.
    pub on_secret: Option<OnSecret>,
    /// What the node knows to be revoked, kept like that of the other nodes; `None`: it does not care.
    pub revocations: Option<Arc<dyn RevocationList>>,
    /// The rules that the node has, kept like those of the other nodes; `None`: it has none.
    pub rules: Option<Arc<dyn RulesHolder>>,
    /// Most bytes that a client may send at once, or have waiting. What crosses the node link for a client is at most three times
    /// that: binary data is a third longer in a poll, and one message may come on top of what waits.
    pub largest: usize,
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Why a node cannot be part of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum CannotConnect {
    /// The URL makes no sense.
    #[error("--redis-url: it cannot be used: {0} (as in redis://user:password@127.0.0.1:6379/0)")]
    Url(String),
    /// The node link cannot listen.
    #[error("--cluster-addr: cannot listen on {0}: {1} (choose an address of this machine and a free port)")]
    Listen(SocketAddr, std::io::Error),
}

/// A node that is part of a cluster.
#[derive(Debug)]
pub struct Connected {
    /// What its shards use.
    pub cluster: Arc<Cluster>,
    /// Its link to the other nodes; there once the cluster's secret is known.
    pub link: LinkHandle,
    /// Revokes on all nodes.
    pub revoker: Revoker,
    /// Its way to Redis.
    pub access: RedisAccess,
    /// Puts rules in force on all nodes.
    pub rules: RulesStore,
    /// Long operations of operators.
    pub operations: Operations,
}

/// Connects a node to its cluster, in the background: it is [`Joining`](signalbox_cluster::Status::Joining) until it has
/// succeeded. Deliveries go to `sink`, requests of other nodes to `handler`; what Redis takes and breaks is counted in `metrics`.
///
/// # Errors
/// The URL cannot be used, or the node link cannot listen.
pub fn connect(
    config: &Config,
    settings: &Settings,
    mut node: NodeInfo,
    sink: Arc<dyn DeliverySink>,
    handler: Arc<dyn Handler>,
    metrics: Metrics,
) -> Result<Connected, CannotConnect> {
    let backend = Arc::new(Backend::new(&settings.url, settings.authorities.as_deref())?);
    let access = RedisAccess::new(backend.clone(), &settings.url, settings.authorities.clone());
    let (listener, reached) = link::listen(&backend, settings.listen)?;
    node.link = Some(reached);
    node.takes_tls = settings.tls.is_some();
    let context = Arc::new(Context {
        keys: Keys::new(&settings.prefix),
        scripts: Scripts::new(),
        realms: config.realms.clone(),
        expire_timeout_ms: config.expire_timeout.as_millis(),
        publish: backend.publish(),
        metrics,
    });
    let tag = node.owner.tag;
    let service = link::Service {
        listener,
        tag,
        secret: settings.secret.clone(),
        on_secret: settings.on_secret.clone(),
        tls: settings.tls.clone(),
        limits: limits(settings.largest),
        handler,
        handle: LinkHandle::default(),
    };
    let link = service.handle.clone();
    let (driver, commands, due) = RedisDriver::new();
    let cluster = Arc::new(Cluster::shared(config, node, sink, Arc::new(driver)));
    // Until the secret is known, nobody else can compare a token; all are written again then.
    cluster.set_token_secret(Instant::now(), &Secret::random());
    let of_thread = cluster.clone();
    let (revoker, to_revoke) = Revoker::new();
    let (operations, asked_of_operations) = Operations::new();
    let known = settings.revocations.clone();
    let (rules, to_put) = RulesStore::new();
    let holder = settings.rules.clone();
    let run = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let (changes, subscriptions) = unbounded_channel();
        runtime.block_on(async move {
            let links = service.run(&backend, &context, &of_thread);
            let subscriber =
                subscriber::run(&backend, context.clone(), tag, of_thread.clone(), subscriptions);
            let (reads, asked) = unbounded_channel();
            let readers = reads::run(&backend, context.clone(), of_thread.clone(), asked);
            let (reaps, to_reap) = unbounded_channel();
            let reaper = reaps::run(&backend, context.clone(), of_thread.clone(), to_reap);
            let revocations =
                revocations::run(&backend, context.clone(), of_thread.clone(), known, to_revoke);
            let shared_rules = shared_rules::run(&backend, context.clone(), holder, to_put);
            let operations = operations::run(&backend, context.clone(), asked_of_operations);
            let beside = pipeline::Beside { subscriptions: changes, reads, reaps };
            let degraded = Arc::<Notify>::default();
            let heartbeats =
                heartbeats::run(&backend, context.clone(), of_thread.clone(), due, degraded.clone());
            let pipeline =
                pipeline::run(&backend, context.clone(), tag, of_thread.clone(), commands, beside, degraded);
            tokio::select! {
                () = pipeline => {}
                () = subscriber => {}
                () = heartbeats => {}
                () = readers => {}
                () = reaper => {}
                () = tick(&of_thread) => {}
                () = links => {}
                () = revocations => {}
                () = shared_rules => {}
                () = operations => {}
            }
        });
    };
    // A node without this thread stays `Joining`; when threads cannot be made, its workers have failed before.
    let _ = thread::Builder::new().name("cluster".to_owned()).spawn(run);
    Ok(Connected { cluster, link, revoker, access, rules, operations })
}

/// The link's limits, so that what clients may send or have waiting fits.
fn limits(largest: usize) -> Limits {
    let default = Limits::default();
    let largest = largest.saturating_mul(3);
    Limits { frame: default.frame.max(largest), waiting: default.waiting.max(largest), ..default }
}

fn backoff() -> Duration {
    Duration::from_millis(rand::random_range(BACKOFF))
}

async fn tick(cluster: &Cluster) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        cluster.tick(Instant::now());
    }
}
