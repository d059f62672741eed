//! The subscriber connection to a single server. It is probed, and one that does not answer is replaced; the new one subscribes
//! everything again, and the cluster is told that messages may have been missed.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use ahash::AHashSet;
use bytes::Bytes;
use futures_util::StreamExt;
use redis::{
    RedisResult,
    aio::{PubSubSink, PubSubStream},
};
use tokio::{sync::mpsc::UnboundedReceiver, time::MissedTickBehavior, time::timeout};

use super::{
    CONNECT, PROBE, RESPONSE, backend::Backend, backoff, calls::Context, cluster, dispatch::dispatch,
    single_server::SingleServer, subscription_change::SubscriptionChange,
};
use signalbox_cluster::{Cluster, address::NodeTag, record::RoomName};

/// Channels in one command.
const BATCH: usize = 500;

/// Keeps the bus subscribed until the node ends.
pub(super) async fn run(
    backend: &Backend,
    context: Arc<Context>,
    tag: NodeTag,
    cluster: Arc<Cluster>,
    changes: UnboundedReceiver<SubscriptionChange>,
) {
    match backend {
        Backend::Single(single_server) => run_single(single_server, &context, tag, &cluster, changes).await,
        Backend::Cluster(topology) => cluster::run(topology.clone(), &context, tag, &cluster, changes).await,
    }
}

/// The same for a single server.
async fn run_single(
    single_server: &SingleServer,
    context: &Context,
    tag: NodeTag,
    cluster: &Cluster,
    mut changes: UnboundedReceiver<SubscriptionChange>,
) {
    let mut rooms = AHashSet::new();
    loop {
        let connect = async { single_server.client().await?.get_async_pubsub().await.ok() };
        if let Ok(Some(connection)) = timeout(2 * CONNECT, connect).await {
            let (sink, stream) = connection.split();
            let rooms = &mut rooms;
            let mut subscriber = Subscriber { sink, context, cluster, rooms, waiting: VecDeque::new() };
            if subscriber.begin(tag).await.is_ok() {
                subscriber.serve(stream, &mut changes).await;
            }
        }
        cluster.subscription_lost(None);
        tokio::time::sleep(backoff()).await;
    }
}

/// The connection is dead.
#[derive(Debug)]
struct Dead;

struct Subscriber<'a> {
    sink: PubSubSink,
    context: &'a Context,
    cluster: &'a Cluster,
    /// All rooms whose channels the node wants.
    rooms: &'a mut AHashSet<RoomName>,
    /// Those of them that this connection has yet to subscribe, since the one before it is dead.
    waiting: VecDeque<RoomName>,
}

impl Subscriber<'_> {
    /// Subscribes the channel of all nodes and this node's own; those of all wanted rooms follow, beside the messages that arrive.
    async fn begin(&mut self, tag: NodeTag) -> Result<(), Dead> {
        let keys = &self.context.keys;
        let fixed = [keys.everywhere().to_vec(), keys.node_channel(tag).to_vec()];
        timely(self.sink.subscribe(&fixed)).await?;
        self.context.connected("subscriber");
        self.cluster.bus_restored(Instant::now());
        self.waiting = self.rooms.iter().cloned().collect();
        Ok(())
    }

    /// Subscribes the next of the rooms that wait.
    async fn subscribe_waiting(&mut self) -> Result<(), Dead> {
        let count = self.waiting.len().min(BATCH);
        let rooms: Vec<RoomName> = self.waiting.drain(..count).collect();
        // One may not be wanted any more, or be subscribed twice, which does no harm.
        let rooms: Vec<RoomName> = rooms.into_iter().filter(|room| self.rooms.contains(room)).collect();
        if rooms.is_empty() { Ok(()) } else { self.subscribe(&rooms).await }
    }

    async fn subscribe(&mut self, rooms: &[RoomName]) -> Result<(), Dead> {
        let channels = self.channels(rooms);
        timely(self.sink.subscribe(&channels)).await?;
        for room in rooms {
            self.cluster.subscribed(Instant::now(), room);
        }
        Ok(())
    }

    fn channels(&self, rooms: &[RoomName]) -> Vec<Vec<u8>> {
        rooms.iter().map(|room| self.context.keys.room_channel(room).to_vec()).collect()
    }

    /// Receives messages and changes subscriptions until the connection is dead.
    async fn serve(&mut self, mut stream: PubSubStream, changes: &mut UnboundedReceiver<SubscriptionChange>) {
        let mut probes = tokio::time::interval(PROBE);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let alive = tokio::select! {
                received = stream.next() => match received {
                    Some(message) => {
                        let payload = Bytes::copy_from_slice(message.get_payload_bytes());
                        if let Ok(channel) = message.get_channel::<Vec<u8>>()
                            && let Some(channel) = self.context.keys.read_channel(&channel)
                        {
                            dispatch(self.context, self.cluster, channel, &payload);
                        }
                        Ok(())
                    }
                    None => Err(Dead),
                },
                count = changes.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.change(std::mem::take(&mut batch)).await
                }
                () = std::future::ready(()), if !self.waiting.is_empty() => self.subscribe_waiting().await,
                _ = probes.tick() => timely(self.sink.ping::<redis::Value>()).await.map(|_| ()),
            };
            if alive.is_err() {
                return;
            }
        }
    }

    /// Executes changes in their order; successive ones of a kind go into one command.
    async fn change(&mut self, changes: Vec<SubscriptionChange>) -> Result<(), Dead> {
        // The set of rooms is updated first: if the connection dies, the next one subscribes what is wanted in the end.
        for change in &changes {
            match change {
                SubscriptionChange::Subscribe(room) => self.rooms.insert(room.clone()),
                SubscriptionChange::Unsubscribe(room) => self.rooms.remove(room),
            };
        }
        let (mut added, mut removed): (Vec<RoomName>, Vec<RoomName>) = Default::default();
        for change in changes {
            match change {
                SubscriptionChange::Subscribe(room) => {
                    self.flush_removed(&mut removed).await?;
                    added.push(room);
                }
                SubscriptionChange::Unsubscribe(room) => {
                    self.flush_added(&mut added).await?;
                    removed.push(room);
                }
            }
        }
        self.flush_added(&mut added).await?;
        self.flush_removed(&mut removed).await
    }

    async fn flush_added(&mut self, rooms: &mut Vec<RoomName>) -> Result<(), Dead> {
        let rooms = std::mem::take(rooms);
        if rooms.is_empty() { Ok(()) } else { self.subscribe(&rooms).await }
    }

    async fn flush_removed(&mut self, rooms: &mut Vec<RoomName>) -> Result<(), Dead> {
        let rooms = std::mem::take(rooms);
        if rooms.is_empty() {
            return Ok(());
        }
        let channels = self.channels(&rooms);
        timely(self.sink.unsubscribe(&channels)).await
    }
}

/// An answer in time, or the connection counts as dead.
async fn timely<T>(answer: impl Future<Output = RedisResult<T>>) -> Result<T, Dead> {
    match timeout(RESPONSE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(Dead),
    }
}
