//! Finds out that a master of a Redis Cluster was flushed. Its run id does not change then, and unless it has the leases, nothing
//! else shows it.
//!
//! Each master gets a mark: a key with a random value, in the first partition that it owns. The mark moves with its slot; when it
//! is gone, the master was flushed.

use ahash::AHashMap;
use redis::{Cmd, Value};

use super::{
    super::keys::{self, Keys},
    slot_map::SlotMap,
    url::Address,
};

/// The marks that were found so far.
#[derive(Debug, Default)]
pub(in super::super) struct FlushDetector {
    known: AHashMap<u8, Vec<u8>>,
    flushes: u64,
}

impl FlushDetector {
    /// The first partition of a master.
    pub(in super::super) fn partition(keys: &Keys, slot_map: &SlotMap, master: &Address) -> Option<u8> {
        let is_owned = |partition: &u8| {
            let owner = slot_map.owner(keys::slot(&keys.base(*partition)));
            owner.is_some_and(|owner| owner.address == *master)
        };
        (0..=u8::MAX).find(is_owned)
    }

    /// The command that sets the mark of a partition unless there is one, and returns the old value.
    pub(in super::super) fn command(keys: &Keys, partition: u8, mark: &[u8]) -> Cmd {
        let mut set = redis::cmd("SET");
        set.arg(&keys.mark(partition)[..]).arg(mark).arg("NX").arg("GET");
        set
    }

    /// Takes the answer to that command.
    pub(in super::super) fn answered(&mut self, partition: u8, mark: &[u8], answer: Value) {
        let found = match answer {
            Value::Nil => mark.to_vec(),
            Value::BulkString(found) => found,
            // The partition is migrating, or another master has it.
            _ => return,
        };
        let known = self.known.insert(partition, found);
        if known.is_some() && known.as_ref() != self.known.get(&partition) {
            self.flushes += 1;
        }
    }

    /// How many flushes were found.
    pub(in super::super) fn flushes(&self) -> u64 {
        self.flushes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_that_was_known_can_be_lost() {
        let mut flush_detector = FlushDetector::default();
        for answer in [Value::Nil, Value::BulkString(b"a".to_vec()), Value::Okay] {
            flush_detector.answered(1, b"a", answer);
        }
        flush_detector.answered(2, b"b", Value::BulkString(b"x".to_vec()));
        assert_eq!(flush_detector.flushes(), 0);
        flush_detector.answered(1, b"c", Value::Nil);
        assert_eq!(flush_detector.flushes(), 1);
        flush_detector.answered(2, b"d", Value::BulkString(b"y".to_vec()));
        assert_eq!(flush_detector.flushes(), 2);
    }
}
