//! The stories of single clients, for the log: whoever is followed has each frame's head and each turn of its life told, at the level
//! `info` (`--log-client`, `PUT log` of the admin API).
//!
//! - [`selector`]: who is followed.
//! - [`head`]: what is told of a frame.
//!
//! Where nobody is followed, a frame costs a look at one flag.

pub(crate) mod head;
mod selector;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

pub(crate) use selector::Who;
pub use selector::{ClientSelector, NoSelector};

/// The target of the stories. A filter that names it overrides that they are always told.
pub(crate) use signalbox_telemetry::logs::STORIES;
use signalbox_telemetry::logs::{Level, set_own_level};

/// Most clients that are followed, those of the configuration and those of the admin API each.
pub const MAX_FOLLOWED: usize = 32;

/// Who is followed.
#[derive(Debug, Default)]
pub(crate) struct ClientLog {
    /// Somebody is.
    is_on: AtomicBool,
    followed: RwLock<Arc<Followed>>,
    /// How often an operator has changed something: what ends is the latest change.
    changes: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct Followed {
    /// By the configuration.
    always: Vec<ClientSelector>,
    /// By an operator, for a time.
    for_a_time: Vec<ClientSelector>,
}

impl ClientLog {
    /// Follows these clients for as long as the node runs.
    pub(crate) fn always(selectors: &[ClientSelector]) -> Self {
        let always: Vec<ClientSelector> = selectors.iter().take(MAX_FOLLOWED).cloned().collect();
        let is_on = AtomicBool::new(!always.is_empty());
        let followed = RwLock::new(Arc::new(Followed { always, for_a_time: Vec::new() }));
        Self { is_on, followed, changes: AtomicU64::new(0) }
    }

    /// Follows these clients besides, in place of those it was told before; nobody, to end that.
    pub(crate) fn follow(&self, selectors: Vec<ClientSelector>) {
        let mut followed = self.followed.write();
        let followed = Arc::make_mut(&mut followed);
        followed.for_a_time = selectors;
        followed.for_a_time.truncate(MAX_FOLLOWED);
        let is_on = !followed.always.is_empty() || !followed.for_a_time.is_empty();
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Follows these clients and logs at this level, for a time; then it is as configured again. Returns whether it can be done.
    pub(crate) fn change(
        self: &Arc<Self>,
        selectors: Vec<ClientSelector>,
        level: Option<Level>,
        time: Duration,
    ) -> bool {
        let change = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let (clients, is_end) = (selectors.len(), selectors.is_empty() && level.is_none());
        let is_set = set_own_level(level);
        self.follow(selectors);
        if is_end {
            tracing::info!("an operator has ended what was logged besides");
            return is_set;
        }
        let (level, seconds) = (level.map(tracing::field::display), time.as_secs());
        tracing::info!(clients, level, seconds, "an operator has more logged for a time");
        let log = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if log.changes.load(Ordering::SeqCst) == change {
                log.follow(Vec::new());
                set_own_level(None);
                tracing::info!("the time is over: what is logged is as configured again");
            }
        });
        is_set
    }

    /// How many selectors there are.
    pub(crate) fn len(&self) -> usize {
        let followed = self.followed.read();
        followed.always.len() + followed.for_a_time.len()
    }

    /// Whether anybody is followed.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// By which selector a client is followed. Any of what is known of it counts: its session, or one of its sockets.
    pub(crate) fn find<'a>(&self, whos: impl Iterator<Item = Who<'a>> + Clone) -> Option<ClientSelector> {
        let followed = self.followed.read().clone();
        let mut all = followed.always.iter().chain(&followed.for_a_time);
        all.find(|selector| whos.clone().any(|who| selector.matches(&who))).cloned()
    }

    /// The same of a client of which nothing more is known.
    pub(crate) fn find_one(&self, who: Who<'_>) -> Option<ClientSelector> {
        self.find(std::iter::once(who))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> ClientSelector {
        text.parse().unwrap()
    }

    #[test]
    fn clients_are_followed_for_a_time_or_always() {
        let log = ClientLog::always(&[]);
        let who = Who { address: "10.0.0.7".parse().ok(), peer: Some("alice"), ..Who::default() };
        assert!(!log.is_on() && log.find_one(who).is_none());
        log.follow(vec![selector("bob"), selector("::ffff:10.0.0.7")]);
        assert!(log.is_on());
        assert_eq!(log.find_one(who), Some(selector("10.0.0.7")));
        log.follow(Vec::new());
        assert!(!log.is_on() && log.find_one(who).is_none());

        let log = ClientLog::always(&[selector("alice")]);
        log.follow(Vec::new());
        assert!(log.is_on() && log.find_one(who).is_some());
        let others = Who { address: "10.0.0.8".parse().ok(), peer: Some("alice2"), ..Who::default() };
        assert!(log.find_one(others).is_none());
    }
}
