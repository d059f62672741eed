//! For whom a credential is. Operators of a TURN server see user names, so a name must say nothing of a person; but the same person
//! must have the same name each time, since coturn's quotas count names.

use std::{fmt, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes of the hash that are used: 120 bits, which base64 writes without a rest.
const HASH_BYTES: usize = 15;

/// The part of a user name that stands for a subject: 20 characters of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserPart(Box<str>);

impl UserPart {
    /// As it stands in a user name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads one that was written by [`SubjectKey`]; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (text.len() == HASH_BYTES / 3 * 4 && text.bytes().all(is_plain)).then(|| Self(text.into()))
    }
}

impl fmt::Display for UserPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hashes subjects. All instances need the same key, and whoever does not have it cannot find out a subject by trying.
#[derive(Clone)]
pub struct SubjectKey(Hmac<Sha256>);

impl SubjectKey {
    /// From a secret of any length.
    pub fn new(secret: &[u8]) -> Self {
        // HMAC takes keys of every length.
        match Hmac::new_from_slice(secret) {
            Ok(mac) => Self(mac),
            Err(_) => Self(Hmac::new(&Default::default())),
        }
    }

    /// The holder of a token, or whom a server names. A subject is only unique together with its issuer.
    pub fn user_part(&self, issuer: Option<&str>, subject: &str) -> UserPart {
        self.hash(&[b"subject", issuer.unwrap_or_default().as_bytes(), subject.as_bytes()])
    }

    /// Somebody of whom only the address is known. One holder of IPv6 addresses has 64 bits of them.
    pub fn address_part(&self, address: IpAddr) -> UserPart {
        self.hash(&[b"address", network(address).to_string().as_bytes()])
    }

    fn hash(&self, parts: &[&[u8]]) -> UserPart {
        let mut mac = self.0.clone();
        for part in parts {
            // With its length, so that no two lists of parts read the same.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let hash = mac.finalize().into_bytes();
        UserPart(URL_SAFE_NO_PAD.encode(&hash[..HASH_BYTES]).into())
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey(***)")
    }
}

/// An address as limits count it: an IPv4 address, or the first 64 bits of an IPv6 address.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_one_name_that_does_not_show_it() {
        let key = SubjectKey::new(b"key");
        let alice = key.user_part(Some("https://id"), "alice");
        assert_eq!(alice, key.user_part(Some("https://id"), "alice"));
        assert_eq!(UserPart::parse(alice.as_str()), Some(alice.clone()));
        assert_ne!(alice, key.user_part(None, "alice"));
        assert_ne!(alice, key.user_part(Some("https://idalice"), ""));
        assert_ne!(alice, SubjectKey::new(b"other").user_part(Some("https://id"), "alice"));
        assert_eq!(UserPart::parse("alice"), None);
        assert_eq!(UserPart::parse("1700000000:abcdefghi"), None);
    }

    #[test]
    fn an_address_counts_with_its_network() {
        let key = SubjectKey::new(b"key");
        let part = |text: &str| key.address_part(text.parse().unwrap());
        assert_eq!(part("2001:db8::1"), part("2001:db8::ffff:1"));
        assert_ne!(part("2001:db8::1"), part("2001:db8:0:1::1"));
        assert_eq!(part("192.0.2.1"), part("::ffff:192.0.2.1"));
        assert_ne!(part("192.0.2.1"), part("192.0.2.2"));
    }
}
