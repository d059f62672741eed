//! Tokens of peers, as they stand in the store and on the bus: a keyed hash, which can be compared and not used. The key follows from the
//! cluster's secret, so that all nodes have the same.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a hash begins with; what a client sends as a token never stands in the store if it begins with this.
const MARK: char = '\u{1}';
/// What the key is derived for.
const PURPOSE: &[u8] = b"signalbox, tokens of peers";

/// The key of the hashes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenKey([u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// The key that follows from a secret.
    pub(crate) fn of_secret(secret: &str) -> Self {
        Self(mac(secret.as_bytes(), &[PURPOSE]))
    }

    /// The hash of the token of the peer `id`. Two peers with the same token have different hashes.
    pub(crate) fn hash(&self, id: &str, token: &str) -> Arc<str> {
        let length = (id.len() as u64).to_be_bytes();
        let hash = mac(&self.0, &[&length, id.as_bytes(), token.as_bytes()]);
        format!("{MARK}{}", BASE64_URL_SAFE_NO_PAD.encode(hash)).into()
    }
}

/// Whether a token could be taken for a hash.
pub(crate) fn looks_like_hash(token: &str) -> bool {
    token.starts_with(MARK)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length.
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_peer_one_token_and_one_secret() {
        let key = TokenKey::of_secret("secret");
        let hash = key.hash("a", "token");
        assert_eq!(hash, key.hash("a", "token"));
        assert!(looks_like_hash(&hash) && !hash.contains("token"));
        for other in [key.hash("b", "token"), key.hash("a", "other"), key.hash("at", "oken")] {
            assert_ne!(hash, other);
        }
        assert_ne!(hash, TokenKey::of_secret("another").hash("a", "token"));
        // A hash that somebody has read is worth nothing as a token.
        assert_ne!(key.hash("a", &hash), hash);
    }
}
