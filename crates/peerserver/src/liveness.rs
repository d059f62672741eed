//! When a silent client counts as disconnected.

use std::time::{Duration, Instant};

/// Longest time between the server's own pings. Proxies commonly cut connections that are idle for a minute.
const PING_AT_MOST_EVERY: Duration = Duration::from_secs(25);

/// The liveness of one client. Any traffic counts as life, also the pong to the server's ping, so a tab whose heartbeat is
/// throttled to once a minute survives.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    timeout: Duration,
    last_activity: Instant,
    ping_at: Instant,
}

/// What [`Liveness::tick`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivenessCheck {
    /// Nothing yet.
    Nothing,
    /// Send a WebSocket ping.
    SendPing,
    /// Nothing has arrived for the whole time-out: close the connection.
    TimedOut,
}

impl Liveness {
    /// A client that was active at `now`, and times out after `timeout` without traffic.
    pub fn new(now: Instant, timeout: Duration) -> Self {
        Self { timeout, last_activity: now, ping_at: now + Self::ping_every(timeout) }
    }

    fn ping_every(timeout: Duration) -> Duration {
        (timeout / 2).min(PING_AT_MOST_EVERY)
    }

    /// Data of any kind has arrived: a message, a ping or a pong.
    pub fn record_activity(&mut self, now: Instant) {
        self.last_activity = now;
    }

    /// When to call [`Liveness::tick`].
    pub fn deadline(&self) -> Instant {
        self.ping_at.min(self.last_activity + self.timeout)
    }

    /// What is due at `now`.
    pub fn tick(&mut self, now: Instant) -> LivenessCheck {
        if self.last_activity + self.timeout <= now {
            return LivenessCheck::TimedOut;
        }
        if self.ping_at > now {
            return LivenessCheck::Nothing;
        }
        self.ping_at = now + Self::ping_every(self.timeout);
        LivenessCheck::SendPing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_is_asked_about_and_then_ends_the_client() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, 60 * SECOND);
        assert_eq!(liveness.deadline(), start + 25 * SECOND);
        assert_eq!(liveness.tick(start + 24 * SECOND), LivenessCheck::Nothing);
        assert_eq!(liveness.tick(start + 25 * SECOND), LivenessCheck::SendPing);
        assert_eq!(liveness.tick(start + 50 * SECOND), LivenessCheck::SendPing);
        assert_eq!(liveness.tick(start + 60 * SECOND), LivenessCheck::TimedOut);
    }

    #[test]
    fn any_traffic_is_life() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, 2 * SECOND);
        liveness.record_activity(start + SECOND);
        assert_ne!(liveness.tick(start + 2 * SECOND), LivenessCheck::TimedOut);
        assert_eq!(liveness.tick(start + 3 * SECOND), LivenessCheck::TimedOut);
    }
}
