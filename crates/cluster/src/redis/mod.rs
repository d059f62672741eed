//! The driver for a store in Redis: it makes the machine's calls, and brings what is said on the bus.
//!
//! - `keys`: names of keys and channels.
//! - `scripts`: each a step that the model describes.
//! - `calls`: calls as commands, and what Redis answers as replies.
//! - `wire`: what is written into Redis and said on the bus.
//! - `commands`: one connection, and what may have become of a command when it breaks.
//! - `pump`: the calls in their order, pipelined.
//! - `subscriber`: the connection that hears the bus.
//!
//! All of it runs on one thread of its own, so that a busy worker never costs the node its lease.

mod calls;
mod commands;
mod keys;
mod pump;
mod scripts;
mod subscriber;
#[cfg(test)]
mod tests;
mod wire;

use std::{sync::Arc, thread, time::Duration, time::Instant};

use deadpool_redis::{Manager, Pool, Runtime};
use redis::AsyncConnectionConfig;
use tokio::{sync::mpsc::unbounded_channel, time::MissedTickBehavior};

use self::{calls::Context, keys::Keys, scripts::Scripts};
use crate::{Cluster, Config, NodeInfo, command::Outlet};

/// How long a connection may take to open, and a command to be answered: a lease lasts six seconds, and is to be renewed in time
/// on a second connection if the first is dead.
const CONNECT: Duration = Duration::from_millis(1_000);
const RESPONSE: Duration = Duration::from_millis(2_000);
/// Connections for commands: the ordered ones, the heartbeat, listings.
const CONNECTIONS: usize = 8;
/// How often the machine looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// Where the store is.
#[derive(Clone)]
pub struct Settings {
    /// `redis://[user:password@]host[:port][/db]`, or `rediss://` with TLS.
    pub url: String,
    /// What all keys and channels begin with; without braces.
    pub prefix: String,
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The URL cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the Redis URL cannot be used: {0} (as in redis://user:password@127.0.0.1:6379/0)")]
pub struct BadUrl(String);

/// Connects a node to its cluster, in the background: it is [`Joining`](crate::Status::Joining) until it has succeeded.
///
/// # Errors
/// The URL cannot be used.
pub fn connect(
    config: &Config,
    settings: &Settings,
    node: NodeInfo,
    outlet: Arc<dyn Outlet>,
) -> Result<Arc<Cluster>, BadUrl> {
    let bad = |error: redis::RedisError| BadUrl(error.to_string());
    let client = redis::Client::open(settings.url.as_str()).map_err(bad)?;
    let connection = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(RESPONSE));
    let manager = Manager::new_with_config(settings.url.as_str(), connection).map_err(bad)?;
    let pool = Pool::builder(manager)
        .max_size(CONNECTIONS)
        .wait_timeout(Some(CONNECT))
        .create_timeout(Some(2 * CONNECT))
        .recycle_timeout(Some(CONNECT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| BadUrl(error.to_string()))?;
    let context = Arc::new(Context {
        keys: Keys::new(&settings.prefix),
        scripts: Scripts::new(),
        realms: config.realms.clone(),
        patience: config.expire_timeout.as_millis(),
        publish: "PUBLISH",
    });
    let tag = node.owner.tag;
    let (driver, calls) = unbounded_channel();
    let cluster = Arc::new(Cluster::shared(config, node, outlet, driver));
    let of_thread = cluster.clone();
    let run = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let (subscriptions, wanted) = unbounded_channel();
        runtime.block_on(async move {
            let hears = subscriber::run(client, context.clone(), tag, of_thread.clone(), wanted);
            let pumps = pump::run(pool, context, of_thread.clone(), calls, subscriptions);
            tokio::select! {
                () = pumps => {}
                () = hears => {}
                () = tick(&of_thread) => {}
            }
        });
    };
    // Without a thread there is no node; the operating system says so soon enough elsewhere.
    let _ = thread::Builder::new().name("cluster".to_owned()).spawn(run);
    Ok(cluster)
}

async fn tick(cluster: &Cluster) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        cluster.tick(Instant::now());
    }
}
