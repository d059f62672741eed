//! A server that fails again and again is left alone for a while: a state machine without a clock of its own.

use std::time::{Duration, Instant};

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);
/// Failures in a row after which the server counts as broken.
const TRIES: u32 = 5;

/// Whether to ask a server, judged by how it has answered. After a failure there is a pause, twice as long after each further one, up to
/// a minute. After five in a row the breaker is *open*: the server is asked once after each pause, and the first success closes it.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// Whether the server may be asked now.
    pub fn allows(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// How long it is to be left alone from now on.
    pub fn pause(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Whether it counts as broken: what can do without it should.
    pub fn is_open(&self) -> bool {
        self.failures >= TRIES
    }

    /// It has answered well.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It has not. `jitter`, between 0 and 1, makes the pause up to a half longer, so that many do not come back at once. `at_least`: as
    /// long as the server itself has asked for, up to the longest pause.
    pub fn failed(&mut self, now: Instant, jitter: f64, at_least: Option<Duration>) {
        let pause = FIRST.saturating_mul(1 << self.failures.min(7)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let pause = pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 2.0);
        let asked = at_least.unwrap_or_default().min(LONGEST);
        self.until = Some(now + pause.max(asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_end_with_the_first_success() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(breaker.allows(now + breaker.pause(now)));
            breaker.failed(now, 0.0, None);
            assert!(!breaker.allows(now));
            pauses.push(breaker.pause(now).as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert!(breaker.is_open());
        breaker.succeeded();
        assert!(breaker.allows(now) && !breaker.is_open());
    }

    #[test]
    fn a_server_may_ask_for_a_longer_pause_but_not_for_an_endless_one() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(now, 1.0, Some(Duration::from_secs(3)));
        assert_eq!(breaker.pause(now), Duration::from_secs(3));
        breaker.failed(now, 1.0, Some(Duration::from_secs(86_400)));
        assert_eq!(breaker.pause(now), Duration::from_secs(60));
        let mut breaker = Breaker::default();
        breaker.failed(now, 1.0, None);
        assert_eq!(breaker.pause(now), Duration::from_millis(750));
    }
}
