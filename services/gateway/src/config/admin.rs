//! Tokens of the admin API. Only their hashes are configured, so that a configuration that gets out opens nothing.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every token begins with, which tells it from a JSON Web Token.
pub const PREFIX: &str = "sba_";
/// Random bytes of a token: nobody guesses them, so one round of hashing is enough.
const TOKEN_BYTES: usize = 32;

/// What a token may be used for. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Looking.
    Read,
    /// Sending events and messages to clients.
    Emit,
    /// Everything that changes something else.
    Control,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Emit, Self::Control];

    /// As settings and the grants of JSON Web Tokens call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Emit => "emit",
            Self::Control => "control",
        }
    }
}

/// Scopes from their names, joined by `+`.
///
/// # Errors
/// One of them is no scope.
pub fn scopes(text: &str) -> Result<Vec<Scope>, &'static str> {
    let scope = |text: &str| Scope::ALL.into_iter().find(|scope| scope.name() == text);
    let scopes = text.split('+').map(scope).collect::<Option<Vec<_>>>();
    scopes.ok_or("has a scope that is neither read, emit nor control")
}

/// A token that is configured: all but the token itself.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Whose it is, for the log.
    pub name: Box<str>,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    hash: [u8; 32],
}

impl AdminToken {
    /// The setting for this token.
    ///
    /// # Errors
    /// A name that is none.
    pub fn of(token: &str, name: &str, scopes: Vec<Scope>) -> Result<Self, &'static str> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_fine) {
            return Err("is not a name: 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        Ok(Self { name: name.into(), scopes, hash: Sha256::digest(token.as_bytes()).into() })
    }
}

/// The token among these that somebody shows. Takes as long whichever it is, and whether or not it is any.
pub fn find<'a>(tokens: &'a [AdminToken], shown: &str) -> Option<&'a AdminToken> {
    let hash: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
    tokens.iter().fold(None, |found, token| if token.hash.ct_eq(&hash).into() { Some(token) } else { found })
}

/// A new token.
pub fn new_token() -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>()))
}

impl FromStr for AdminToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split(':');
        let (Some(name), Some(scope_names), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("is not NAME:SCOPES:HASH");
        };
        let bad_hash =
            "has a hash that is not 64 hexadecimal digits (signalbox-gateway admin-token makes one)";
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad_hash);
        }
        let mut token = Self::of("", name, scopes(scope_names)?)?;
        for (byte, at) in token.hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hash[at..at + 2], 16).map_err(|_| bad_hash)?;
        }
        Ok(token)
    }
}

impl fmt::Display for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.name()).collect();
        write!(f, "{}:{}:", self.name, scopes.join("+"))?;
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminToken")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

pub(super) fn as_written<S: Serializer>(tokens: &[AdminToken], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tokens.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_found_by_its_setting() {
        let token = new_token();
        let setting = AdminToken::of(&token, "ops", vec![Scope::Read, Scope::Emit]).unwrap().to_string();
        let tokens: Vec<AdminToken> = vec![setting.parse().unwrap()];
        assert!(setting.starts_with("ops:read+emit:") && !format!("{tokens:?}").contains(&setting[14..]));
        assert!(find(&tokens, &token).is_some_and(|token| token.scopes == [Scope::Read, Scope::Emit]));
        assert!(find(&tokens, &token[..token.len() - 1]).is_none() && find(&tokens, "").is_none());
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        let hash = "0".repeat(64);
        for (text, expected) in [
            ("ops".to_owned(), "is not NAME"),
            (format!("o ps:read:{hash}"), "is not a name"),
            (format!("ops:write:{hash}"), "has a scope"),
            (format!("ops::{hash}"), "has a scope"),
            (format!("ops:read:{hash}0"), "has a hash"),
            (format!("ops:read:é{}", &hash[2..]), "has a hash"),
        ] {
            let problem = text.parse::<AdminToken>().unwrap_err();
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }
}
