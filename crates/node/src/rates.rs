//! How much goes through the node: its counters, looked at once a second.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use signalbox_admin::Rates;
use signalbox_telemetry::Metrics;

/// How often the counters are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Over how long rates are averaged.
const WINDOW: Duration = Duration::from_secs(10);

/// The counters at one moment: connects, disconnects, received messages and bytes, sent messages and bytes.
type Counts = [u64; 6];

/// What the counters were in the last seconds.
#[derive(Debug, Default)]
pub(crate) struct RateSamples(Mutex<VecDeque<(Instant, Counts)>>);

impl RateSamples {
    /// Looks at the counters until the runtime ends.
    pub(crate) async fn sample(self: Arc<Self>, metrics: Metrics) {
        loop {
            self.add(Instant::now(), counts(&metrics));
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn add(&self, now: Instant, counts: Counts) {
        let samples = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while samples.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            samples.pop_front();
        }
        samples.push_back((now, counts));
    }

    /// The averages up to now.
    pub(crate) fn rates(&self, metrics: &Metrics) -> Rates {
        self.between(Instant::now(), counts(metrics))
    }

    fn between(&self, now: Instant, counts: Counts) -> Rates {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, before)) = samples.front() else { return Rates::default() };
        let seconds = now.saturating_duration_since(*since).as_secs_f64();
        if seconds == 0.0 {
            return Rates::default();
        }
        let rate = |at: usize| counts[at].saturating_sub(before[at]) as f64 / seconds;
        Rates {
            seconds,
            connects: rate(0),
            disconnects: rate(1),
            received_messages: rate(2),
            received_bytes: rate(3),
            sent_messages: rate(4),
            sent_bytes: rate(5),
        }
    }
}

fn counts(metrics: &Metrics) -> Counts {
    let accepted = |protocol| metrics.handshakes.with_label_values(&[protocol, "accepted"]).get();
    [
        accepted("socketio") + accepted("peerserver"),
        // A session that moves to another node neither comes nor goes.
        signalbox_telemetry::sum(&metrics.disconnects),
        metrics.received_messages.get(),
        metrics.received_bytes.get(),
        metrics.sent_messages.get(),
        metrics.sent_bytes.get(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_moves_away_has_not_gone() {
        let metrics = Metrics::new();
        let clients = metrics.connections.with_label_values(&["socketio", "websocket"]);
        metrics.handshakes.with_label_values(&["socketio", "accepted"]).inc_by(3);
        clients.set(3);
        clients.dec();
        assert_eq!(counts(&metrics)[..2], [3, 0]);
        metrics.disconnects.with_label_values(&["socketio", "ping timeout"]).inc();
        metrics.disconnects.with_label_values(&["peerserver", "superseded"]).inc();
        assert_eq!(counts(&metrics)[..2], [3, 2]);
    }

    #[test]
    fn rates_are_averages_over_the_last_ten_seconds() {
        let (samples, start) = (RateSamples::default(), Instant::now());
        assert_eq!(samples.between(start, [9; 6]), Rates::default());
        for second in 0..60 {
            samples.add(start + second * INTERVAL, [u64::from(second) * 100; 6]);
        }
        let rates = samples.between(start + 60 * INTERVAL, [6_000; 6]);
        assert_eq!((rates.sent_messages, rates.seconds), (100.0, 11.0));
    }
}
