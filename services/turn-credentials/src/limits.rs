//! How many credentials are issued in a minute. Each instance counts for itself here.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use parking_lot::Mutex;

/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Names that one part counts; those that come when it is full share one count until the window ends, so that nobody fills the memory.
const MOST_NAMES: usize = 8192;
/// Parts, each with a lock of its own.
const PARTS: usize = 16;

/// Counters of one window, by name.
#[derive(Debug, Default)]
struct Part {
    /// Which window since 1970.
    window: u64,
    counts: HashMap<Box<str>, usize>,
    /// Of all names for which there was no place.
    others: usize,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Limits {
    parts: [Mutex<Part>; PARTS],
    hasher: RandomState,
}

impl Limits {
    /// Counts one more for the name, at `now` in seconds since 1970. `limit` 0 is none.
    ///
    /// # Errors
    /// It is one too many; when the next is not.
    pub fn count(&self, name: &str, limit: usize, now: u64) -> Result<(), Duration> {
        if limit == 0 {
            return Ok(());
        }
        let window = now / WINDOW.as_secs();
        let at = self.hasher.hash_one(name) as usize % PARTS;
        let mut part = self.parts[at].lock();
        if part.window != window {
            *part = Part { window, ..Part::default() };
        }
        let is_full = part.counts.len() >= MOST_NAMES;
        let count = match part.counts.contains_key(name) || !is_full {
            true => part.counts.entry(name.into()).or_default(),
            false => &mut part.others,
        };
        if *count >= limit {
            return Err(Duration::from_secs(WINDOW.as_secs() - now % WINDOW.as_secs()));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_for_each_name() {
        let limits = Limits::default();
        for _ in 0..3 {
            assert_eq!(limits.count("alice", 3, 6000), Ok(()));
        }
        assert_eq!(limits.count("alice", 3, 6010), Err(Duration::from_secs(50)));
        assert_eq!(limits.count("bob", 3, 6010), Ok(()));
        assert_eq!(limits.count("alice", 3, 6060), Ok(()));
        assert_eq!(limits.count("carol", 0, 6060), Ok(()));
    }

    #[test]
    fn names_beyond_number_fill_no_memory() {
        let limits = Limits::default();
        for number in 0..200_000 {
            let _ = limits.count(&format!("name {number}"), 5, 6000);
        }
        let held: usize = limits.parts.iter().map(|part| part.lock().counts.len()).sum();
        assert!(held <= PARTS * MOST_NAMES, "{held}");
        assert!(limits.count("one more", 5, 6000).is_err());
    }
}
