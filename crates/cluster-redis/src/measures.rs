//! What is counted and measured of Redis.

use std::time::Duration;

use redis::Value;

use super::{calls::Context, replies};

impl Context {
    /// A call was answered, or given up, after this time.
    pub(super) fn observe(&self, kind: &'static str, took: Duration) {
        self.metrics.redis_seconds.observe(&[kind], took.as_secs_f64());
    }

    /// Counts the records that a call has removed; returns whether it has left some.
    pub(super) fn reaped(&self, values: &[Value]) -> bool {
        let (removed, left) = replies::reaped(values);
        self.metrics.reaped_records.inc_by(removed);
        left > 0
    }

    /// Something went wrong at Redis.
    pub(super) fn failed(&self, kind: &'static str) {
        self.metrics.redis_errors.with_label_values(&[kind]).inc();
    }

    /// A connection was opened.
    pub(super) fn connected(&self, purpose: &'static str) {
        self.metrics.redis_connections.with_label_values(&[purpose]).inc();
    }
}
