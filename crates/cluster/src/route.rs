//! Which shards of this node have members of a room.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::address::ShardId;

/// One bit per shard. A shard sets its bit before it joins the room, and clears it after its last member has left, so that a
/// broadcast that begins after a join was answered reaches the new member. Broadcasts read the bits without a lock.
#[derive(Debug, Default)]
pub struct Route([AtomicU64; 4]);

impl Route {
    fn word(&self, shard: ShardId) -> (&AtomicU64, u64) {
        (&self.0[usize::from(shard / 64)], 1 << (shard % 64))
    }

    /// The shard wants the room's traffic.
    pub fn add(&self, shard: ShardId) {
        let (word, bit) = self.word(shard);
        word.fetch_or(bit, Ordering::AcqRel);
    }

    /// The shard has no members any more.
    pub fn remove(&self, shard: ShardId) {
        let (word, bit) = self.word(shard);
        word.fetch_and(!bit, Ordering::AcqRel);
    }

    /// The shards that want the room's traffic.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        let words = [0, 1, 2, 3].map(|index: usize| self.0[index].load(Ordering::Acquire));
        words.into_iter().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some((index * 64) as ShardId + bit as ShardId)
            })
        })
    }

    /// Whether no shard does.
    pub fn is_empty(&self) -> bool {
        self.shards().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_come_and_go() {
        let route = Route::default();
        assert!(route.is_empty());
        for shard in [255, 0, 63, 64] {
            route.add(shard);
        }
        assert_eq!(route.shards().collect::<Vec<_>>(), [0, 63, 64, 255]);
        route.remove(63);
        assert_eq!(route.shards().collect::<Vec<_>>(), [0, 64, 255]);
    }
}
