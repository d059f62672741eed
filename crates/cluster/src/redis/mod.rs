//! The driver for a store in Redis: it makes the machine's calls, and brings what is said on the bus.
//!
//! - `keys`: names of keys and channels.
//! - `scripts`: each a step that the model describes.
//! - `calls`: calls as commands, and what Redis answers as replies.
//! - `wire`: what is written into Redis and said on the bus.
//! - `backend`: where Redis is; `single_server`: one server at a time; `cluster`: the masters of a Redis Cluster.
//! - `commands`: what may have become of a command; `connection`: one connection for them.
//! - `pipeline`: the calls in their order, pipelined.
//! - `subscriber`: the connection that hears the bus of a single server; `dispatch`: what is heard.
//!
//! All of it runs on one thread of its own, so that a busy worker never costs the node its lease.

mod backend;
mod calls;
mod cluster;
mod commands;
mod connection;
mod dispatch;
mod keys;
mod pipeline;
mod scripts;
mod single_server;
mod subscriber;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc::unbounded_channel, time::MissedTickBehavior};

use self::{backend::Backend, calls::Context, commands::Commands, keys::Keys, scripts::Scripts};
use crate::{
    Cluster, Config, NodeInfo, NodeTag,
    command::DeliverySink,
    link::{Handler, Limits, Link, Secret},
};

/// How long a connection may take to open, and a command to be answered: a lease lasts six seconds, and is to be renewed in time
/// on a second connection if the first is dead.
const CONNECT: Duration = Duration::from_millis(1_000);
const RESPONSE: Duration = Duration::from_millis(2_000);
/// How soon Redis is asked again for the cluster's secret.
const RETRY: Duration = Duration::from_millis(250);
/// How often a connection that hears the bus is probed.
const PROBE: Duration = Duration::from_secs(1);
/// How long to wait before the next try to connect, in milliseconds: long enough to be no burden, short enough that a store that
/// is back is found at once.
const BACKOFF: std::ops::Range<u64> = 50..400;
/// How often the machine looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// Where the store is, and how other nodes reach this one.
#[derive(Clone)]
pub struct Settings {
    /// `redis://[user:password@]host[:port][/db]`, or with Sentinel
    /// `redis+sentinel://[user:password@]host:port,host:port/NAME[/db]`, or of a Redis Cluster
    /// `redis+cluster://[user:password@]host:port,host:port`; `rediss` for TLS.
    pub url: String,
    /// What all keys and channels begin with; without braces.
    pub prefix: String,
    /// Where the node link listens; `None`: any free port of the address that reaches Redis.
    pub listen: Option<SocketAddr>,
    /// What nodes of the cluster know; `None`: made once, and shared through Redis.
    pub secret: Option<String>,
    /// Most bytes that a client may send at once, or have waiting: what goes over the node link for it is not larger than three
    /// times that. (What is binary is a third longer in a poll, and one message may come on top of what waits.)
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

/// Connects a node to its cluster, in the background: it is [`Joining`](crate::Status::Joining) until it has succeeded.
///
/// # Errors
/// The URL cannot be used, or the node link cannot listen.
pub fn connect(
    config: &Config,
    settings: &Settings,
    mut node: NodeInfo,
    sink: Arc<dyn DeliverySink>,
    handler: Arc<dyn Handler>,
) -> Result<Arc<Cluster>, CannotConnect> {
    let backend = Arc::new(Backend::new(&settings.url)?);
    let listener = listen(&backend, settings.listen)?;
    node.link = Some(listener.1);
    let context = Arc::new(Context {
        keys: Keys::new(&settings.prefix),
        scripts: Scripts::new(),
        realms: config.realms.clone(),
        expire_timeout_ms: config.expire_timeout.as_millis(),
        publish: backend.publish(),
    });
    let (tag, secret) = (node.owner.tag, settings.secret.clone());
    let Limits { frame, waiting, .. } = Limits::default();
    let largest = settings.largest.saturating_mul(3);
    let limits = Limits { frame: frame.max(largest), waiting: waiting.max(largest), ..Limits::default() };
    let (driver, calls) = unbounded_channel();
    let cluster = Arc::new(Cluster::shared(config, node, sink, driver));
    let of_thread = cluster.clone();
    let run = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let (subscriptions, wanted) = unbounded_channel();
        runtime.block_on(async move {
            let links = link(listener.0, (tag, secret, limits), &backend, &context, &of_thread, handler);
            let hears = subscriber::run(&backend, context.clone(), tag, of_thread.clone(), wanted);
            let pipelines =
                pipeline::run(backend.clone(), context.clone(), of_thread.clone(), calls, subscriptions);
            tokio::select! {
                () = pipelines => {}
                () = hears => {}
                () = tick(&of_thread) => {}
                () = links => {}
            }
        });
    };
    // Without a thread there is no node; the operating system says so soon enough elsewhere.
    let _ = thread::Builder::new().name("cluster".to_owned()).spawn(run);
    Ok(cluster)
}

/// Listens for other nodes; the socket, and where they reach it.
fn listen(backend: &Backend, at: Option<SocketAddr>) -> Result<(TcpListener, SocketAddr), CannotConnect> {
    let local = local_address(backend).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let at = at.unwrap_or(SocketAddr::new(local, 0));
    let failed = |error| CannotConnect::Listen(at, error);
    let listener = TcpListener::bind(at).map_err(failed)?;
    let mut reached = listener.local_addr().map_err(failed)?;
    if reached.ip().is_unspecified() {
        reached.set_ip(local);
    }
    Ok((listener, reached))
}

/// The address of this machine that reaches Redis: nothing is sent to find out.
fn local_address(backend: &Backend) -> Option<IpAddr> {
    let (host, port) = backend.address()?;
    let to = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Serves the node link, once the cluster's secret is known.
async fn link(
    listener: TcpListener,
    (tag, secret, limits): (NodeTag, Option<String>, Limits),
    backend: &Arc<Backend>,
    context: &Arc<Context>,
    cluster: &Cluster,
    handler: Arc<dyn Handler>,
) {
    let secret = match secret {
        Some(secret) => secret,
        None => shared_secret(backend, context).await,
    };
    match Link::serve(listener, tag, Secret::new(&secret), limits, handler) {
        Ok(link) => cluster.set_link(link),
        Err(error) => tracing::error!(%error, "the node link cannot be served"),
    }
    std::future::pending().await
}

/// The secret that nodes without one of their own share: whoever is first makes it.
async fn shared_secret(backend: &Arc<Backend>, context: &Arc<Context>) -> String {
    let key = context.keys.nodes("secret");
    let mut commands = Commands::new(backend, context.clone());
    loop {
        let (mut make, mut get) = (redis::cmd("SETNX"), redis::cmd("GET"));
        make.arg(&key[..]).arg(Secret::random());
        get.arg(&key[..]);
        let answers = commands.send(vec![make, get]).await;
        if let Some(Ok(redis::Value::BulkString(secret))) = answers.into_iter().nth(1)
            && let Ok(secret) = String::from_utf8(secret)
        {
            return secret;
        }
        tokio::time::sleep(RETRY).await;
    }
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
