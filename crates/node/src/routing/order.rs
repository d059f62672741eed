//! An operator's order to one socket. While a session moves, its old node and its new one may both select its sockets: the order bears a
//! number, and is done once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A part of an order that every node has been given: what is done with one socket at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderPart {
    /// 64 random bits.
    pub(crate) order: u64,
    /// Which of the rooms that it is about, counted from 0; what is about no rooms has one part.
    pub(crate) part: u8,
}

/// What has to be so of a socket where the order reaches it: who selected it only knew how it was when its session left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCondition {
    /// It is in one of these rooms. None: it is meant whatever rooms it is in.
    pub in_one_of: Vec<Arc<str>>,
    /// It is in none of these.
    pub in_none_of: Arc<[Arc<str>]>,
}

impl OrderCondition {
    /// Whether nothing has to be so.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_one_of.is_empty() && self.in_none_of.is_empty()
    }

    /// Whether a socket is meant that is in these rooms.
    pub(crate) fn holds(&self, is_in: impl Fn(&str) -> bool) -> bool {
        let is_any = |rooms: &[Arc<str>]| rooms.iter().any(|room| is_in(room));
        (self.in_one_of.is_empty() || is_any(&self.in_one_of)) && !is_any(&self.in_none_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_socket_is_meant_by_one_of_its_rooms_and_by_none_that_is_excepted() {
        let condition = |one_of: &[&str], none_of: &[&str]| OrderCondition {
            in_one_of: rooms(one_of),
            in_none_of: rooms(none_of).into(),
        };
        let is_in = |names: &'static [&str]| move |room: &str| names.contains(&room);
        assert!(condition(&[], &[]).holds(is_in(&[])) && condition(&[], &[]).is_empty());
        assert!(condition(&["a", "b"], &["c"]).holds(is_in(&["b"])));
        assert!(!condition(&["a", "b"], &["c"]).holds(is_in(&["d"])));
        assert!(!condition(&["a"], &["c"]).holds(is_in(&["a", "c"])));
        assert!(!condition(&[], &["c"]).holds(is_in(&["c"])) && !condition(&[], &["c"]).is_empty());
    }
}
