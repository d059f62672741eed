//! What is kept of sockets for a while.

use std::{collections::VecDeque, time::Instant};

use ahash::AHashMap;
use signalbox_cluster::Address;

use super::shrink::Shrink;

/// Most sockets of which something is kept, by one shard and of one kind. The oldest entries go.
const MAX_ENTRIES: usize = 65_536;

/// Values that are forgotten at their time: when others are added, or at the next [`Self::forget_expired`].
pub(in crate::shard) struct Expiring<V> {
    entries: AHashMap<Address, Entry<V>>,
    /// When which entry is to be looked at, in order of insertion. One that is gone by then, or has more time, has an item of its own.
    queue: VecDeque<(Instant, Address)>,
}

struct Entry<V> {
    until: Instant,
    value: V,
}

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self { entries: AHashMap::new(), queue: VecDeque::new() }
    }
}

impl<V> Expiring<V> {
    /// Keeps a value until then, in place of another one of this socket.
    pub(in crate::shard) fn insert(&mut self, now: Instant, socket: Address, until: Instant, value: V) {
        self.forget_expired(now);
        self.entries.insert(socket, Entry { until, value });
        self.queue.push_back((until, socket));
        while self.entries.len() > MAX_ENTRIES
            && let Some((_, oldest)) = self.queue.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    pub(in crate::shard) fn get(&self, now: Instant, socket: Address) -> Option<&V> {
        self.entries.get(&socket).filter(|entry| now < entry.until).map(|entry| &entry.value)
    }

    /// The value, which is kept until then if that is later.
    pub(in crate::shard) fn extend(
        &mut self,
        now: Instant,
        socket: Address,
        until: Instant,
    ) -> Option<&mut V> {
        let entry = self.entries.get_mut(&socket).filter(|entry| now < entry.until)?;
        entry.until = entry.until.max(until);
        Some(&mut entry.value)
    }

    pub(in crate::shard) fn remove(&mut self, now: Instant, socket: Address) -> Option<V> {
        // Its item stays in the queue until it is looked at.
        self.entries.remove(&socket).filter(|entry| now < entry.until).map(|entry| entry.value)
    }

    pub(in crate::shard) fn iter(&self, now: Instant) -> impl Iterator<Item = (Address, &V)> {
        let kept = self.entries.iter().filter(move |(_, entry)| now < entry.until);
        kept.map(|(socket, entry)| (*socket, &entry.value))
    }

    pub(in crate::shard) fn forget_expired(&mut self, now: Instant) {
        while let Some((_, socket)) = self.queue.front().copied().filter(|(due, _)| *due <= now) {
            self.queue.pop_front();
            match self.entries.get(&socket).map(|entry| entry.until) {
                Some(until) if now < until => self.queue.push_back((until, socket)),
                Some(_) => drop(self.entries.remove(&socket)),
                None => {}
            }
        }
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.entries.shrink_if_sparse();
        self.queue.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn socket(number: u32) -> Address {
        let mut bytes = [0; 15];
        bytes[11..].copy_from_slice(&number.to_be_bytes());
        Address::from_bytes(bytes)
    }

    #[test]
    fn an_entry_is_kept_until_its_time_which_may_be_put_off() {
        let (mut kept, now) = (Expiring::default(), Instant::now());
        for number in 0..3 {
            kept.insert(now, socket(number), now + SECOND, number);
        }
        assert_eq!(kept.remove(now, socket(2)), Some(2));
        assert!(kept.extend(now, socket(1), now + 3 * SECOND).is_some());
        // No entry is kept for less long than it was to be.
        assert!(kept.extend(now, socket(1), now).is_some());
        assert_eq!((kept.get(now, socket(0)), kept.get(now + SECOND, socket(0))), (Some(&0), None));
        assert!(kept.extend(now + SECOND, socket(0), now + 9 * SECOND).is_none());
        for (passed, left) in [(1, 1), (2, 1), (3, 0)] {
            let then = now + passed * SECOND;
            kept.forget_expired(then);
            assert_eq!((kept.iter(then).count(), kept.entries.len()), (left, left), "after {passed} s");
        }
        assert!(kept.queue.is_empty());
    }

    #[test]
    fn when_there_are_too_many_the_oldest_go() {
        let (mut kept, now) = (Expiring::default(), Instant::now());
        for number in 0..MAX_ENTRIES as u32 + 2 {
            kept.insert(now, socket(number), now + SECOND, ());
        }
        assert_eq!(kept.entries.len(), MAX_ENTRIES);
        assert!(kept.get(now, socket(1)).is_none() && kept.get(now, socket(2)).is_some());
    }
}
