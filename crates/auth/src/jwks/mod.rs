//! Key sets (RFC 7517): where they come from, when they are fetched again, and which is used meanwhile.

mod cache;
mod fetch;
mod url;

use serde_json::Value;

pub use cache::{Intervals, JwksCache, JwksStatus, SharedJwks, UnknownKid};
pub use fetch::{FetchSettings, Fetcher, FetcherError};
pub use url::{JwksUrl, JwksUrlError};

use crate::keys::Key;

/// Longest key set in bytes.
pub const MAX_SET: usize = 256 * 1024;
/// Most usable keys in a set. A token without `kid` is tried with each, so they are few.
pub const MAX_KEYS: usize = 32;

/// What is wrong with a key set, or with fetching it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is longer than [`MAX_SET`].
    #[error("the key set is longer than {MAX_SET} bytes")]
    TooLarge,
    /// It is no JSON object with a list `keys`.
    #[error("the answer is not a key set: a JSON object with a list named keys")]
    NotASet,
    /// None of its keys can be used.
    #[error(
        "the key set has no key that can be used (RSA of 2048 bits, P-256, P-384 or Ed25519, for signatures)"
    )]
    NoKeys,
    /// It has more than [`MAX_KEYS`].
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// The server answered with another status than 200.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The server wanted to send us elsewhere.
    #[error(
        "the server answered with a redirect, which is not followed (configure the url that it leads to)"
    )]
    Redirect,
    /// It took too long.
    #[error("the server did not answer in time")]
    TimedOut,
    /// No connection, or it broke.
    #[error("the server could not be reached: {0}")]
    Unreachable(String),
}

/// Reads a key set. Keys that are of no use are passed over.
pub(crate) fn parse(body: &[u8], may_have_secrets: bool) -> Result<Vec<Key>, JwksError> {
    if body.len() > MAX_SET {
        return Err(JwksError::TooLarge);
    }
    let set: Value = serde_json::from_slice(body).map_err(|_| JwksError::NotASet)?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or(JwksError::NotASet)?;
    let keys: Vec<_> = keys.iter().filter_map(|jwk| Key::from_jwk(jwk, may_have_secrets)).collect();
    match keys.len() {
        0 => Err(JwksError::NoKeys),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(JwksError::TooManyKeys),
    }
}
