//! How slow a client may be with something that it has begun.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use crate::config::Config;

/// Who is asked so much later than something was due was not asked in time: it was the node that did not read.
const PAUSED: Duration = Duration::from_secs(1);

/// How fast something is to go on: it has to end within a time, or be at a least rate on average over each such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) timeout: Duration,
    /// Bytes a second.
    pub(crate) min_rate: usize,
}

impl Pace {
    /// That of whatever a client sends or reads in more than one piece.
    pub(crate) fn of(config: &Config) -> Self {
        Self { timeout: config.body_timeout, min_rate: config.min_body_rate }
    }

    /// Bytes that give another `timeout`.
    fn quota(&self) -> usize {
        (self.timeout.as_millis() as usize).saturating_mul(self.min_rate) / 1_000
    }
}

/// How far something has come that has not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    until: Instant,
    bytes: usize,
}

impl Progress {
    pub(crate) fn begin(now: Instant, pace: &Pace) -> Self {
        Self { until: now + pace.timeout, bytes: 0 }
    }

    /// It has gone on by so many bytes.
    pub(crate) fn advance(&mut self, now: Instant, bytes: usize, pace: &Pace) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= pace.quota().max(1) || now > self.until + PAUSED {
            *self = Self::begin(now, pace);
        }
    }

    /// For so long it was the node's doing that it did not go on.
    pub(crate) fn postpone(&mut self, paused: Duration) {
        self.until += paused;
    }

    /// Until when it has to have ended, or gone on.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }
}

/// Wakes a task at a time that may move.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Whether it is `until`; else the task is woken then, or earlier.
    pub(crate) fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> bool {
        if Instant::now() >= until {
            return true;
        }
        let until = until.into();
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        // One that fires early is set again only then: what it is for mostly moves on.
        while timer.as_mut().poll(cx) == Poll::Ready(()) {
            if timer.deadline() >= until {
                return true;
            }
            timer.as_mut().reset(until);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { timeout: Duration::from_secs(20), min_rate: 1_000 };

    #[test]
    fn what_goes_on_fast_enough_may_take_longer() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut progress = Progress::begin(began, &PACE);
        progress.advance(at(10), 19_999, &PACE);
        assert_eq!(progress.until(), at(20));
        progress.advance(at(15), 1, &PACE);
        assert_eq!(progress.until(), at(35));
        // However much there was before, what stops has no more than the timeout.
        progress.advance(at(16), 10_000_000, &PACE);
        assert_eq!(progress.until(), at(36));
    }

    #[test]
    fn who_was_not_read_on_begins_again() {
        let began = Instant::now();
        let mut progress = Progress::begin(began, &PACE);
        let later = began + Duration::from_secs(60);
        progress.advance(later, 1, &PACE);
        assert_eq!(progress.until(), later + PACE.timeout);
    }
}
