//! How holders are named.

use std::net::{IpAddr, Ipv6Addr};

/// Names a holder. What a principal's subject may hold will be counted under a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum HolderKey {
    /// An address: one of IPv4, or a network of 64 bits of IPv6, since that is what one client is given.
    Address(IpAddr),
}

impl HolderKey {
    /// Clients whose address is unknown share one key.
    pub(super) fn of_address(address: Option<IpAddr>) -> Self {
        Self::Address(address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), network))
    }
}

/// What one client is given: an address of IPv4, or a network of 64 bits of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_of_ipv6_has_a_network() {
        let key = |address: &str| HolderKey::of_address(Some(address.parse().unwrap()));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
