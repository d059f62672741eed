//! The connection that hears the bus. It is probed, and a silent one is replaced; what was wanted is then heard again, and the
//! cluster is told that it may have missed something.

use std::{sync::Arc, time::Instant};

use ahash::AHashSet;
use bytes::Bytes;
use futures_util::StreamExt;
use redis::{
    RedisResult,
    aio::{PubSubSink, PubSubStream},
};
use tokio::{sync::mpsc::UnboundedReceiver, time::MissedTickBehavior, time::timeout};

use super::{
    CONNECT, PROBE, RESPONSE, backoff, calls::Context, cluster, hearing, single::Single, source::Source,
};
use crate::{Cluster, address::NodeTag, record::RoomName};

/// Channels in one command.
const BATCH: usize = 500;
/// A room that is to be heard, or not any more.
#[derive(Debug)]
pub(super) enum Wanted {
    Hear(RoomName),
    Unhear(RoomName),
}

/// Hears the bus until the node ends.
pub(super) async fn run(
    source: &Source,
    context: Arc<Context>,
    tag: NodeTag,
    cluster: Arc<Cluster>,
    wanted: UnboundedReceiver<Wanted>,
) {
    match source {
        Source::Single(single) => hear(single, &context, tag, &cluster, wanted).await,
        Source::Cluster(masters) => cluster::hear(masters.clone(), &context, tag, &cluster, wanted).await,
    }
}

/// Hears the bus of a single server.
async fn hear(
    single: &Single,
    context: &Context,
    tag: NodeTag,
    cluster: &Cluster,
    mut wanted: UnboundedReceiver<Wanted>,
) {
    let mut rooms = AHashSet::new();
    loop {
        let connect = async { single.client().await?.get_async_pubsub().await.ok() };
        if let Ok(Some(connection)) = timeout(2 * CONNECT, connect).await {
            let (sink, stream) = connection.split();
            let mut hearing = Hearing { sink, context, cluster, rooms: &mut rooms };
            if hearing.begin(tag).await.is_ok() {
                hearing.hear(stream, &mut wanted).await;
            }
        }
        cluster.unheard(None);
        tokio::time::sleep(backoff()).await;
    }
}

/// The connection is dead.
#[derive(Debug)]
struct Dead;

struct Hearing<'a> {
    sink: PubSubSink,
    context: &'a Context,
    cluster: &'a Cluster,
    /// All rooms that are to be heard.
    rooms: &'a mut AHashSet<RoomName>,
}

impl Hearing<'_> {
    /// Hears what every node hears, and every room that is wanted.
    async fn begin(&mut self, tag: NodeTag) -> Result<(), Dead> {
        let keys = &self.context.keys;
        let fixed = [keys.everywhere().to_vec(), keys.node_channel(tag).to_vec()];
        timely(self.sink.subscribe(&fixed)).await?;
        self.cluster.bus_back(Instant::now());
        let rooms: Vec<RoomName> = self.rooms.iter().cloned().collect();
        for rooms in rooms.chunks(BATCH) {
            self.subscribe(rooms).await?;
        }
        Ok(())
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

    /// Hears until the connection is dead.
    async fn hear(&mut self, mut stream: PubSubStream, wanted: &mut UnboundedReceiver<Wanted>) {
        let mut probes = tokio::time::interval(PROBE);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let alive = tokio::select! {
                heard = stream.next() => match heard {
                    Some(message) => {
                        let payload = Bytes::copy_from_slice(message.get_payload_bytes());
                        if let Ok(channel) = message.get_channel::<Vec<u8>>()
                            && let Some(channel) = self.context.keys.read_channel(&channel)
                        {
                            hearing::heard(self.context, self.cluster, channel, &payload);
                        }
                        Ok(())
                    }
                    None => Err(Dead),
                },
                count = wanted.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.change(std::mem::take(&mut batch)).await
                }
                _ = probes.tick() => timely(self.sink.ping::<redis::Value>()).await.map(|_| ()),
            };
            if alive.is_err() {
                return;
            }
        }
    }

    /// What is to be heard has changed. Neighbours of a kind go into one command, in their order.
    async fn change(&mut self, wanted: Vec<Wanted>) -> Result<(), Dead> {
        // First all is noted: should the connection die, the next one hears what is wanted in the end.
        for wanted in &wanted {
            match wanted {
                Wanted::Hear(room) => self.rooms.insert(room.clone()),
                Wanted::Unhear(room) => self.rooms.remove(room),
            };
        }
        let (mut hear, mut unhear): (Vec<RoomName>, Vec<RoomName>) = Default::default();
        for wanted in wanted {
            match wanted {
                Wanted::Hear(room) => {
                    self.flush_unhear(&mut unhear).await?;
                    hear.push(room);
                }
                Wanted::Unhear(room) => {
                    self.flush_hear(&mut hear).await?;
                    unhear.push(room);
                }
            }
        }
        self.flush_hear(&mut hear).await?;
        self.flush_unhear(&mut unhear).await
    }

    async fn flush_hear(&mut self, rooms: &mut Vec<RoomName>) -> Result<(), Dead> {
        let rooms = std::mem::take(rooms);
        if rooms.is_empty() { Ok(()) } else { self.subscribe(&rooms).await }
    }

    async fn flush_unhear(&mut self, rooms: &mut Vec<RoomName>) -> Result<(), Dead> {
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
