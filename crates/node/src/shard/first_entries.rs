//! The first entries of something that is in no order.

use std::collections::BinaryHeap;

/// An entry, in the order of its key.
struct Entry<K, T> {
    key: K,
    value: T,
}

impl<K: Ord, T> PartialEq for Entry<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<K: Ord, T> Eq for Entry<K, T> {}

impl<K: Ord, T> PartialOrd for Entry<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Entry<K, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// The first `limit` entries in the order of their keys, and whether there are more. No more than those are held at any time, and keys may
/// be borrowed: an entry that is not among the first costs a comparison.
pub(super) fn first_entries<K: Ord, T>(
    entries: impl Iterator<Item = (K, T)>,
    limit: usize,
) -> (Vec<(K, T)>, bool) {
    // The last one that is kept is on top.
    let mut kept: BinaryHeap<Entry<K, T>> = BinaryHeap::new();
    let mut has_more = false;
    for (key, value) in entries {
        if kept.len() < limit {
            kept.push(Entry { key, value });
            continue;
        }
        has_more = true;
        if let Some(mut last) = kept.peek_mut().filter(|last| key < last.key) {
            *last = Entry { key, value };
        }
    }
    let sorted = kept.into_sorted_vec().into_iter().map(|Entry { key, value }| (key, value));
    (sorted.collect(), has_more)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_those_that_sorting_finds(keys: Vec<u8>, limit in 0_usize..20) {
            let (found, has_more) = first_entries(keys.iter().map(|key| (key, ())), limit);
            let found: Vec<u8> = found.into_iter().map(|(key, ())| *key).collect();
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            prop_assert_eq!(has_more, sorted.len() > limit);
            sorted.truncate(limit);
            prop_assert_eq!(found, sorted);
        }
    }
}
