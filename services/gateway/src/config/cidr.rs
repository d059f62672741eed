//! An address range, as in `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The addresses that share a prefix. A plain address is the range of itself alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix_length: u8,
}

/// Why a text is no [`Cidr`]; it reads on from the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash is no IPv4 or IPv6 address.
    #[error("is not an address range (address/prefix)")]
    Address,
    /// The part after the slash is no number, or larger than the address has bits.
    #[error("has a prefix that is not between 0 and {0}")]
    Prefix(u8),
    /// Bits are set after the prefix, so one of the two is a slip.
    #[error("has address bits set beyond its prefix; the range is {0}")]
    HostBits(Cidr),
}

impl Cidr {
    /// The network's address and the length of its prefix in bits.
    pub fn parts(&self) -> (IpAddr, u8) {
        (self.network, self.prefix_length)
    }

    /// Whether the address lies in the range. An IPv4 address in IPv6 clothes (`::ffff:10.0.0.1`), which is what a
    /// dual-stack listener reports, counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4()
            && Self::network_of(address, self.prefix_length) == self.network
    }

    fn network_of(address: IpAddr, prefix_length: u8) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix_length)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix_length)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_length = match prefix {
            None => bits,
            Some(prefix) => {
                prefix.parse().ok().filter(|length| *length <= bits).ok_or(CidrError::Prefix(bits))?
            }
        };
        let network = Self::network_of(address, prefix_length);
        let range = Self { network, prefix_length };
        if network != address {
            return Err(CidrError::HostBits(range));
        }
        Ok(range)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_length)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        for (range, address, expected) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
            ("::1", "::1", true),
        ] {
            let parsed: Cidr = range.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{address} in {range}");
        }
    }

    #[test]
    fn slips_are_named() {
        for (text, problem) in [
            ("10.0.0/8", "is not an address range (address/prefix)"),
            ("", "is not an address range (address/prefix)"),
            ("10.0.0.0/33", "has a prefix that is not between 0 and 32"),
            ("10.0.0.0/", "has a prefix that is not between 0 and 32"),
            ("::/129", "has a prefix that is not between 0 and 128"),
            ("10.0.0.1/8", "has address bits set beyond its prefix; the range is 10.0.0.0/8"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap_err().to_string(), problem, "{text:?}");
        }
    }
}
