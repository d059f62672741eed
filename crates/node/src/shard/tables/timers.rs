//! One timer queue for everything on a shard.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use signalbox_cluster::Address;

use super::shrink::Shrink;
use crate::session::RoomKey;

/// What a timer is for; keys are the shard's, numbers tell a thing from an earlier one with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::shard) enum Timer {
    Session {
        key: u32,
        number: u64,
    },
    Peer {
        key: u32,
        number: u64,
    },
    /// A message's wait for its addressee.
    Wait {
        key: u32,
    },
    /// Acks of a socket that handlers wait for.
    Acks {
        key: u32,
        number: u64,
        socket: Address,
    },
    /// An ack that somebody here waits for, of a socket that has moved to another node.
    AckElsewhere {
        socket: Address,
        id: u64,
    },
    /// Acks of clients whose node is gone, unless it is there again.
    AcksOfGone,
    /// A token's expiry, for a socket that shows it.
    Expiry {
        key: u32,
        number: u64,
        socket: Address,
    },
    /// The same for a PeerServer client.
    PeerExpiry {
        key: u32,
        number: u64,
    },
    /// Another node's answer for a socket.
    Signal {
        ticket: u64,
    },
    /// A transfer from or to another node.
    Transfer {
        sid: Address,
    },
    /// A WebSocket that wants to take a session over.
    Probe {
        key: u32,
        number: u64,
    },
    /// A client that polled through a node that died.
    PollGrace {
        key: u32,
        number: u64,
        polls: u64,
    },
    /// No GET has come that was to overtake a POST.
    PostGrace {
        ticket: u64,
    },
    /// The members of a large room are told how many they are.
    Presence {
        room: RoomKey,
    },
    /// What was kept for nodes that are gone.
    Sweep,
}

/// Timers are never taken out. One that fires too early is put back, and one that is not the latest its owner queued is ignored,
/// so a session has one entry that counts, however often its deadline moves.
#[derive(Debug, Default)]
pub(in crate::shard) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    pub(in crate::shard) fn add(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// Adds a timer that fires after `duration`; never, if that is beyond the clock's range.
    pub(in crate::shard) fn add_after(&mut self, now: Instant, duration: Duration, timer: Timer) {
        if let Some(at) = now.checked_add(duration) {
            self.add(at, timer);
        }
    }

    /// Gives memory back after many clients have gone.
    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.heap.shrink_if_sparse();
    }

    pub(in crate::shard) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next timer that is due, and when it was due.
    pub(in crate::shard) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_fire_in_the_order_of_their_time_and_not_before() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        timers.add(at(3), Timer::Sweep);
        timers.add(at(1), Timer::Wait { key: 1 });
        timers.add(at(2), Timer::Wait { key: 2 });
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(now), None);
        assert_eq!(timers.pop_due(at(2)), Some((at(1), Timer::Wait { key: 1 })));
        assert_eq!(timers.pop_due(at(2)), Some((at(2), Timer::Wait { key: 2 })));
        assert_eq!(timers.pop_due(at(2)), None);
        assert_eq!(timers.next(), Some(at(3)));
    }
}
