//! Draining: a node that is to end closes its clients in a paced stream, so that the others are not stormed.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{message::ToShard, node::Node};

/// How often a slice of the clients is closed.
const SLICE: Duration = Duration::from_millis(100);
/// The part of the time in which Socket.IO clients are closed, which reconnect by themselves. The rest is for PeerServer clients,
/// which do so only if their page calls `reconnect()`: they keep their node for as long as can be.
const SESSIONS_PART: f64 = 0.7;
/// What is kept of the time for the last ones to hang up.
const RESERVE: Duration = Duration::from_secs(1);

impl Node {
    /// Whether the node drains: it is not ready any more, though it serves on.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Acquire)
    }

    /// Announces that the node will drain: it is not ready from now on, and other nodes know. New clients are still served.
    pub fn announce_drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        self.shared.cluster.set_draining(Instant::now(), true);
    }

    /// Refuses new clients, and closes the transports of those that are there, one after the other, within `time`. Socket.IO clients
    /// first: they reconnect by themselves. Then leaves the cluster. Returns how many connections are left.
    pub async fn drain(&self, time: Duration) -> usize {
        self.shared.is_stopping.store(true, Ordering::Release);
        let began = Instant::now();
        let time = time.saturating_sub(RESERVE);
        self.close_some(
            began + time.mul_f64(SESSIONS_PART),
            |node| node.count("socketio"),
            |count| (count, 0),
        )
        .await;
        tracing::info!("Socket.IO clients are closed");
        self.close_some(began + time, |node| node.count("peerserver"), |count| (0, count)).await;
        let left = self.stop(RESERVE).await;
        self.shared.cluster.leave(Instant::now()).await;
        left
    }

    /// Clients of a protocol that are connected.
    fn count(&self, protocol: &str) -> usize {
        let connections = &self.shared.metrics.connections;
        let of = |transport| connections.with_label_values(&[protocol, transport]).get();
        (of("polling") + of("websocket")).max(0) as usize
    }

    /// Closes clients at an even pace, with some jitter, until none is left or the time is over.
    async fn close_some(
        &self,
        until: Instant,
        count: impl Fn(&Self) -> usize,
        slice: impl Fn(usize) -> (usize, usize),
    ) {
        let shards = self.shared.inboxes.len();
        let mut logged = Instant::now();
        loop {
            let (left, now) = (count(self), Instant::now());
            if left == 0 || now >= until {
                return;
            }
            if now >= logged + Duration::from_secs(1) {
                logged = now;
                tracing::info!(left, "draining");
            }
            let slices = ((until - now).as_secs_f64() / SLICE.as_secs_f64()).max(1.0);
            // Between half and one and a half of the even share, spread over the shards; what is left out now is made up for later.
            let share = left as f64 / slices * rand::random_range(0.5..1.5);
            for shard in 0..shards {
                let part = share / shards as f64;
                let whole = part.floor() + f64::from(u8::from(rand::random_bool(part.fract())));
                let (sessions, peers) = slice(whole as usize);
                if sessions + peers > 0 {
                    self.shared.inboxes.push(shard as u8, ToShard::Drain { sessions, peers });
                }
            }
            tokio::time::sleep(SLICE).await;
        }
    }
}
