//! Sends what waits. A lane's messages go one after the other, so that what concerns one client arrives in its order; a message that fails
//! is sent again, after pauses that grow, until it is taken. A server that fails again and again is asked once after each pause.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use signalbox_hooks::{Breaker, Failure, HookClient, Request};
use signalbox_node::Metrics;
use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
};

use super::{
    lanes::Lanes,
    message::Message,
    queue::{LANES, Queue},
};
use crate::config::webhooks::WebhookSettings;

/// How often it is looked whether something waits.
const LOOK: Duration = Duration::from_millis(250);
/// How much longer than a request a lane is this node's, at least. When the node dies, others wait for so long.
const LEASE: Duration = Duration::from_secs(5);
/// How often the queue is measured.
const MEASURE: Duration = Duration::from_secs(2);
/// How long giving the lanes up may take.
const RELEASE: Duration = Duration::from_millis(500);

/// Sends what waits in this node's lanes.
pub(super) struct Sender {
    client: Arc<HookClient>,
    queue: Arc<Queue>,
    /// This node.
    owner: String,
    metrics: Metrics,
    /// Most events of a request.
    batch: usize,
    /// Most requests at once.
    at_once: usize,
    /// Longest time of a request.
    timeout: Duration,
    lanes: Lanes,
    breaker: Breaker,
    posts: JoinSet<Sent>,
    /// Told by the writer that there is more.
    written: Arc<Notify>,
    leased: Option<Instant>,
    measured: Option<Instant>,
}

/// What became of a message.
struct Sent {
    lane: usize,
    message: Message,
    result: Result<(), Failure>,
    took: Duration,
}

impl Sender {
    pub(super) fn new(
        settings: &WebhookSettings,
        client: Arc<HookClient>,
        queue: Arc<Queue>,
        owner: String,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            queue,
            owner,
            metrics,
            batch: settings.webhook_batch,
            at_once: settings.webhook_concurrency,
            timeout: settings.webhook_timeout,
            lanes: Lanes::default(),
            breaker: Breaker::default(),
            posts: JoinSet::new(),
            written: Arc::default(),
            leased: None,
            measured: None,
        }
    }

    /// To be told when there is more to send.
    pub(super) fn written(&self) -> Arc<Notify> {
        self.written.clone()
    }

    /// Sends for as long as the node runs.
    pub(super) async fn run(&mut self) {
        loop {
            self.turn().await;
            self.wait().await;
        }
    }

    /// Ends what is under way; where it waits in memory, all that waits. To be called with a time-out.
    pub(super) async fn finish(&mut self) {
        if self.queue.is_in_memory() {
            loop {
                self.turn().await;
                if self.posts.is_empty() && self.lanes.is_idle() {
                    return;
                }
                self.wait().await;
            }
        }
        while let Some(sent) = self.posts.join_next().await {
            self.finished(sent).await;
        }
    }

    /// Gives the lanes up, so that other nodes need not wait.
    pub(super) async fn release(&mut self) {
        let all: Vec<usize> = (0..LANES).collect();
        let _ = tokio::time::timeout(RELEASE, self.queue.lease(&all, &self.owner, Duration::ZERO)).await;
    }

    async fn wait(&mut self) {
        tokio::select! {
            Some(sent) = self.posts.join_next() => self.finished(sent).await,
            () = self.written.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }

    async fn turn(&mut self) {
        self.lease().await;
        self.measure().await;
        let now = Instant::now();
        if !self.breaker.allows(now) {
            return;
        }
        let lanes = self.lanes.to_read(now);
        if !lanes.is_empty() {
            // What cannot be read now can be later.
            let found = self.queue.read(&lanes, self.batch).await.unwrap_or_default();
            for (lane, waiting) in lanes.into_iter().zip(found) {
                if let Some(message) = Message::of(lane, waiting) {
                    self.lanes.found(lane, message);
                }
            }
        }
        let most = if self.breaker.is_open() { 1 } else { self.at_once };
        while self.posts.len() < most
            && let Some((lane, message)) = self.lanes.begin(Instant::now(), self.timeout)
        {
            let client = self.client.clone();
            self.posts.spawn_blocking(move || {
                let began = Instant::now();
                let request = Request { id: &message.id, body: &message.body, max_answer: 0 };
                let result = client.send(&request).map(drop);
                Sent { lane, message, result, took: began.elapsed() }
            });
        }
    }

    /// Keeps the lanes, and takes those that are nobody's. A node to which the server does not answer leaves them to others.
    async fn lease(&mut self) {
        let time = self.timeout + LEASE;
        let now = Instant::now();
        if self.leased.is_some_and(|leased| now < leased + LEASE / 3) {
            return;
        }
        let all: Vec<usize> = (0..LANES).collect();
        let gives_up = self.breaker.is_open() && !self.breaker.allows(now) && self.posts.is_empty();
        let wanted = if gives_up { Duration::ZERO } else { time };
        if let Ok(are_own) = self.queue.lease(&all, &self.owner, wanted).await {
            self.leased = Some(now);
            self.lanes.leased(now, time, &are_own);
        }
    }

    async fn finished(&mut self, sent: Result<Sent, JoinError>) {
        // Sending does not panic; and a panic ends the process.
        let Ok(Sent { lane, message, result, took }) = sent else { return };
        let outcome = result.as_ref().err().map_or("delivered", Failure::name);
        self.metrics.webhook_requests.with_label_values(&[outcome]).inc();
        self.metrics.webhook_seconds.observe(took.as_secs_f64());
        match result {
            Ok(()) => {
                if self.breaker.is_open() {
                    tracing::info!("the server of the webhooks takes them again");
                }
                self.breaker.succeeded();
                self.metrics.webhook_delivered.inc_by(message.entries.len() as u64);
                // What stays is sent again, with the same ids.
                let _ = self.queue.remove(lane, &message.entries).await;
                self.lanes.done(lane, None);
            }
            Err(failure) => {
                let was_open = self.breaker.is_open();
                // Several that were under way at once count as one.
                if self.breaker.allows(Instant::now()) {
                    self.breaker.failed(Instant::now(), rand::random(), failure.retry_after());
                }
                if self.breaker.is_open() && !was_open {
                    tracing::warn!(%failure, "webhooks are not taken; they wait, and are tried again");
                } else {
                    tracing::debug!(%failure, "a webhook was not taken");
                }
                self.lanes.done(lane, Some(message));
            }
        }
        self.metrics.webhook_breaker_open.set(i64::from(self.breaker.is_open()));
    }

    async fn measure(&mut self) {
        let now = Instant::now();
        if self.measured.is_some_and(|measured| now < measured + MEASURE) {
            return;
        }
        self.measured = Some(now);
        if let Ok((waiting, since)) = self.queue.waiting().await {
            let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
            let age = since.map_or(0, |since| clock.saturating_sub(since));
            self.metrics.webhook_waiting.set(waiting as i64);
            self.metrics.webhook_oldest_seconds.set(age as f64 / 1000.0);
        }
    }
}
