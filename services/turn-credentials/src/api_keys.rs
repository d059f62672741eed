//! API keys: how servers show who they are. Only their hashes are configured, so that a configuration that gets out opens nothing.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// What every key begins with, which tells it from a token.
pub const PREFIX: &str = "sbt_";
/// Random bytes of a key: nobody guesses them, so one round of hashing is enough.
const KEY_BYTES: usize = 32;

/// What a server may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Credentials, for any subject.
    Issue,
    /// Who uses what.
    Read,
    /// Ending credentials of a subject.
    Revoke,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Issue, Self::Read, Self::Revoke];

    /// As settings and the grants of tokens call it: there it is `turn:` and this.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Read => "read",
            Self::Revoke => "revoke",
        }
    }
}

/// A key that is configured.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Whose it is, for logs and limits.
    pub name: Box<str>,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    hash: [u8; 32],
}

impl ApiKey {
    /// Whether it may do this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The key among these that somebody shows. Comparing hashes in no constant time tells nothing of a key.
pub fn find<'a>(keys: &'a [ApiKey], shown: &str) -> Option<&'a ApiKey> {
    let hash: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
    keys.iter().find(|key| key.hash == hash)
}

/// A new key, and the setting for it; what `signalbox-turn new-key` prints.
pub fn new_key() -> String {
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; KEY_BYTES]>()));
    let setting = ApiKey {
        name: "NAME".into(),
        scopes: vec![Scope::Issue],
        hash: Sha256::digest(key.as_bytes()).into(),
    };
    format!("key, for the server that asks: {key}\nsetting, for this service:     --api-key {setting}\n")
}

impl FromStr for ApiKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split(':');
        let (Some(name), Some(scopes), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("is not NAME:SCOPES:HASH");
        };
        if !signalbox_turn::server::is_label(name) {
            return Err("is not a name: 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        let scope = |text: &str| Scope::ALL.into_iter().find(|scope| scope.name() == text);
        let scopes = scopes.split('+').map(scope).collect::<Option<Vec<_>>>();
        let scopes = scopes.ok_or("has a scope that is neither issue, read nor revoke")?;
        let bad_hash = "has a hash that is not 64 hexadecimal digits";
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad_hash);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hash[at..at + 2], 16).map_err(|_| bad_hash)?;
        }
        Ok(Self { name: name.into(), scopes, hash: bytes })
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.name()).collect();
        write!(f, "{}:{}:", self.name, scopes.join("+"))?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_found_by_its_setting() {
        let text = new_key();
        let words: Vec<&str> = text.split_whitespace().collect();
        let key = words.iter().find(|word| word.starts_with(PREFIX)).unwrap();
        let keys: Vec<ApiKey> = vec![words.last().unwrap().parse().unwrap()];
        assert!(find(&keys, key).is_some_and(|key| key.may(Scope::Issue) && !key.may(Scope::Read)));
        assert!(find(&keys, &key[..key.len() - 1]).is_none());
        assert!(find(&keys, "").is_none());
    }
}
