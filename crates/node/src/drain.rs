//! Draining: a node that is to end closes its clients in a paced stream, so that the others are not stormed.

use std::time::{Duration, Instant};

use signalbox_admin::events::{Event, EventKind};

use crate::{node::Node, shard::mailbox::ShardMessage};

/// How often a slice of the clients is closed.
const SLICE: Duration = Duration::from_millis(100);
/// The part of the time in which Socket.IO clients are closed, which reconnect by themselves. The rest is for PeerServer clients,
/// which do so only if their page calls `reconnect()`: they keep their node for as long as can be.
const SESSIONS_PART: f64 = 0.7;
/// What is kept of the time for the last ones to hang up.
const RESERVE: Duration = Duration::from_secs(1);

/// How long a node that has drained stays for others to hear of it.
const LISTENERS_TOLD: Duration = Duration::from_millis(500);

impl Node {
    /// Whether the node drains: it is not ready any more, though it serves on.
    pub fn is_draining(&self) -> bool {
        self.shared.lifecycle.is_draining()
    }

    /// Waits until an operator wants the node to drain and to end (`POST nodes/{id}/drain` of the admin API). What that takes is for the
    /// program to do, as when it is told by a signal.
    pub async fn drain_requested(&self) {
        loop {
            self.shared.drain_requested.notified().await;
            // It may have been given up since.
            if self.shared.lifecycle.take_drain_request() {
                return;
            }
        }
    }

    /// Waits until the operator has stopped the drain that [`Self::drain_requested`] has begun. That cannot happen once [`Self::drain`] is
    /// through with the clients. The program gives up what it was doing, and calls [`Self::resume`].
    /// A program that never waits for this has drains that cannot be stopped.
    pub async fn drain_cancelled(&self) {
        self.shared.lifecycle.heed_cancel();
        loop {
            self.shared.drain_cancelled.notified().await;
            // The program may have learned it from `commit_drain` before.
            if self.shared.lifecycle.is_cancelled() {
                return;
            }
        }
    }

    /// What [`Self::drain_requested`] has begun cannot be stopped from now on: the program was told to end by others, too. `false` if it was
    /// stopped just now: then the program calls [`Self::resume`], and drains as it does where nobody has stopped anything.
    pub fn commit_drain(&self) -> bool {
        self.shared.lifecycle.commit_drain()
    }

    /// The drain was stopped: the node is ready again, and takes clients.
    pub fn resume(&self) {
        self.shared.lifecycle.resume();
        self.report_drain("stopped", self.count("socketio") + self.count("peerserver"));
        self.shared.cluster.set_draining(Instant::now(), false);
    }

    /// Announces that the node will drain: it is not ready from now on, and other nodes know. New clients are still served.
    pub fn announce_drain(&self) {
        self.shared.lifecycle.start_draining();
        self.report_drain("announced", self.count("socketio") + self.count("peerserver"));
        self.shared.cluster.set_draining(Instant::now(), true);
    }

    /// Refuses new clients, and closes the transports of those that are there, one after the other, within `time`. Socket.IO clients
    /// first: they reconnect by themselves. Then leaves the cluster. Returns how many connections are left.
    pub async fn drain(&self, time: Duration) -> usize {
        self.shared.lifecycle.start_stopping();
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
        if !self.shared.lifecycle.commit_drain() {
            // Whoever waits for this learns that it was stopped.
            std::future::pending::<()>().await;
        }
        let (left, ()) = tokio::join!(self.stop(RESERVE), self.release_relayed_polls(RESERVE));
        self.report_drain("done", left);
        self.shared.end_drain().await;
        if self.shared.hub.wants(EventKind::Drain) {
            // Those who listen at other nodes ask no more when this one has left.
            tokio::time::sleep(LISTENERS_TOLD).await;
        }
        self.shared.cluster.leave(Instant::now()).await;
        left
    }

    /// Has those GETs answered that wait here for sessions of other nodes, or their clients would lose their connections with this node.
    async fn release_relayed_polls(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.shared.peering.relayed_polls().count() > 0 && Instant::now() < until {
            self.shared.peering.relayed_polls().release_all();
            tokio::time::sleep(SLICE).await;
        }
    }

    /// Tells those who listen how far it is: so many clients are left.
    fn report_drain(&self, reason: &str, left: usize) {
        if self.shared.hub.wants(EventKind::Drain) {
            let (reason, count) = (Some(reason.to_owned()), Some(left as u64));
            self.shared.hub.report(Event { reason, count, ..Event::of(EventKind::Drain) });
        }
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
        let shards = self.shared.mailboxes.len();
        let mut logged = Instant::now();
        // What is due; and the shard whose turn it is.
        let (mut due, mut turn) = (0.0, 0);
        let mut last = Instant::now();
        loop {
            let (left, now) = (count(self), Instant::now());
            if left == 0 {
                return;
            }
            if now >= logged + Duration::from_secs(1) {
                logged = now;
                tracing::info!(left, "draining");
                self.report_drain("closing", self.count("socketio") + self.count("peerserver"));
            }
            // What is even for the time that has passed, which on a busy machine is more than was slept: else what was left out would
            // come all together in the end. Between half and one and a half of it, and fractions are kept, not rolled: with few clients
            // to a slice, chance would make bursts.
            let is_over = now >= until;
            let whole = if is_over {
                left
            } else {
                let passed = (now - last).as_secs_f64() / (until - last).as_secs_f64();
                due += left as f64 * passed * rand::random_range(0.5..1.5);
                last = now;
                due.min(left as f64) as usize
            };
            due -= whole as f64;
            for nth in 0..shards {
                let shard = (turn + nth) % shards;
                let (sessions, peers) = slice(whole / shards + usize::from(nth < whole % shards));
                if sessions + peers > 0 {
                    let drain = ShardMessage::Drain { sessions, peers, turns: shards - 1 };
                    self.shared.mailboxes.push(shard as u8, drain);
                }
            }
            if is_over {
                return;
            }
            turn = (turn + whole) % shards;
            tokio::time::sleep(SLICE).await;
        }
    }
}
