//! Bytes that the node holds for clients that do not read, against a limit for all of them together.

use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

use signalbox_cluster::ShardId;

/// The node's memory budget, shared by its shards.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: usize,
    /// Bytes that wait for slow clients, by shard.
    waiting: Box<[AtomicIsize]>,
    /// Bytes of answers to polls that their clients have yet to read.
    unread: AtomicUsize,
    /// A client is being cut off because of the budget.
    is_evicting: AtomicBool,
}

impl MemoryBudget {
    pub(crate) fn new(limit: usize, shards: usize) -> Self {
        let waiting = (0..shards).map(|_| AtomicIsize::new(0)).collect();
        Self { limit, waiting, unread: AtomicUsize::new(0), is_evicting: AtomicBool::new(false) }
    }

    /// What waits on a shard has changed.
    pub(crate) fn account(&self, shard: ShardId, change: isize) {
        self.waiting[usize::from(shard)].fetch_add(change, Ordering::Relaxed);
    }

    /// When more waits than the budget allows, the shard for which most waits; one at a time, so that each eviction has its effect
    /// before the next. [`MemoryBudget::evicted`] ends its turn.
    pub(crate) fn shard_to_evict_on(&self) -> Option<ShardId> {
        let waiting = self.waiting.iter().map(|waiting| waiting.load(Ordering::Relaxed));
        if waiting.clone().sum::<isize>() <= self.limit as isize {
            return None;
        }
        let (fullest, _) = waiting.enumerate().max_by_key(|(_, waiting)| *waiting)?;
        (!self.is_evicting.swap(true, Ordering::AcqRel)).then_some(fullest as ShardId)
    }

    /// The fullest client was cut off.
    pub(crate) fn evicted(&self) {
        self.is_evicting.store(false, Ordering::Release);
    }

    /// Counts an answer that its client has yet to read; `false` if with it more would wait than the budget allows. One alone is
    /// within its session's own limit. Either way it counts until [`MemoryBudget::release_unread`].
    pub(crate) fn count_unread(&self, size: usize) -> bool {
        let others = self.unread.fetch_add(size, Ordering::AcqRel);
        others == 0 || others + size <= self.limit
    }

    /// The client has read an answer, or is gone.
    pub(crate) fn release_unread(&self, size: usize) {
        self.unread.fetch_sub(size, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_shard_evicts_one_client_at_a_time() {
        let budget = MemoryBudget::new(100, 3);
        budget.account(0, 40);
        budget.account(2, 60);
        assert_eq!(budget.shard_to_evict_on(), None);
        budget.account(1, 1);
        assert_eq!(budget.shard_to_evict_on(), Some(2));
        assert_eq!(budget.shard_to_evict_on(), None);
        budget.evicted();
        assert_eq!(budget.shard_to_evict_on(), Some(2));
        budget.evicted();
        budget.account(2, -60);
        assert_eq!(budget.shard_to_evict_on(), None);
    }

    #[test]
    fn one_unread_answer_is_always_allowed() {
        let budget = MemoryBudget::new(100, 1);
        assert!(budget.count_unread(1000));
        assert!(!budget.count_unread(1));
        budget.release_unread(1);
        budget.release_unread(1000);
        assert!(budget.count_unread(60));
        assert!(budget.count_unread(40));
        assert!(!budget.count_unread(1));
    }
}
