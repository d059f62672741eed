//! Who may come in: how many connections an address has, and how often it, and all of them, begin a session.
//!
//! An address is one of IPv4, or a network of 64 bits of IPv6, since that is what one client is given.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ahash::AHashMap;

use super::Bucket;
use crate::{config::ClientLimits, ledger::network};

/// Addresses that are remembered before those of no account are forgotten.
const MANY: usize = 1024;

/// Why somebody is not let in, and when it may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TurnedAway {
    /// The reason, as it is counted.
    pub(crate) reason: &'static str,
    pub(crate) retry_after: Duration,
}

impl TurnedAway {
    /// The node has no memory for more.
    pub(crate) const FULL: Self = Self { reason: "full", retry_after: Duration::from_secs(5) };

    /// Whether all are turned away, and not only who asks for too much.
    pub(crate) fn is_full(&self) -> bool {
        *self == Self::FULL
    }

    /// As `Retry-After` has it: whole seconds, at least one.
    pub(crate) fn seconds(&self) -> u64 {
        self.retry_after.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u64
    }
}

/// The node's gate. Its lock is held for a moment, once for each connection and each handshake, and not at all where nothing is limited.
#[derive(Debug)]
pub(crate) struct Gate {
    connections_per_address: Option<usize>,
    handshakes_per_address: Option<u32>,
    handshakes_per_second: Option<u32>,
    /// The last tenth of the connections that there may be: an address that has as many already has no more of them.
    reserve: usize,
    max_connections: usize,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: AHashMap<IpAddr, Visitor>,
    /// When there are so many, those of no account are looked for.
    sweep_at: usize,
    handshakes: Bucket,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Visitor {
    connections: usize,
    /// Sessions that poll on its connections.
    sessions: usize,
    handshakes: Bucket,
}

impl Gate {
    pub(crate) fn new(limits: &ClientLimits, max_connections: usize) -> Self {
        Self {
            connections_per_address: limits.connections_per_address,
            handshakes_per_address: limits.handshakes_per_address,
            handshakes_per_second: limits.handshakes_per_second,
            reserve: max_connections / 10,
            max_connections,
            began: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// A client begins a session.
    pub(crate) fn handshake(&self, now: Instant, address: Option<IpAddr>) -> Result<(), TurnedAway> {
        if self.handshakes_per_address.is_none() && self.handshakes_per_second.is_none() {
            return Ok(());
        }
        let now = self.time(now);
        let state = &mut *self.state();
        // The address comes first: what one of them is refused costs the others nothing.
        if let (Some(limit), Some(address)) = (self.handshakes_per_address, address) {
            let visitor = state.visitor(now, address);
            check(visitor.handshakes.try_take(now, 1, limit.into()), "address_handshakes")?;
        }
        match self.handshakes_per_second {
            Some(limit) => check(state.handshakes.try_take(now, 1, limit.into()), "handshakes"),
            None => Ok(()),
        }
    }

    /// A request shows a token and is no handshake. An address whose bad tokens have cost it all its handshakes is not looked at until it has
    /// some again.
    pub(crate) fn token(&self, now: Instant, address: Option<IpAddr>) -> Result<(), TurnedAway> {
        let (Some(limit), Some(address)) = (self.handshakes_per_address, address) else { return Ok(()) };
        let now = self.time(now);
        let state = self.state();
        let Some(visitor) = state.addresses.get(&network(address)) else { return Ok(()) };
        let mut handshakes = visitor.handshakes;
        check(handshakes.try_take(now, 1, limit.into()), "address_handshakes")
    }

    /// The token was bad: it costs the address a handshake. Good ones cost nothing, since whoever has one begins a session with it, too.
    pub(crate) fn bad_token(&self, now: Instant, address: Option<IpAddr>) {
        if let (Some(limit), Some(address)) = (self.handshakes_per_address, address) {
            let now = self.time(now);
            let _ = self.state().visitor(now, address).handshakes.try_take(now, 1, limit.into());
        }
    }

    /// A connection of this address begins, where so many are open; its place ends with what is given back.
    pub(crate) fn connection(
        self: &Arc<Self>,
        now: Instant,
        address: Option<IpAddr>,
        open: usize,
    ) -> Result<Option<AddressSlot>, TurnedAway> {
        let Some(address) = address else { return Ok(None) };
        if self.connections_per_address.is_none() && self.reserve == 0 {
            return Ok(None);
        }
        let now = self.time(now);
        let visitor_of = network(address);
        let mut state = self.state();
        let visitor = state.visitor(now, address);
        let away = |reason| Err(TurnedAway { reason, retry_after: Duration::from_secs(1) });
        if self.connections_per_address.is_some_and(|limit| visitor.connections >= limit) {
            return away("address_connections");
        }
        let is_scarce = self.reserve > 0 && open > self.max_connections - self.reserve;
        if is_scarce && visitor.connections >= self.reserve {
            return away("max_connections");
        }
        visitor.connections += 1;
        Ok(Some(AddressSlot { gate: self.clone(), address: visitor_of, is_session: false }))
    }

    /// A session begins with polling: an address has no more of them than connections. One connection could open any number.
    pub(crate) fn session(
        self: &Arc<Self>,
        now: Instant,
        address: Option<IpAddr>,
    ) -> Result<Option<AddressSlot>, TurnedAway> {
        let (Some(address), Some(limit)) = (address, self.connections_per_address) else { return Ok(None) };
        let now = self.time(now);
        let mut state = self.state();
        let visitor = state.visitor(now, address);
        if visitor.sessions >= limit {
            return Err(TurnedAway { reason: "address_connections", retry_after: Duration::from_secs(1) });
        }
        visitor.sessions += 1;
        Ok(Some(AddressSlot { gate: self.clone(), address: network(address), is_session: true }))
    }
}

fn check(taken: Result<(), Duration>, reason: &'static str) -> Result<(), TurnedAway> {
    taken.map_err(|retry_after| TurnedAway { reason, retry_after })
}

impl State {
    fn visitor(&mut self, now: u64, address: IpAddr) -> &mut Visitor {
        if self.addresses.len() >= self.sweep_at.max(MANY) {
            self.addresses.retain(|_, visitor| {
                visitor.connections + visitor.sessions > 0 || !visitor.handshakes.is_even(now)
            });
            self.sweep_at = 2 * self.addresses.len();
            self.addresses.shrink_to(self.sweep_at);
        }
        self.addresses.entry(network(address)).or_default()
    }
}

/// A connection's place among those of its address.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    gate: Arc<Gate>,
    address: IpAddr,
    is_session: bool,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        if let Some(visitor) = self.gate.state().addresses.get_mut(&self.address) {
            *if self.is_session { &mut visitor.sessions } else { &mut visitor.connections } -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limits: ClientLimits) -> Arc<Gate> {
        Arc::new(Gate::new(&limits, usize::MAX / 2))
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn an_address_has_so_many_connections_and_keeps_no_other_out() {
        let gate = gate(ClientLimits { connections_per_address: Some(2), ..ClientLimits::default() });
        let now = Instant::now();
        let of = |last| gate.connection(now, address(last), 0);
        let slots = [of(1).unwrap(), of(1).unwrap()];
        assert_eq!(of(1).unwrap_err().reason, "address_connections");
        assert!(of(2).unwrap().is_some());
        drop(slots);
        assert!(of(1).is_ok() && gate.connection(now, None, 0).is_ok());
        let of = |address: &str| gate.connection(now, Some(address.parse().unwrap()), 0);
        let _network = [of("2001:db8::1").unwrap(), of("2001:db8::2").unwrap()];
        assert!(of("2001:db8::3").is_err() && of("2001:db8:0:1::3").is_ok());
    }

    #[test]
    fn an_address_has_as_many_polling_sessions_as_connections() {
        let gate = gate(ClientLimits { connections_per_address: Some(2), ..ClientLimits::default() });
        let now = Instant::now();
        let _connections = [gate.connection(now, address(1), 0), gate.connection(now, address(1), 0)];
        let mut sessions =
            vec![gate.session(now, address(1)).unwrap(), gate.session(now, address(1)).unwrap()];
        assert_eq!(gate.session(now, address(1)).unwrap_err().reason, "address_connections");
        assert!(
            gate.session(now, address(2)).unwrap().is_some() && gate.session(now, None).unwrap().is_none()
        );
        sessions.pop();
        assert!(gate.session(now, address(1)).is_ok());
    }

    #[test]
    fn the_last_tenth_is_for_addresses_that_have_few() {
        let gate = Arc::new(Gate::new(&ClientLimits::default(), 100));
        let now = Instant::now();
        let mut slots = Vec::new();
        let of = |last, slots: &mut Vec<_>| {
            let open = slots.len() + 1;
            gate.connection(now, address(last), open).map(|slot| slots.push(slot))
        };
        while of(1, &mut slots).is_ok() {}
        assert_eq!(slots.len(), 90);
        assert_eq!(of(1, &mut slots).unwrap_err().reason, "max_connections");
        for other in 2..7 {
            assert!(of(other, &mut slots).is_ok() && of(other, &mut slots).is_ok());
        }
    }

    #[test]
    fn handshakes_have_a_rate_for_each_address_and_for_all() {
        let limits = ClientLimits {
            handshakes_per_address: Some(1),
            handshakes_per_second: Some(2),
            ..ClientLimits::default()
        };
        let gate = gate(limits);
        let now = Instant::now();
        let knock = |last| gate.handshake(now, address(last)).map_err(|away| away.reason);
        assert!((0..10).all(|_| knock(1).is_ok()));
        assert_eq!(knock(1), Err("address_handshakes"));
        assert!((0..10).all(|_| knock(2).is_ok()));
        assert_eq!(knock(3), Err("handshakes"));
        let later = now + Duration::from_secs(5);
        assert!(gate.handshake(later, address(3)).is_ok());
        let away = TurnedAway { reason: "", retry_after: Duration::from_millis(1001) };
        assert_eq!(away.seconds(), 2);
    }

    #[test]
    fn bad_tokens_cost_an_address_its_handshakes_and_good_ones_nothing() {
        let gate = gate(ClientLimits { handshakes_per_address: Some(1), ..ClientLimits::default() });
        let now = Instant::now();
        for _ in 0..100 {
            assert!(gate.token(now, address(1)).is_ok());
        }
        for _ in 0..10 {
            assert!(gate.token(now, address(1)).is_ok());
            gate.bad_token(now, address(1));
        }
        assert_eq!(gate.token(now, address(1)).map_err(|away| away.reason), Err("address_handshakes"));
        assert!(gate.handshake(now, address(1)).is_err());
        assert!(gate.token(now, address(2)).is_ok() && gate.token(now, None).is_ok());
        assert!(gate.token(now + Duration::from_secs(1), address(1)).is_ok());
        let open = self::gate(ClientLimits::default());
        for _ in 0..100 {
            open.bad_token(now, address(1));
        }
        assert!(open.token(now, address(1)).is_ok());
    }

    #[test]
    fn addresses_of_no_account_are_forgotten() {
        let gate = gate(ClientLimits { handshakes_per_address: Some(1000), ..ClientLimits::default() });
        let began = Instant::now();
        for number in 0_u32..100_000 {
            let now = began + Duration::from_micros(u64::from(number) * 100);
            gate.handshake(now, Some(IpAddr::from(number.to_be_bytes()))).unwrap();
        }
        assert!(gate.state().addresses.len() <= 2 * MANY, "{}", gate.state().addresses.len());
    }
}
