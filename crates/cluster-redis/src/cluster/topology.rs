//! The nodes of a Redis Cluster: the slot map, as far as it is known, and connections to the nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ahash::AHashMap;
use deadpool_redis::Pool;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use redis::{
    AsyncConnectionConfig, Client, PushInfo, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{sync::watch, time::timeout};

use super::{
    super::{
        CONNECT, RESPONSE,
        single_server::{Connection, connection_info, pool},
    },
    slot_map::{NodeView, SlotMap},
    url::{Address, Url},
};

/// Nodes that are asked for their view at once.
const ASKED: usize = 16;
/// How long the other nodes may take once one has answered: a node that is gone does not answer at all.
const GRACE: Duration = Duration::from_millis(200);

/// The nodes of a Redis Cluster.
pub(in super::super) struct Topology {
    url: RwLock<Arc<Url>>,
    slot_map: watch::Sender<Arc<SlotMap>>,
    /// When the nodes were last asked for their views.
    asked: tokio::sync::Mutex<Option<Instant>>,
    pools: Mutex<AHashMap<Address, Pool>>,
    /// The warning about a node that belongs to no Redis Cluster was logged.
    has_warned: AtomicBool,
}

impl Topology {
    pub(in super::super) fn new(url: Url) -> Self {
        let slot_map = watch::Sender::new(Arc::new(SlotMap::empty()));
        let (asked, pools) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { url: RwLock::new(Arc::new(url)), slot_map, asked, pools, has_warned: AtomicBool::new(false) }
    }

    fn url(&self) -> Arc<Url> {
        self.url.read().clone()
    }

    /// New connections introduce themselves with the user and password of this URL. Those that are open stay.
    pub(in super::super) fn replace_credentials(&self, url: &Url) {
        let url = Arc::new(self.url().with_credentials_of(url));
        *self.url.write() = url;
        self.pools.lock().clear();
    }

    /// Host and port of one of the nodes.
    pub(in super::super) fn address(&self) -> Option<(String, u16)> {
        self.url().seeds.first().map(|seed| (seed.host.clone(), seed.port))
    }

    /// The slot map in use.
    pub(in super::super) fn slot_map(&self) -> Arc<SlotMap> {
        self.slot_map.borrow().clone()
    }

    /// Reports its changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<SlotMap>> {
        self.slot_map.subscribe()
    }

    /// Asks the nodes for their views, unless they were asked since the problem was noticed.
    pub(in super::super) async fn refresh(&self, noticed: Instant) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|asked| asked >= noticed) {
            return;
        }
        let now = Instant::now();
        let views = self.views().await;
        *asked = Some(now);
        if views.is_empty() {
            return;
        }
        let slot_map = SlotMap::of(&views);
        let has_changed = self.slot_map.send_if_modified(|known| {
            let has_changed = **known != slot_map;
            if has_changed {
                *known = Arc::new(slot_map);
            }
            has_changed
        });
        if has_changed {
            let slot_map = self.slot_map();
            let masters: Vec<String> =
                slot_map.masters.iter().map(|master| master.address.to_string()).collect();
            tracing::info!(
                ?masters,
                is_whole = slot_map.is_whole(),
                "the topology of the Redis Cluster has changed"
            );
            // When all other nodes have been replaced, the seeds of the URL are all that is left to ask.
            let url = self.url();
            let is_there =
                |address: &Address| slot_map.nodes.contains(address) || url.seeds.contains(address);
            self.pools.lock().retain(|address, _| is_there(address));
        }
    }

    async fn views(&self) -> Vec<NodeView> {
        let (slot_map, url) = (self.slot_map(), self.url());
        let masters = slot_map.masters.iter().map(|master| &master.address);
        let mut nodes: Vec<&Address> = Vec::new();
        for node in masters.chain(&slot_map.nodes).chain(&url.seeds) {
            if !nodes.contains(&node) && nodes.len() < ASKED {
                nodes.push(node);
            }
        }
        let mut answers: FuturesUnordered<_> = nodes.into_iter().map(|node| self.view(node)).collect();
        let mut views = Vec::new();
        // The first answer may take as long as a connection takes to open; then the others have a little time.
        while let Ok(Some(answer)) =
            timeout(if views.is_empty() { 3 * CONNECT } else { GRACE }, answers.next()).await
        {
            views.extend(answer);
        }
        views
    }

    /// The view of one node.
    async fn view(&self, node: &Address) -> Option<NodeView> {
        let mut connection = self.connection(node).await.ok()?;
        let mut nodes = redis::cmd("CLUSTER");
        nodes.arg("NODES");
        let text = match connection.req_packed_command(&nodes).await {
            Ok(Value::BulkString(text)) => String::from_utf8(text).ok()?,
            Ok(Value::VerbatimString { text, .. }) => text,
            Ok(Value::ServerError(error)) => {
                // Warn once, and not with each attempt.
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%node, ?error, "the node does not belong to a Redis Cluster");
                }
                return None;
            }
            _ => {
                connection.discard();
                return None;
            }
        };
        Some(NodeView::read(&text, node, self.url().is_encrypted()))
    }

    /// A connection to a node, for commands.
    pub(in super::super) async fn connection(&self, node: &Address) -> Result<Connection, String> {
        let pool = self.pool(node)?;
        let mut connection = pool.get().await.map_err(|error| error.to_string())?;
        connection.set_response_timeout(RESPONSE);
        Ok(Connection::Server(connection))
    }

    fn pool(&self, node: &Address) -> Result<Pool, String> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(node) {
            return Ok(pool.clone());
        }
        let made = pool(self.url().node(node).map_err(|error| error.to_string())?)?;
        pools.insert(node.clone(), made.clone());
        Ok(made)
    }

    /// A subscriber connection to a node; its pushes go to `on_push`.
    pub(super) async fn subscriber(
        &self,
        node: &Address,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE))
            .set_push_sender(move |info| -> Result<(), std::convert::Infallible> {
                on_push(info);
                Ok(())
            });
        let client = Client::open(connection_info(self.url().subscriber(node)?)?)?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}
