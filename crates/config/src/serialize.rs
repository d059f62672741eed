//! How values that are not their own text are written in `--print-config`: for `#[serde(serialize_with)]`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::OrOff;

/// A time as a number of milliseconds.
///
/// # Errors
/// Those of the serializer.
pub fn as_millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    serializer.serialize_u64(millis)
}

/// The same, where it may be absent.
///
/// # Errors
/// Those of the serializer.
pub fn maybe_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => as_millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// A value, or the word `off`.
///
/// # Errors
/// Those of the serializer.
pub fn or_off<T: Serialize, S: Serializer>(value: &OrOff<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str("off"),
    }
}
