//! Connections that have not proved yet that they are a node's. There may be only so many, and whoever opens them keeps no node out:
//! the oldest gives way, of the address that has most, and an address from which nodes have come goes last.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Connections that may be in their handshake at once.
pub(super) const MAX_STRANGERS: usize = 64;
/// Addresses of nodes that are remembered.
const MAX_KNOWN: usize = 1024;

/// The strangers of one listener.
#[derive(Debug, Default, Clone)]
pub(super) struct Strangers(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    last: u64,
    /// Oldest first.
    waiting: Vec<(u64, IpAddr, oneshot::Sender<()>)>,
    /// Addresses from which nodes have come.
    known: VecDeque<IpAddr>,
}

/// A connection in its handshake.
#[derive(Debug)]
pub(super) struct Stranger {
    list: Strangers,
    number: u64,
    address: IpAddr,
    gives_way: oneshot::Receiver<()>,
}

impl Strangers {
    pub(super) fn enter(&self, address: IpAddr) -> Stranger {
        let address = network(address);
        let (sender, gives_way) = oneshot::channel();
        let mut list = self.0.lock();
        if list.waiting.len() >= MAX_STRANGERS
            && let Some(victim) = list.victim()
        {
            let (_, _, sender) = list.waiting.remove(victim);
            let _ = sender.send(());
        }
        list.last += 1;
        let number = list.last;
        list.waiting.push((number, address, sender));
        Stranger { list: self.clone(), number, address, gives_way }
    }
}

/// What one machine is given, and can have connections from: an address of IPv4, or a network of 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

impl List {
    /// Looking through all of them for each is fine: they are few.
    fn victim(&self) -> Option<usize> {
        let count = |address| self.waiting.iter().filter(|(_, other, _)| *other == address).count();
        let rank = |index: usize| {
            let address = self.waiting[index].1;
            (!self.known.contains(&address), count(address))
        };
        // Of several that are equal the last one is taken, so the oldest comes last.
        (0..self.waiting.len()).rev().max_by_key(|index| rank(*index))
    }
}

impl Stranger {
    /// Resolves when it has to give way.
    pub(super) async fn gives_way(&mut self) {
        let _ = (&mut self.gives_way).await;
    }

    /// It is a node's: no stranger any more, and others of its address go last.
    pub(super) fn authenticated(self) {
        let known = &mut self.list.0.lock().known;
        if !known.contains(&self.address) {
            known.push_back(self.address);
            if known.len() > MAX_KNOWN {
                known.pop_front();
            }
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.list.0.lock().waiting.retain(|(number, ..)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn has_to_go(stranger: &mut Stranger) -> bool {
        stranger.gives_way.try_recv() == Ok(())
    }

    #[test]
    fn the_oldest_gives_way_of_the_address_that_has_most() {
        let strangers = Strangers::default();
        let mut first = strangers.enter(address(1));
        let mut greedy: Vec<_> = (1..MAX_STRANGERS).map(|_| strangers.enter(address(2))).collect();
        let mut node = strangers.enter(address(3));
        assert!(!has_to_go(&mut first) && !has_to_go(&mut node));
        assert!(has_to_go(&mut greedy[0]) && !has_to_go(&mut greedy[1]));
        assert_eq!(strangers.0.lock().waiting.len(), MAX_STRANGERS);
        drop((first, greedy, node));
        assert!(strangers.0.lock().waiting.is_empty());
    }

    #[test]
    fn addresses_of_one_network_are_one_stranger() {
        let strangers = Strangers::default();
        let mut honest = strangers.enter("2001:db8:1::1".parse().unwrap());
        let of_one = |last: usize| strangers.enter(format!("2001:db8::{last:x}").parse().unwrap());
        let mut greedy: Vec<_> = (0..MAX_STRANGERS).map(of_one).collect();
        assert!(!has_to_go(&mut honest) && has_to_go(&mut greedy[0]));
    }

    #[test]
    fn addresses_of_nodes_go_last() {
        let strangers = Strangers::default();
        strangers.enter(address(1)).authenticated();
        let mut known: Vec<_> = (2..MAX_STRANGERS).map(|_| strangers.enter(address(1))).collect();
        let (mut one, mut other) = (strangers.enter(address(2)), strangers.enter(address(3)));
        let mut late = strangers.enter(address(4));
        assert!(has_to_go(&mut one) && !has_to_go(&mut other) && !has_to_go(&mut late));
        assert!(!known.iter_mut().any(has_to_go));
    }
}
