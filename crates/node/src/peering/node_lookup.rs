//! Unknown nodes: tags can be forged, so that each is looked for once in a while only.

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

/// What to do about a node that nobody here knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Look it up.
    Start,
    /// Somebody does: it may show.
    Wait,
    /// It is not there.
    Unknown,
}

/// The nodes that were looked for, and since when.
#[derive(Debug, Default)]
pub(crate) struct NodeLookup(Mutex<AHashMap<NodeTag, Instant>>);

impl NodeLookup {
    /// Somebody asks for a node; `duration` is how long a look-up takes.
    pub(super) fn check(&self, tag: NodeTag, duration: Duration) -> Lookup {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX {
            known.retain(|_, since| now < *since + REMEMBERED);
        }
        match known.get(&tag) {
            Some(since) if now < *since + duration => Lookup::Wait,
            Some(since) if now < *since + REMEMBERED => Lookup::Unknown,
            None if known.len() >= MAX => Lookup::Unknown,
            _ => {
                known.insert(tag, now);
                Lookup::Start
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_node_is_looked_up_once_and_forged_tags_not_at_all() {
        let node_lookup = NodeLookup::default();
        let interval = Duration::from_secs(1);
        assert_eq!(node_lookup.check(NodeTag(1), interval), Lookup::Start);
        assert_eq!(node_lookup.check(NodeTag(1), interval), Lookup::Wait);
        assert_eq!(node_lookup.check(NodeTag(1), Duration::ZERO), Lookup::Unknown);
        let met = (2..5000).map(|tag| node_lookup.check(NodeTag(tag), interval));
        assert_eq!(met.filter(|met| *met == Lookup::Start).count(), MAX - 1);
    }
}
