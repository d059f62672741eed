//! Marks on the masters, by which it shows that somebody has flushed one of them: a server that was flushed is still the same start
//! of the same server, and unless it has the leases nobody would notice.
//!
//! A mark is a key with a random value in the first partition that a master has. It moves with its slot.

use ahash::AHashMap;
use redis::{Cmd, Value};

use super::{
    super::keys::{self, Keys},
    slot_map::SlotMap,
    url::Address,
};

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct FlushDetector {
    known: AHashMap<u8, Vec<u8>>,
    losses: u64,
}

impl FlushDetector {
    /// The first partition of a master.
    pub(super) fn partition(keys: &Keys, slot_map: &SlotMap, master: &Address) -> Option<u8> {
        let is_owned = |partition: &u8| {
            let owner = slot_map.owner(keys::slot(&keys.base(*partition)));
            owner.is_some_and(|owner| owner.address == *master)
        };
        (0..=u8::MAX).find(is_owned)
    }

    /// Sets the mark of a partition unless there is one, and gives what there was.
    pub(super) fn command(keys: &Keys, partition: u8, mark: &[u8]) -> Cmd {
        let mut set = redis::cmd("SET");
        set.arg(&keys.mark(partition)[..]).arg(mark).arg("NX").arg("GET");
        set
    }

    /// The answer to that command.
    pub(super) fn answered(&mut self, partition: u8, mark: &[u8], answer: Value) {
        let found = match answer {
            Value::Nil => mark.to_vec(),
            Value::BulkString(found) => found,
            // The partition is on its way to another master; or another has it.
            _ => return,
        };
        let known = self.known.insert(partition, found);
        if known.is_some() && known.as_ref() != self.known.get(&partition) {
            self.losses += 1;
        }
    }

    /// How often a mark was lost.
    pub(super) fn losses(&self) -> u64 {
        self.losses
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
        assert_eq!(flush_detector.losses(), 0);
        flush_detector.answered(1, b"c", Value::Nil);
        assert_eq!(flush_detector.losses(), 1);
        flush_detector.answered(2, b"d", Value::BulkString(b"y".to_vec()));
        assert_eq!(flush_detector.losses(), 2);
    }
}
