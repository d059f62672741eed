//! What became of requests that bear a key, so that one that is sent again is not done again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::protocol::inquiry::Once;

/// How long an outcome is remembered.
const KEPT: Duration = Duration::from_secs(600);
/// Most keys that are remembered.
const MOST: usize = 1_000;

/// Most bytes of outcomes that are remembered. The oldest give way.
const MOST_BYTES: usize = 16 << 20;

/// Requests by their keys: when they began, and their outcomes once they have one.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Mutex<HashMap<String, (Instant, Option<String>)>>);

impl Outcomes {
    /// A request begins, unless it is known. `None` if too many are under way to remember one more.
    pub(super) fn begin(&self, now: Instant, key: &str) -> Option<Once> {
        let known = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (began, _)| now.saturating_duration_since(*began) < KEPT);
        if let Some(once) = known.get(key).map(once) {
            return Some(once);
        }
        if known.len() >= MOST {
            let done = known.iter().filter(|(_, (_, outcome))| outcome.is_some());
            let oldest = done.min_by_key(|(_, (began, _))| *began).map(|(key, _)| key.clone());
            known.remove(&oldest?);
        }
        known.insert(key.to_owned(), (now, None));
        Some(Once::New)
    }

    /// A request has an outcome; without one it may be sent again.
    pub(super) fn finish(&self, key: &str, outcome: Option<String>) {
        let known = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Some(outcome) => {
                let began = known.get(key).map_or_else(Instant::now, |(began, _)| *began);
                known.insert(key.to_owned(), (began, Some(outcome)));
                make_room(known);
            }
            None => drop(known.remove(key)),
        }
    }

    /// What is known of a key.
    pub(super) fn look(&self, key: &str) -> Once {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).map_or(Once::New, once)
    }
}

fn make_room(known: &mut HashMap<String, (Instant, Option<String>)>) {
    let size = |(_, outcome): &(Instant, Option<String>)| outcome.as_ref().map_or(0, String::len);
    let mut bytes: usize = known.values().map(size).sum();
    while bytes > MOST_BYTES {
        let done = known.iter().filter(|(_, (_, outcome))| outcome.is_some());
        let oldest = done.min_by_key(|(_, (began, _))| *began).map(|(key, _)| key.clone());
        let Some(forgotten) = oldest.and_then(|key| known.remove(&key)) else { return };
        bytes -= size(&forgotten);
    }
}

fn once((_, outcome): &(Instant, Option<String>)) -> Once {
    outcome.clone().map_or(Once::UnderWay, Once::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_done_once_and_forgotten_after_a_while() {
        let (outcomes, now) = (Outcomes::default(), Instant::now());
        assert_eq!(outcomes.begin(now, "a"), Some(Once::New));
        assert_eq!(outcomes.begin(now, "a"), Some(Once::UnderWay));
        outcomes.finish("a", Some("done".to_owned()));
        assert_eq!(outcomes.begin(now, "a"), Some(Once::Done("done".to_owned())));
        assert_eq!(outcomes.begin(now + KEPT, "a"), Some(Once::New));
        outcomes.finish("a", None);
        assert_eq!(outcomes.look("a"), Once::New);
    }

    #[test]
    fn outcomes_have_a_size_together() {
        let (outcomes, now) = (Outcomes::default(), Instant::now());
        for key in 0..10 {
            let began = now + Duration::from_millis(key);
            assert_eq!(outcomes.begin(began, &key.to_string()), Some(Once::New));
            outcomes.finish(&key.to_string(), Some("x".repeat(MOST_BYTES / 4)));
        }
        let known: Vec<u64> = (0..10).filter(|key| outcomes.look(&key.to_string()) != Once::New).collect();
        assert_eq!(known, [6, 7, 8, 9]);
    }

    #[test]
    fn there_is_room_as_long_as_something_is_done() {
        let (outcomes, now) = (Outcomes::default(), Instant::now());
        for key in 0..MOST {
            assert_eq!(outcomes.begin(now, &key.to_string()), Some(Once::New));
        }
        assert_eq!(outcomes.begin(now, "more"), None);
        outcomes.finish("7", Some(String::new()));
        assert_eq!(outcomes.begin(now, "more"), Some(Once::New));
        assert_eq!(outcomes.look("7"), Once::New);
    }
}
