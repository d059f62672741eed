//! The clock of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// What it shows, in microseconds since 1970.
pub(super) fn micros_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
