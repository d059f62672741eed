//! Nodes that nobody has heard of: tags can be forged, so that each is looked for once in a while only.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ahash::AHashMap;
use signalbox_cluster::NodeTag;

/// How long it is remembered that a node is not there.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Most that are remembered; beyond it nobody is looked for until these are forgotten.
const MAX: usize = 1024;

/// The nodes that were looked for in vain, or are being looked for.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<AHashMap<NodeTag, Instant>>);

impl Strangers {
    /// Whether a node may be looked for now.
    pub(super) fn may_look(&self, tag: NodeTag) -> bool {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX {
            known.retain(|_, until| *until > now);
        }
        let is_free = known.get(&tag).is_none_or(|until| *until <= now) && known.len() < MAX;
        if is_free {
            known.insert(tag, now + REMEMBERED);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_looked_for_once_and_forgers_not_at_all() {
        let strangers = Strangers::default();
        assert!(strangers.may_look(NodeTag(1)));
        assert!(!strangers.may_look(NodeTag(1)));
        let looked = (2..5000).filter(|tag| strangers.may_look(NodeTag(*tag))).count();
        assert_eq!(looked, MAX - 1);
    }
}
