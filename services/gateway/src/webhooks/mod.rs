//! Webhooks: what happens is sent to a server of the application, until it has taken it.
//!
//! - `writer`: takes what happens on this node, and puts it into the queue.
//! - `queue`: where it waits: in Redis, where a node's death loses nothing, or in memory.
//! - `sender`: sends what waits, in order per client.
//! - `lanes`: which lanes are this node's, and what is done with each.
//! - `message`: the body of a request.
//!
//! All of it runs on a thread of its own. Neither the server nor Redis ever keep a worker waiting: what happens goes into a bounded queue, and
//! what does not fit is dropped, counted and told.

mod lanes;
mod message;
mod queue;
mod sender;
mod writer;

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::{Context as _, Result};
use signalbox_hooks::{HookAddress, HookClient, Signer, SigningSecret};
use signalbox_node::{Metrics, Node};
use tokio::sync::watch;

use self::{queue::Queue, sender::Sender};
use crate::config::webhooks::WebhookSettings;

/// Events of this node that may wait to be written.
const WAITING: usize = 10_000;

/// Sends what happens on a node.
#[derive(Debug)]
pub struct Webhooks {
    stop: watch::Sender<Option<Duration>>,
    thread: JoinHandle<()>,
}

impl Webhooks {
    /// Begins to send, where there is somewhere to send to.
    ///
    /// # Errors
    /// The certificate authority cannot be used.
    pub fn start(settings: &WebhookSettings, redis_prefix: &str, node: &Node) -> Result<Option<Self>> {
        let Some(url) = &settings.webhook_url else { return Ok(None) };
        // They were checked with the settings.
        let address = HookAddress::new(url).with_context(|| "--webhook-url")?;
        let secrets: Result<Vec<SigningSecret>, _> =
            settings.webhook_secret.iter().map(|secret| secret.parse()).collect();
        let signer = Signer::new(secrets.with_context(|| "--webhook-secret")?);
        let client =
            HookClient::new(address, signer, settings.webhook_timeout, settings.webhook_ca.as_deref())
                .with_context(|| "--webhook-ca")?;
        let metrics = node.metrics().clone();
        let queue = match node.redis_access() {
            Some(access) => Queue::in_redis(access, redis_prefix, settings, metrics.clone()),
            None => {
                tracing::warn!(
                    "webhooks wait in memory, without --redis-url: those that were not sent are lost with the node"
                );
                Queue::in_memory(settings)
            }
        };
        let Some(feed) = node.feed_events(&settings.webhook_events, WAITING) else { return Ok(None) };
        tracing::info!(url = ?client.address(), "webhooks are sent");
        let (stop, stopped) = watch::channel(None);
        let queue = Arc::new(queue);
        let sender = Sender::new(settings, Arc::new(client), queue.clone(), node.tag(), metrics.clone());
        let run = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(run(feed, queue, sender, metrics, stopped));
            // A request that is under way ends by its own time-out; nobody waits for it.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("webhooks".to_owned()).spawn(run)?;
        Ok(Some(Self { stop, thread }))
    }

    /// Writes what is not written yet, and sends what can be sent within this time where it waits in memory.
    pub async fn stop(self, within: Duration) {
        let _ = self.stop.send(Some(within));
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        let _ = tokio::time::timeout(within + Duration::from_secs(1), joined).await;
    }
}

async fn run(
    mut feed: signalbox_node::admin::EventFeed,
    queue: Arc<Queue>,
    mut sender: Sender,
    metrics: Metrics,
    mut stopped: watch::Receiver<Option<Duration>>,
) {
    let mut pending = Vec::new();
    let written = sender.written();
    let work = async {
        tokio::join!(writer::run(&mut feed, &queue, &metrics, &mut pending, &written), sender.run());
    };
    let within = tokio::select! {
        () = work => return,
        _ = stopped.changed() => stopped.borrow().unwrap_or_default(),
    };
    let finish = async {
        writer::finish(&mut feed, &queue, &metrics, &mut pending).await;
        sender.finish().await;
    };
    if tokio::time::timeout(within, finish).await.is_err() {
        tracing::warn!("webhooks could not all be written in time");
    }
    sender.release().await;
}
