//! Key sets (RFC 7517): where they come from, when they are fetched again, and which is used meanwhile.

mod cache;
mod fetch;
mod url;

use serde_json::Value;

pub use cache::{Intervals, JwksCache, JwksStatus, SharedJwks, UnknownKid};
pub use fetch::{FetchSettings, Fetcher, FetcherError};
pub use url::JwksUrl;

pub use crate::jwks_errors::{JwksError, JwksUrlError, MAX_KEYS, MAX_SET};
use crate::keys::Key;

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
