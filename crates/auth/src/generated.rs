//! Peer ids that prove that the server itself issued them, and when: nobody else can make one.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use crate::{keys::MIN_SECRET, setup::SetupError};

/// Bytes of an id: when it ends (4), what makes it unlike others (9), and the signature (12).
const LENGTH: usize = 25;
const END: usize = 4;
const SIGNED: usize = 13;
/// Characters of an id, five bits each. Letters and digits only, since `peerjs` takes `-` and `_` only between others.
const CHARACTERS: usize = LENGTH * 8 / 5;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// What is signed begins with this, so that no other signature with the same secret is one of an id.
const PURPOSE: &[u8] = b"signalbox peer id 1\0";

/// Why an id is not accepted as one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGenerated {
    /// It has not the form of one, or was not issued by this cluster for this realm.
    #[error("the id was not issued by this server")]
    Foreign,
    /// It was, but too long ago.
    #[error("the id was issued too long ago (ask for a new one)")]
    Expired,
}

/// Issues ids and knows them again. All nodes of a cluster share its secrets.
#[derive(Clone)]
pub struct GeneratedIds {
    keys: Vec<Hmac<Sha256>>,
    lifetime: u64,
}

impl fmt::Debug for GeneratedIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedIds").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl GeneratedIds {
    /// The first secret signs, and all are accepted, so that they can be rotated. Each has 32 bytes or more. `lifetime`: seconds
    /// for which an id can be claimed.
    pub fn new(secret: &[u8], older: &[&[u8]], lifetime: u64) -> Result<Self, SetupError> {
        let key = |secret: &[u8]| {
            let short = SetupError::IdSecretTooShort(secret.len());
            let is_short = secret.len() < MIN_SECRET;
            let key = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).ok();
            key.filter(|_| !is_short).ok_or(short)
        };
        let keys = std::iter::once(secret).chain(older.iter().copied()).map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, lifetime })
    }

    /// A new id for a realm, at `now` (seconds since 1970).
    pub fn issue(&self, realm: &str, now: u64) -> String {
        let mut id = [0; LENGTH];
        let end = u32::try_from(now.saturating_add(self.lifetime)).unwrap_or(u32::MAX);
        id[..END].copy_from_slice(&end.to_be_bytes());
        rand::fill(&mut id[END..SIGNED]);
        if let Some(key) = self.keys.first() {
            let signature = sign(key, realm, &id[..SIGNED]).finalize().into_bytes();
            id[SIGNED..].copy_from_slice(&signature[..LENGTH - SIGNED]);
        }
        encode(&id)
    }

    /// Whether an id was issued here, for this realm, and not too long ago.
    pub fn verify(&self, realm: &str, id: &str, now: u64) -> Result<(), NotGenerated> {
        let id = decode(id).ok_or(NotGenerated::Foreign)?;
        let (signed, signature) = id.split_at(SIGNED);
        let is_ours = |key| sign(key, realm, signed).verify_truncated_left(signature).is_ok();
        if !self.keys.iter().any(is_ours) {
            return Err(NotGenerated::Foreign);
        }
        let end = signed.first_chunk::<END>().map_or(0, |end| u32::from_be_bytes(*end));
        if now < u64::from(end) { Ok(()) } else { Err(NotGenerated::Expired) }
    }
}

fn sign(key: &Hmac<Sha256>, realm: &str, signed: &[u8]) -> Hmac<Sha256> {
    // The signed bytes are always as many, so the realm behind them is unambiguous.
    key.clone().chain_update(PURPOSE).chain_update(signed).chain_update(realm)
}

fn encode(id: &[u8; LENGTH]) -> String {
    let mut text = String::with_capacity(CHARACTERS);
    for five in id.chunks(5) {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for at in (0..8).rev() {
            text.push(char::from(ALPHABET[(bits >> (at * 5) & 31) as usize]));
        }
    }
    text
}

/// Each id has one text only: it is a key in registries.
fn decode(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != CHARACTERS {
        return None;
    }
    let mut id = [0; LENGTH];
    for (eight, five) in text.as_bytes().chunks(8).zip(id.chunks_mut(5)) {
        let mut bits = 0_u64;
        for character in eight {
            let value = match character {
                b'0'..=b'9' => character - b'0',
                b'a'..=b'v' => character - b'a' + 10,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(secret: u8) -> GeneratedIds {
        GeneratedIds::new(&[secret; 32], &[], 60).unwrap()
    }

    #[test]
    fn an_id_proves_where_and_when_it_was_issued() {
        let id = ids(1).issue("peerjs", 1000);
        assert_eq!(id.len(), 40);
        assert!(id.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()), "as peerjs wants it: {id}");
        assert_eq!(ids(1).verify("peerjs", &id, 1000), Ok(()));
        assert_eq!(ids(1).verify("peerjs", &id, 1059), Ok(()));
        assert_eq!(ids(1).verify("peerjs", &id, 1060), Err(NotGenerated::Expired));
        assert_eq!(ids(1).verify("other", &id, 1000), Err(NotGenerated::Foreign));
        assert_eq!(ids(2).verify("peerjs", &id, 1000), Err(NotGenerated::Foreign));
        assert_eq!(ids(1).verify("peerjs", &id.to_uppercase(), 1000), Err(NotGenerated::Foreign));
        assert_ne!(ids(1).issue("peerjs", 1000), id);
    }

    #[test]
    fn secrets_rotate() {
        let id = ids(1).issue("peerjs", 1000);
        let rotated = GeneratedIds::new(&[2; 32], &[&[1; 32]], 60).unwrap();
        assert_eq!(rotated.verify("peerjs", &id, 1000), Ok(()));
        assert_eq!(ids(2).verify("peerjs", &rotated.issue("peerjs", 1000), 1000), Ok(()));
        assert_eq!(GeneratedIds::new(&[2; 31], &[], 60).unwrap_err(), SetupError::IdSecretTooShort(31));
        assert_eq!(GeneratedIds::new(&[2; 32], &[&[1; 3]], 60).unwrap_err(), SetupError::IdSecretTooShort(3));
    }

    proptest! {
        #[test]
        fn texts_and_bytes_are_one_to_one(bytes in proptest::array::uniform25(any::<u8>())) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn no_changed_id_is_ours(at in 0_usize..40, character in "[0-9a-v]") {
            let id = ids(1).issue("peerjs", 1000);
            let mut changed = id.clone();
            changed.replace_range(at..=at, &character);
            prop_assume!(changed != id);
            prop_assert_eq!(ids(1).verify("peerjs", &changed, 1000), Err(NotGenerated::Foreign));
        }

        #[test]
        fn no_text_at_all_panics(text in ".{0,60}") {
            prop_assert!(ids(1).verify("peerjs", &text, 1000).is_err());
        }
    }
}
