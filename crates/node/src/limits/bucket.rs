//! A token bucket: so much a second, and ten seconds' worth at once.

use std::time::Duration;

/// How many seconds' worth may come at once.
const BURST_SECONDS: u64 = 10;

const SECOND: u64 = 1_000_000_000;
const BURST: u64 = BURST_SECONDS * SECOND;

/// What becomes of something that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is within the rate.
    Within,
    /// It is too much: it is to be refused, and may be tried again after this time.
    Over(Duration),
    /// So much was refused, and more comes all the same, that there is an end to it.
    FarOver,
}

/// A bucket of tokens, as the time at which all that came would have come at the rate: nothing has to be refilled, and an idle one
/// costs nothing. Times are nanoseconds since some moment that the caller keeps to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    even_at: u64,
    /// The same for what was refused.
    forgiven_at: u64,
}

impl Bucket {
    /// Takes `amount` at `now`, where `per_second` may come, which is above 0. What is refused counts as well, up to another ten
    /// seconds' worth: whoever goes on regardless is soon far over, and whoever waits is not.
    ///
    /// Something that is larger than ten seconds' worth is taken when nothing came for long, and then nothing until its time is over.
    pub(crate) fn take(&mut self, now: u64, amount: u64, per_second: u64) -> Taken {
        let cost = amount.saturating_mul(SECOND) / per_second.max(1);
        let ahead = self.even_at.saturating_sub(now);
        if ahead == 0 || ahead.saturating_add(cost) <= BURST {
            self.even_at = now.saturating_add(ahead).saturating_add(cost);
            return Taken::Within;
        }
        self.refuse(now, ahead, cost)
    }

    /// The same, but that what is refused costs nothing: whoever tries again too early has harmed nobody. Never far over.
    pub(crate) fn try_take(&mut self, now: u64, amount: u64, per_second: u64) -> Result<(), Duration> {
        let before = *self;
        match self.take(now, amount, per_second) {
            Taken::Within => return Ok(()),
            Taken::Over(_) | Taken::FarOver => *self = before,
        }
        let cost = amount.saturating_mul(SECOND) / per_second.max(1);
        let room = BURST.saturating_sub(cost);
        Err(Duration::from_nanos(self.even_at.saturating_sub(now).saturating_sub(room)))
    }

    #[cold]
    fn refuse(&mut self, now: u64, ahead: u64, cost: u64) -> Taken {
        let refused = self.forgiven_at.saturating_sub(now);
        // What is refused first is not the end, however large it is.
        if refused > 0 && refused.saturating_add(cost) > BURST {
            return Taken::FarOver;
        }
        let counted = cost.min(BURST - refused.min(BURST));
        self.forgiven_at = now + refused + counted;
        let ahead = ahead.saturating_add(counted);
        self.even_at = now.saturating_add(ahead);
        // What is larger than the bucket has to find it empty.
        let room = BURST.saturating_sub(cost);
        Taken::Over(Duration::from_nanos(ahead.saturating_sub(room)))
    }

    /// Whether it is as if nothing had ever come.
    pub(crate) fn is_even(&self, now: u64) -> bool {
        self.even_at <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_seconds_worth_come_at_once_and_the_rest_at_the_rate() {
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            assert_eq!(bucket.take(0, 1, 10), Taken::Within);
        }
        assert_eq!(bucket.take(0, 1, 10), Taken::Over(Duration::from_millis(200)));
        assert_eq!(bucket.take(SECOND / 5, 1, 10), Taken::Within);
        assert!(!bucket.is_even(SECOND) && bucket.is_even(12 * SECOND));
    }

    #[test]
    fn who_goes_on_regardless_is_far_over_and_who_waits_is_not() {
        let mut bucket = Bucket::default();
        let taken: Vec<_> = (0..201).map(|_| bucket.take(0, 1, 10)).collect();
        assert!(taken[..100].iter().all(|taken| *taken == Taken::Within));
        assert!(taken[100..200].iter().all(|taken| matches!(taken, Taken::Over(_))));
        assert_eq!(taken[200], Taken::FarOver);
        let Taken::Over(wait) = taken[199] else { panic!() };
        assert_eq!(bucket.take(wait.as_nanos() as u64, 1, 10), Taken::Within);
    }

    #[test]
    fn something_large_is_taken_when_nothing_came_before() {
        let mut bucket = Bucket::default();
        // A hundred seconds' worth: what comes next waits for them to be over, but for the ten that may always come.
        assert_eq!(bucket.take(0, 1_000, 10), Taken::Within);
        assert!(matches!(bucket.take(50 * SECOND, 1, 10), Taken::Over(_)));
        let Taken::Over(wait) = bucket.take(51 * SECOND, 1_000, 10) else { panic!() };
        assert_eq!(bucket.take(51 * SECOND + wait.as_nanos() as u64, 1_000, 10), Taken::Within);
    }

    #[test]
    fn who_goes_on_while_time_passes_is_far_over_too() {
        let mut bucket = Bucket::default();
        let ended = (0..1000_u64).find(|number| bucket.take(number * SECOND / 100, 1, 10) == Taken::FarOver);
        // A hundred, another hundred refused, and what the time allows meanwhile.
        assert!(ended.is_some_and(|ended| (200..250).contains(&ended)), "{ended:?}");
    }

    #[test]
    fn trying_costs_nothing() {
        let mut bucket = Bucket::default();
        assert!((0..10).all(|_| bucket.try_take(0, 1, 1).is_ok()));
        for _ in 0..1000 {
            assert_eq!(bucket.try_take(0, 1, 1), Err(Duration::from_secs(1)));
        }
        assert_eq!(bucket.try_take(SECOND, 1, 1), Ok(()));
    }

    proptest! {
        /// However it comes, no more is taken than ten seconds' worth and what the rate allows since.
        #[test]
        fn no_more_is_taken_than_allowed(
            steps in proptest::collection::vec((0_u64..2 * SECOND, 1_u64..2_000), 1..200), per_second in 1_u64..100,
        ) {
            let (mut bucket, mut now, mut taken, mut largest) = (Bucket::default(), 0, 0, 0);
            for (wait, amount) in steps {
                now += wait;
                let most = amount.max(BURST_SECONDS * per_second);
                largest = largest.max(most - BURST_SECONDS * per_second);
                match bucket.take(now, amount, per_second) {
                    Taken::Within => taken += amount,
                    Taken::Over(wait) => {
                        let mut later = bucket;
                        let at = now + wait.as_nanos() as u64 + amount;
                        prop_assert_eq!(later.take(at, amount, per_second), Taken::Within);
                    }
                    Taken::FarOver => {}
                }
                let allowed = per_second as u128 * (u128::from(BURST) + u128::from(now)) / u128::from(SECOND);
                // Costs are rounded down. One that exceeds the bucket is taken where nothing came for long.
                prop_assert!(u128::from(taken) <= allowed + u128::from(largest) + 2, "{} of {}", taken, allowed);
            }
        }
    }
}
