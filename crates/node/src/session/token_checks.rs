//! How often a connection has tokens judged. A signature takes up to half a millisecond of the shard, which others wait for: far more than
//! any other event.

use crate::limits::{Bucket, Taken};

/// Tokens of one connection in a second; ten seconds' worth at once, which is one for each namespace that there may be.
const PER_SECOND: u64 = 7;
/// Bad tokens of one connection, none of them followed by a good one, with which it ends.
const MOST_BAD: u8 = 16;

/// The tokens that one connection has shown.
#[derive(Debug, Default)]
pub(crate) struct TokenChecks {
    bucket: Bucket,
    bad: u8,
}

impl TokenChecks {
    /// One is to be judged at `now`, of a connection that may have so many namespaces.
    pub(crate) fn begin(&mut self, now: u64, namespaces: usize) -> Taken {
        let per_second = PER_SECOND.max((namespaces as u64).div_ceil(10));
        self.bucket.take(now, 1, per_second)
    }

    /// One was good.
    pub(crate) fn found_good(&mut self) {
        self.bad = 0;
    }

    /// One was no good; whether that is the end.
    pub(crate) fn found_bad(&mut self) -> bool {
        self.bad = self.bad.saturating_add(1);
        self.bad >= MOST_BAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_for_each_namespace_and_then_a_few_in_a_second() {
        for (namespaces, at_once) in [(64, 70), (1, 70), (1000, 1000)] {
            let mut checks = TokenChecks::default();
            assert!((0..at_once).all(|_| checks.begin(0, namespaces) == Taken::Within));
            assert!(matches!(checks.begin(0, namespaces), Taken::Over(_)));
        }
    }

    #[test]
    fn bad_ones_are_the_end_unless_a_good_one_is_among_them() {
        let mut checks = TokenChecks::default();
        assert!((1..MOST_BAD).all(|_| !checks.found_bad()));
        checks.found_good();
        assert!((1..MOST_BAD).all(|_| !checks.found_bad()));
        assert!(checks.found_bad());
    }
}
