//! What one connection may send in a second.

use std::time::Duration;

use signalbox_admin::SocketRates;
use signalbox_auth::{
    Principal,
    grants::{Limit, Limits},
};

use super::{Bucket, Taken};
use crate::config::ClientLimits;

/// How much may come in a second; 0 is any amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RateLimits {
    events: u32,
    bytes: u32,
    joins: u32,
}

impl RateLimits {
    /// What the grants of one client say, and for the rest the node. Of several tokens on one connection the most generous counts.
    pub(crate) fn of<'a>(
        config: &ClientLimits,
        principals: impl Iterator<Item = &'a Principal> + Clone,
    ) -> Self {
        let most = |limit: Limit, default: Option<u32>| {
            let said =
                |limits: &Limits| limits.get(limit).map(|most| u32::try_from(most).unwrap_or(u32::MAX));
            let own = principals.clone().filter_map(|principal| said(principal.grants.limits())).max();
            own.or(default).unwrap_or(0)
        };
        Self {
            events: most(Limit::EventsPerSecond, config.events_per_second),
            bytes: most(Limit::BytesPerSecond, config.bytes_per_second),
            joins: most(Limit::JoinsPerSecond, config.joins_per_second),
        }
    }
}

/// Over how long it is told how much comes: each window counts together with what is left of the one before.
const WINDOW: u64 = 10_000_000_000;

/// What has come lately, and would cost too much to be forgotten evenly.
#[derive(Debug, Default)]
struct Recent {
    window: u32,
    /// In this window, and in the one before.
    events: [u32; 2],
    bytes: [u64; 2],
}

impl Recent {
    fn add(&mut self, now: u64, events: u32, bytes: u64) {
        self.turn(now);
        self.events[0] = self.events[0].saturating_add(events);
        self.bytes[0] = self.bytes[0].saturating_add(bytes);
    }

    fn turn(&mut self, now: u64) {
        let window = (now / WINDOW) as u32;
        match window.wrapping_sub(self.window) {
            0 => return,
            1 => (self.events, self.bytes) = ([0, self.events[0]], [0, self.bytes[0]]),
            _ => (self.events, self.bytes) = Default::default(),
        }
        self.window = window;
    }

    /// Events and bytes a second.
    fn per_second(&self, now: u64) -> (f64, f64) {
        let mut recent = Self { ..*self };
        recent.turn(now);
        let before = 1.0 - (now % WINDOW) as f64 / WINDOW as f64;
        let seconds = WINDOW as f64 / 1e9;
        let rate = |[current, last]: [f64; 2]| (current + before * last) / seconds;
        (rate(recent.events.map(f64::from)), rate(recent.bytes.map(|bytes| bytes as f64)))
    }
}

/// The rates of one connection, and what has come so far.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    recent: Recent,
    limits: RateLimits,
    events: Bucket,
    bytes: Bucket,
    joins: Bucket,
    /// The last one that was above a limit was so in its bytes.
    is_over_bytes: bool,
}

impl Rates {
    /// Another token may allow more, or less.
    pub(crate) fn set(&mut self, limits: RateLimits) {
        self.limits = limits;
    }

    /// How much comes, and what may.
    pub(crate) fn row(&self, now: u64) -> SocketRates {
        let (events, bytes) = self.recent.per_second(now);
        let limit = |limit: u32| Some(u64::from(limit)).filter(|limit| *limit > 0);
        let RateLimits { events: most_events, bytes: most_bytes, joins: most_joins } = self.limits;
        SocketRates {
            events,
            bytes,
            events_per_second: limit(most_events),
            bytes_per_second: limit(most_bytes),
            joins_per_second: limit(most_joins),
        }
    }

    /// A packet of so many bytes has come, which is an event, or (`is_part`) a part of one.
    pub(crate) fn received(&mut self, now: u64, bytes: usize, is_part: bool) -> Taken {
        self.recent.add(now, u32::from(!is_part), bytes as u64);
        let events = match self.limits.events {
            0 => Taken::Within,
            limit => self.events.take(now, u64::from(!is_part), u64::from(limit)),
        };
        let bytes = match self.limits.bytes {
            0 => Taken::Within,
            limit => self.bytes.take(now, bytes as u64, u64::from(limit)),
        };
        self.is_over_bytes = bytes != Taken::Within;
        match (events, bytes) {
            (Taken::Within, other) | (other, Taken::Within) => other,
            (Taken::FarOver, _) | (_, Taken::FarOver) => Taken::FarOver,
            (Taken::Over(one), Taken::Over(other)) => Taken::Over(one.max(other)),
        }
    }

    /// Which limit a packet was above that was not within them: of two, that of bytes.
    pub(crate) fn exceeded(&self) -> &'static str {
        if self.is_over_bytes { "bytes" } else { "events" }
    }

    /// The client asks to join a room.
    ///
    /// # Errors
    /// It joins too many: how long it has to wait.
    pub(crate) fn joins(&mut self, now: u64) -> Result<(), Duration> {
        match self.limits.joins {
            0 => Ok(()),
            limit => self.joins.try_take(now, 1, u64::from(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signalbox_auth::{Grants, GrantsSpec};

    use super::*;

    fn principal(limits: &str) -> Principal {
        let spec = GrantsSpec::from_setting(&format!("{{\"limits\":{limits}}}")).unwrap();
        Principal {
            issuer: None,
            subject: "alice".into(),
            session: None,
            token_id: None,
            issued_at: None,
            expires_at: 0,
            grants: Arc::new(Grants::new(Arc::new(spec), "alice")),
        }
    }

    #[test]
    fn grants_take_the_place_of_the_nodes_limits_and_the_most_generous_counts() {
        let config =
            ClientLimits { events_per_second: Some(5), bytes_per_second: None, ..ClientLimits::default() };
        let of = |principals: &[Principal]| RateLimits::of(&config, principals.iter());
        let limits = |events, bytes| RateLimits { events, bytes, joins: 0 };
        assert_eq!(of(&[]), limits(5, 0));
        assert_eq!(of(&[principal(r#"{"eventsPerSecond":1,"bytesPerSecond":9}"#)]), limits(1, 9));
        let both = [principal(r#"{"eventsPerSecond":7}"#), principal(r#"{"eventsPerSecond":1}"#)];
        assert_eq!(of(&both), limits(7, 0));
    }

    #[test]
    fn what_comes_is_told_over_the_last_seconds_and_then_forgotten() {
        let mut rates = Rates::default();
        let second = 1_000_000_000;
        for at in 0..30 {
            rates.received(at * second, 50, false);
            rates.received(at * second, 50, true);
        }
        let at = |at: u64| {
            let SocketRates { events, bytes, .. } = rates.row(at * second);
            ((events * 10.0).round(), (bytes / 10.0).round())
        };
        assert_eq!([at(30), at(35), at(40), at(50)], [(10.0, 10.0), (5.0, 5.0), (0.0, 0.0), (0.0, 0.0)]);
    }

    #[test]
    fn bytes_and_events_are_counted_apart_and_parts_are_no_events() {
        let mut rates = Rates::default();
        assert_eq!(rates.received(0, usize::MAX, false), Taken::Within);
        rates.set(RateLimits { events: 1, bytes: 10, joins: 1 });
        for _ in 0..100 {
            assert_eq!(rates.received(0, 0, true), Taken::Within);
        }
        for _ in 0..10 {
            assert_eq!(rates.received(0, 10, false), Taken::Within);
            assert_eq!(rates.joins(0), Ok(()));
        }
        assert!(matches!(rates.received(0, 0, false), Taken::Over(_)));
        assert!(matches!(rates.received(0, 1, true), Taken::Over(_)));
        assert!(rates.joins(0).is_err());
    }
}
