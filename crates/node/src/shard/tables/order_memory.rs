//! The orders of operators that sockets were given lately. Where a session moves from node to node, both may select its sockets for an order,
//! one of them because it had them when it was asked, the other because it has them now; so a socket does what it is given once, and its
//! session takes along what it was given.
//!
//! Only a session on polling can move to another node, and only one that has just come was on another: nothing is remembered of others.

use std::time::{Duration, Instant};

use signalbox_cluster::Address;

use super::Expiring;
use crate::{protocol::SavedOrder, routing::OrderPart};

/// How long after one node another one may be given an order at most: a link that is silent for longer than 4 s is given up.
pub(in crate::shard) const ORDER_SPREAD: Duration = Duration::from_secs(10);
/// How long an order is remembered: what the other node sends after it is forwarded over the link, too.
const REMEMBERED: Duration = ORDER_SPREAD.saturating_mul(2);
/// Most orders that are remembered of a socket. The oldest go.
const MAX_OF_SOCKET: usize = 64;

/// An order that a socket was given.
#[derive(Debug, Clone, Copy)]
struct Known {
    order: u64,
    /// Its parts: a bit for each.
    parts: u128,
    since: Instant,
}

/// The orders of sockets that may move to another node, or have just come from one.
#[derive(Default)]
pub(in crate::shard) struct OrderMemory(Expiring<Vec<Known>>);

impl OrderMemory {
    /// A socket is given a part of an order. Returns whether it is to be done: it was not done before, and the socket is meant. That is asked
    /// with the first part, since what is done may change it.
    pub(in crate::shard) fn begin(
        &mut self,
        now: Instant,
        socket: Address,
        OrderPart { order, part }: OrderPart,
        may_move: bool,
        is_meant: impl Fn() -> bool,
    ) -> bool {
        let until = if may_move { now + REMEMBERED } else { now };
        let Some(orders) = self.0.extend(now, socket, until) else {
            let is_meant = is_meant();
            if is_meant && may_move {
                let first = Known { order, parts: bit(part), since: now };
                self.0.insert(now, socket, until, vec![first]);
            }
            return is_meant;
        };
        if let Some(known) = orders.iter_mut().find(|known| known.order == order) {
            let is_new = known.parts & bit(part) == 0 || bit(part) == 0;
            known.parts |= bit(part);
            return is_new;
        }
        if !is_meant() {
            return false;
        }
        orders.retain(|known| now.saturating_duration_since(known.since) < REMEMBERED);
        if orders.len() >= MAX_OF_SOCKET {
            orders.remove(0);
        }
        orders.push(Known { order, parts: bit(part), since: now });
        true
    }

    /// Whether a socket is remembered: it may move, or has just come from another node.
    pub(in crate::shard) fn has(&self, now: Instant, socket: Address) -> bool {
        self.0.get(now, socket).is_some()
    }

    /// A socket goes to another node, with what it was given.
    pub(in crate::shard) fn take(&mut self, now: Instant, socket: Address) -> Vec<SavedOrder> {
        let saved = |known: Known| SavedOrder {
            order: known.order,
            parts: known.parts,
            age: now.saturating_duration_since(known.since).as_millis() as u64,
        };
        self.0.remove(now, socket).unwrap_or_default().into_iter().map(saved).collect()
    }

    /// A socket has come from another node, with what it was given there.
    pub(in crate::shard) fn arrived(&mut self, now: Instant, socket: Address, orders: Vec<SavedOrder>) {
        let known = |saved: SavedOrder| Known {
            order: saved.order,
            parts: saved.parts,
            since: now.checked_sub(Duration::from_millis(saved.age)).unwrap_or(now),
        };
        let known = orders.into_iter().take(MAX_OF_SOCKET).map(known).collect();
        self.0.insert(now, socket, now + REMEMBERED, known);
    }

    pub(in crate::shard) fn forget_expired(&mut self, now: Instant) {
        self.0.forget_expired(now);
    }

    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        self.0.shrink_if_sparse();
    }
}

/// The bit of a part; none for one beyond them, which is done each time.
fn bit(part: u8) -> u128 {
    1_u128.checked_shl(u32::from(part)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn part(order: u64, part: u8) -> OrderPart {
        OrderPart { order, part }
    }

    #[test]
    fn each_part_of_an_order_is_done_once_also_after_a_move() {
        let (mut here, mut there, now) = (OrderMemory::default(), OrderMemory::default(), Instant::now());
        let socket = Address::from_bytes([1; 15]);
        let meant = || true;
        assert!(here.begin(now, socket, part(7, 0), true, meant));
        assert!(here.begin(now, socket, part(7, 1), true, meant));
        assert!(!here.begin(now, socket, part(7, 0), true, meant));
        assert!(here.begin(now, socket, part(8, 0), true, meant));
        let later = now + SECOND;
        there.arrived(later, socket, here.take(later, socket));
        assert!(!here.has(later, socket) && there.has(later, socket));
        assert!(!there.begin(later, socket, part(7, 1), false, meant));
        assert!(there.begin(later, socket, part(7, 2), false, meant));
        assert!(!there.begin(later, socket, part(7, 2), false, meant));
        assert!(there.begin(later, socket, part(9, 0), false, meant));
        assert!(!there.begin(later, socket, part(9, 0), false, meant));
        // Parts that have no bit are done each time.
        assert!(there.begin(later, socket, part(9, 200), false, meant));
        assert!(there.begin(later, socket, part(9, 200), false, meant));
    }

    #[test]
    fn what_is_not_meant_is_not_done_and_what_began_goes_on() {
        let (mut memory, now, socket) =
            (OrderMemory::default(), Instant::now(), Address::from_bytes([1; 15]));
        assert!(!memory.begin(now, socket, part(1, 0), true, || false));
        assert!(memory.begin(now, socket, part(1, 0), true, || true));
        assert!(memory.begin(now, socket, part(1, 1), true, || false));
        assert!(!memory.begin(now, socket, part(2, 0), true, || false));
    }

    #[test]
    fn little_is_remembered_and_not_for_long() {
        let (mut memory, now, socket) =
            (OrderMemory::default(), Instant::now(), Address::from_bytes([1; 15]));
        // One that cannot move, and has not just come.
        assert!(memory.begin(now, socket, part(1, 0), false, || true));
        assert!(!memory.has(now, socket));
        for order in 0..=MAX_OF_SOCKET as u64 {
            assert!(memory.begin(now, socket, part(order, 0), true, || true));
        }
        assert!(memory.begin(now, socket, part(0, 0), true, || true), "the oldest is forgotten");
        assert!(!memory.begin(now, socket, part(MAX_OF_SOCKET as u64, 0), true, || true));
        let late = now + REMEMBERED;
        assert!(!memory.has(late, socket));
        assert!(memory.begin(late, socket, part(0, 0), true, || true));
        // What has come from another node is remembered for a while, however many orders there are.
        let arrived = Address::from_bytes([2; 15]);
        memory.arrived(now, arrived, Vec::new());
        for seconds in 0..40 {
            memory.begin(now + seconds * SECOND, arrived, part(1, 0), false, || true);
        }
        assert!(memory.has(now + REMEMBERED - SECOND, arrived) && !memory.has(now + REMEMBERED, arrived));
    }
}
