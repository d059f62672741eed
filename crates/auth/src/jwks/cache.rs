//! When a key set is fetched, and which one is used: a state machine, and a handle by which all threads share it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::JwksError;
use crate::keys::Key;

/// How often a key set is fetched.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// How old a set gets before it is fetched again; default 10 minutes.
    pub refresh: Duration,
    /// Tokens with an unknown `kid` have it fetched no more often than this, since anybody can make such tokens; default 10 s.
    pub unknown_kid: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(600), unknown_kid: Duration::from_secs(10) }
    }
}

/// The first wait after a failure; it doubles, up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// After this long a fetch that nothing is heard of is taken for lost: longer than any fetch takes.
const LOST: Duration = Duration::from_secs(60);

/// What becomes of a token whose `kid` is not in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKid {
    /// The set is being fetched, or is about to be: it is worth waiting for.
    Refreshing,
    /// It was fetched a moment ago, and it is not fetched again yet.
    Limited,
}

/// What there is to know about a key set, for metrics and readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksStatus {
    /// How many keys are in use.
    pub keys: usize,
    /// When the set in use was fetched; `None` before the first success.
    pub fetched_at: Option<Instant>,
    /// How often in a row fetching has failed since.
    pub failures: u32,
    /// Why, the last time.
    pub last_error: Option<JwksError>,
}

/// The key set of one issuer. It emits fetches, takes their results, and keeps the last good set for as long as fetching fails.
#[derive(Debug)]
pub struct JwksCache {
    intervals: Intervals,
    keys: Arc<[Key]>,
    /// When the fetch under way began.
    in_flight: Option<Instant>,
    /// When the last fetch began.
    last_fetch: Option<Instant>,
    /// When the next is due.
    due: Instant,
    fetched_at: Option<Instant>,
    failures: u32,
    last_error: Option<JwksError>,
}

impl JwksCache {
    /// An empty one, whose first fetch is due at once.
    pub fn new(intervals: Intervals, now: Instant) -> Self {
        Self {
            intervals,
            keys: Arc::new([]),
            in_flight: None,
            last_fetch: None,
            due: now,
            fetched_at: None,
            failures: 0,
            last_error: None,
        }
    }

    /// The keys in use.
    pub fn keys(&self) -> &Arc<[Key]> {
        &self.keys
    }

    /// Whether the set has ever been fetched.
    pub fn has_loaded(&self) -> bool {
        self.fetched_at.is_some()
    }

    /// Whether to fetch now. Where it says so, it awaits [`Self::on_body`] or [`Self::on_error`].
    pub fn poll(&mut self, now: Instant) -> bool {
        if now < self.next_wakeup() {
            return false;
        }
        self.in_flight = Some(now);
        self.last_fetch = Some(now);
        true
    }

    /// When to ask [`Self::poll`] again.
    pub fn next_wakeup(&self) -> Instant {
        match self.in_flight {
            Some(began) => began + LOST,
            None => self.due,
        }
    }

    /// Takes what was fetched. A set that cannot be used counts as a failure.
    pub fn on_body(&mut self, now: Instant, body: &[u8]) {
        match super::parse(body, false) {
            Ok(keys) => {
                self.keys = keys.into();
                self.in_flight = None;
                self.fetched_at = Some(now);
                self.failures = 0;
                self.last_error = None;
                self.due = now + self.intervals.refresh;
            }
            Err(error) => self.on_error(now, error),
        }
    }

    /// Takes a failure. The last good set stays in use.
    pub fn on_error(&mut self, now: Instant, error: JwksError) {
        self.in_flight = None;
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error);
        self.due = now + (FIRST_RETRY * 2_u32.pow(doublings)).min(LONGEST_RETRY);
    }

    /// Somebody has a token with a `kid` that is not in the set: the set may have changed. What is fetched by then may be what is
    /// missing, so nothing is begun beside a fetch under way.
    pub fn on_unknown_kid(&mut self, now: Instant) -> UnknownKid {
        if self.in_flight.is_some() || self.due <= now {
            return UnknownKid::Refreshing;
        }
        if self.last_fetch.is_some_and(|began| now < began + self.intervals.unknown_kid) {
            return UnknownKid::Limited;
        }
        self.due = now;
        UnknownKid::Refreshing
    }

    /// What there is to know.
    pub fn status(&self) -> JwksStatus {
        JwksStatus {
            keys: self.keys.len(),
            fetched_at: self.fetched_at,
            failures: self.failures,
            last_error: self.last_error.clone(),
        }
    }
}

/// A key set that its fetcher fills and that all threads read.
#[derive(Debug, Clone)]
pub struct SharedJwks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cache: Mutex<JwksCache>,
    /// The fetcher waits for it.
    is_due: Condvar,
}

impl SharedJwks {
    /// An empty one, whose first fetch is due at once.
    pub fn new(intervals: Intervals, now: Instant) -> Self {
        Self(Arc::new(Shared { cache: Mutex::new(JwksCache::new(intervals, now)), is_due: Condvar::new() }))
    }

    /// Looks at the cache, or tells it something. Do not hold on to it: everybody waits.
    pub fn with<T>(&self, look: impl FnOnce(&mut JwksCache) -> T) -> T {
        look(&mut self.0.cache.lock())
    }

    /// The keys in use, and whether they were ever fetched.
    pub(crate) fn keys(&self) -> (Arc<[Key]>, bool) {
        self.with(|cache| (cache.keys().clone(), cache.has_loaded()))
    }

    /// [`JwksCache::on_unknown_kid`]; wakes the fetcher.
    pub(crate) fn on_unknown_kid(&self, now: Instant) -> UnknownKid {
        let outcome = self.with(|cache| cache.on_unknown_kid(now));
        if outcome == UnknownKid::Refreshing {
            self.0.is_due.notify_all();
        }
        outcome
    }

    /// Has the fetcher look about, e.g. to see that it is to stop.
    pub(super) fn wake(&self) {
        // Under the lock, so that the fetcher is either waiting, or has yet to look.
        let _cache = self.0.cache.lock();
        self.0.is_due.notify_all();
    }

    /// Waits until a fetch is due. `false`: it is to stop. `now` reads the clock.
    pub(super) fn wait(&self, is_stopped: impl Fn() -> bool, now: impl Fn() -> Instant) -> bool {
        let mut cache = self.0.cache.lock();
        loop {
            if is_stopped() {
                return false;
            }
            if cache.poll(now()) {
                return true;
            }
            let until = cache.next_wakeup();
            self.0.is_due.wait_until(&mut cache, until);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SET: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

    const REFRESH: Duration = Duration::from_secs(600);
    const UNKNOWN_KID: Duration = Duration::from_secs(10);

    fn cache_at(now: Instant) -> JwksCache {
        JwksCache::new(Intervals::default(), now)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_set_is_fetched_at_once_and_again_when_it_is_old() {
        let start = Instant::now();
        let mut cache = cache_at(start);
        assert!(!cache.has_loaded());
        assert!(cache.poll(start));
        assert!(!cache.poll(start), "one fetch at a time");
        cache.on_body(start, SET);
        assert!(cache.has_loaded() && cache.keys().len() == 1);
        assert!(!cache.poll(start + REFRESH - seconds(1)));
        assert!(cache.poll(start + REFRESH));
    }

    #[test]
    fn the_last_good_set_outlives_any_outage() {
        let start = Instant::now();
        let mut cache = cache_at(start);
        cache.poll(start);
        cache.on_body(start, SET);
        let mut now = start + REFRESH;
        let mut waits = Vec::new();
        let too_large = vec![b' '; super::super::MAX_SET + 1];
        let fetched: [Result<&[u8], JwksError>; 9] = [
            Err(JwksError::TimedOut),
            Ok(b"<html>"),
            Ok(br#"{"keys":[]}"#),
            Ok(&too_large),
            Err(JwksError::Redirect),
            Err(JwksError::Status(500)),
            Ok(b""),
            Ok(b"[]"),
            Err(JwksError::TimedOut),
        ];
        for result in fetched {
            assert!(cache.poll(now));
            match result {
                Ok(body) => cache.on_body(now, body),
                Err(error) => cache.on_error(now, error),
            }
            assert_eq!(cache.keys().len(), 1);
            waits.push(cache.next_wakeup().duration_since(now).as_secs());
            now = cache.next_wakeup();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(cache.status().failures, 9);
        assert!(cache.poll(now));
        cache.on_body(now, SET);
        assert_eq!(cache.status().failures, 0);
        assert_eq!(cache.next_wakeup(), now + REFRESH);
    }

    #[test]
    fn unknown_kids_have_it_fetched_but_seldom() {
        let start = Instant::now();
        let mut cache = cache_at(start);
        assert_eq!(cache.on_unknown_kid(start), UnknownKid::Refreshing);
        cache.poll(start);
        assert_eq!(cache.on_unknown_kid(start), UnknownKid::Refreshing, "under way");
        cache.on_body(start, SET);
        assert_eq!(cache.on_unknown_kid(start + seconds(9)), UnknownKid::Limited);
        assert!(!cache.poll(start + seconds(9)));
        let later = start + UNKNOWN_KID;
        assert_eq!(cache.on_unknown_kid(later), UnknownKid::Refreshing);
        assert!(cache.poll(later));
        cache.on_error(later, JwksError::TimedOut);
        assert_eq!(cache.on_unknown_kid(later), UnknownKid::Limited, "nor while the server is down");
    }

    #[test]
    fn a_fetch_that_nothing_is_heard_of_is_begun_again() {
        let start = Instant::now();
        let mut cache = cache_at(start);
        assert!(cache.poll(start));
        assert!(!cache.poll(start + LOST - seconds(1)));
        assert!(cache.poll(start + LOST));
    }

    proptest! {
        /// Whatever happens, fetches begin one after another, and unknown kids alone never more often than is allowed.
        #[test]
        fn it_is_never_fetched_too_often(steps in proptest::collection::vec((0_u64..20, 0_u8..4), 0..200)) {
            let mut now = Instant::now();
            let mut cache = cache_at(now);
            let mut is_in_flight = false;
            let mut began = Vec::new();
            let mut failed = false;
            for (passed, what) in steps {
                now += seconds(passed);
                match what {
                    0 => { cache.on_unknown_kid(now); }
                    1 if is_in_flight => { cache.on_body(now, SET); is_in_flight = false; failed = false; }
                    2 if is_in_flight => { cache.on_error(now, JwksError::TimedOut); is_in_flight = false; failed = true; }
                    _ => {}
                }
                if cache.poll(now) {
                    if let Some(last) = began.last() && !failed {
                        prop_assert!(now.duration_since(*last) >= UNKNOWN_KID);
                    }
                    began.push(now);
                    is_in_flight = true;
                }
                prop_assert!(cache.next_wakeup() <= now + REFRESH);
            }
        }
    }
}
