//! How busy a worker is, and how late it does what is due.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use signalbox_cluster::ShardId;
use signalbox_telemetry::Metrics;
use tokio::runtime::{Handle, RuntimeMetrics};

/// How often a worker looks how late it is.
const INTERVAL: Duration = Duration::from_secs(1);

/// The runtimes of a node's workers, as far as they have started. They count by themselves how long they were busy.
#[derive(Debug)]
pub(crate) struct Loads(Box<[OnceLock<RuntimeMetrics>]>);

impl Loads {
    pub(crate) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self((0..shards).map(|_| OnceLock::new()).collect()))
    }

    /// A worker has started, on the present thread.
    pub(crate) fn started(&self, shard: ShardId) {
        if let (Some(load), Ok(runtime)) = (self.0.get(usize::from(shard)), Handle::try_current()) {
            let _ = load.set(runtime.metrics());
        }
    }

    /// Brings the metrics up to date.
    pub(crate) fn update(&self, metrics: &Metrics) {
        for (shard, runtime) in self.0.iter().enumerate() {
            let Some(runtime) = runtime.get() else { continue };
            let counter = metrics.shard_busy_seconds.with_label_values(&[&shard.to_string()]);
            // Two that ask at the same moment may count a little twice: the next one then adds nothing until it is true again.
            let news = runtime.worker_total_busy_duration(0).as_secs_f64() - counter.get();
            counter.inc_by(news.max(0.0));
        }
    }
}

/// Looks how late a timer fires, until the worker ends.
pub(crate) async fn observe_lag(metrics: Metrics) {
    let mut due = Instant::now();
    loop {
        due += INTERVAL;
        tokio::time::sleep_until(due.into()).await;
        let now = Instant::now();
        metrics.event_loop_lag_seconds.observe(now.saturating_duration_since(due).as_secs_f64());
        // What was missed is not made up for.
        due = due.max(now - INTERVAL);
    }
}
