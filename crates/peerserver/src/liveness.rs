//! When a silent client is gone.

use std::time::{Duration, Instant};

/// Longest time between the server's own pings. Proxies commonly cut connections that are idle for a minute.
const PING_AT_MOST_EVERY: Duration = Duration::from_secs(25);

/// The liveness of one client. Any traffic counts as life, also the pong to the server's ping, so a tab whose heartbeat is
/// throttled to once a minute survives.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    timeout: Duration,
    heard: Instant,
    ping_at: Instant,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send a WebSocket ping.
    Ping,
    /// The client is gone: close its connection.
    Gone,
}

impl Liveness {
    /// A client that was heard at `now` and is gone after `timeout` of silence.
    pub fn new(now: Instant, timeout: Duration) -> Self {
        Self { timeout, heard: now, ping_at: now + Self::ping_every(timeout) }
    }

    fn ping_every(timeout: Duration) -> Duration {
        (timeout / 2).min(PING_AT_MOST_EVERY)
    }

    /// Anything arrived.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When to call [`Liveness::tick`].
    pub fn deadline(&self) -> Instant {
        self.ping_at.min(self.heard + self.timeout)
    }

    /// What is due at `now`.
    pub fn tick(&mut self, now: Instant) -> Due {
        if self.heard + self.timeout <= now {
            return Due::Gone;
        }
        if self.ping_at > now {
            return Due::Nothing;
        }
        self.ping_at = now + Self::ping_every(self.timeout);
        Due::Ping
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
        assert_eq!(liveness.tick(start + 24 * SECOND), Due::Nothing);
        assert_eq!(liveness.tick(start + 25 * SECOND), Due::Ping);
        assert_eq!(liveness.tick(start + 50 * SECOND), Due::Ping);
        assert_eq!(liveness.tick(start + 60 * SECOND), Due::Gone);
    }

    #[test]
    fn any_traffic_is_life() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start, 2 * SECOND);
        liveness.heard(start + SECOND);
        assert_ne!(liveness.tick(start + 2 * SECOND), Due::Gone);
        assert_eq!(liveness.tick(start + 3 * SECOND), Due::Gone);
    }
}
