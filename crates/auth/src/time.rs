//! The time, handed in by the caller: nothing else in the crate reads a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Seconds since 1970, UTC: what `exp`, `nbf` and `iat` of a token are compared with.
    pub unix: u64,
    /// What intervals are measured with: it never jumps when the system's time is set.
    pub monotonic: Instant,
}

impl Now {
    /// Reads the system's clocks.
    pub fn read() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { unix, monotonic: Instant::now() }
    }
}
