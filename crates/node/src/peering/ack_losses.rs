//! Answers of clients that are lost on their way to whoever waits for them.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use signalbox_cluster::NodeTag;
use signalbox_telemetry::Metrics;

/// How often a lost answer is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Answers of clients that could be brought to who waits for them neither over the link nor through the store.
#[derive(Debug, Default)]
pub(super) struct AckLosses {
    last_logged: Mutex<Option<Instant>>,
}

impl AckLosses {
    /// They come in numbers: the metric has them all.
    pub(super) fn note(&self, metrics: &Metrics, node: NodeTag) {
        metrics.acks_lost.with_label_values(&["undelivered"]).inc();
        let last = &mut *self.last_logged.lock();
        if last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            *last = Some(Instant::now());
            tracing::warn!(%node, "the answer of a client is lost: too much waits for the node");
        }
    }
}
