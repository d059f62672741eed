//! Native buckets: their bounds are powers of 2^(1/8), 9 % apart, so that a quantile is as exact at a millisecond as at a minute.

use std::sync::atomic::{AtomicU64, Ordering};

use super::NativeBuckets;

/// Prometheus' number for 2^(2^-3) as the ratio of two bounds.
pub(super) const SCHEMA: i32 = 3;
/// Buckets from a power of two to the next.
const IN_OCTAVE: usize = 8;
/// 2^(1/8), 2^(2/8) ... 2^(7/8): the bounds between 1 and 2, as the 52 bits that a number has behind its leading one.
const BETWEEN: [u64; IN_OCTAVE - 1] = [
    mantissa(1.090_507_732_665_257_7),
    mantissa(1.189_207_115_002_721),
    mantissa(1.296_839_554_651_009_6),
    mantissa(std::f64::consts::SQRT_2),
    mantissa(1.542_210_825_407_940_8),
    mantissa(1.681_792_830_507_429),
    mantissa(1.834_008_086_409_342_4),
];
const MANTISSA: u64 = (1 << 52) - 1;

const fn mantissa(value: f64) -> u64 {
    value.to_bits() & MANTISSA
}

/// The power of two below a value that is above 0 and not subnormal.
fn exponent(value: f64) -> i32 {
    (value.to_bits() >> 52) as i32 - 1023
}

/// Counters for a range of values. What is below counts as zero, what is above in the highest bucket.
#[derive(Debug)]
pub(super) struct Exponential {
    /// The lowest value that does not count as zero is above this one, a power of two.
    zero_threshold: f64,
    /// The power of two that this is.
    lowest: i32,
    zero: AtomicU64,
    /// That of the bucket at 0 reaches from the threshold to 2^(1/8) times it.
    buckets: Box<[AtomicU64]>,
}

impl Exponential {
    /// For values from `low` to `high`, both above 0, and a little beyond.
    pub(super) fn new(low: f64, high: f64) -> Self {
        let lowest = exponent(low);
        let octaves = (exponent(high) + 1 - lowest).max(1) as usize;
        let buckets = (0..octaves * IN_OCTAVE).map(|_| AtomicU64::new(0)).collect();
        Self { zero_threshold: 2_f64.powi(lowest), lowest, zero: AtomicU64::new(0), buckets }
    }

    pub(super) fn count(&self, value: f64) {
        let bucket = if value <= self.zero_threshold {
            &self.zero
        } else {
            let bits = value.to_bits();
            let mantissa = bits & MANTISSA;
            let octave = (exponent(value) - self.lowest) as usize;
            // A bucket has its upper bound in it: what lies on a power of two belongs below.
            let above = BETWEEN.iter().filter(|bound| mantissa > **bound).count();
            let at = (octave * IN_OCTAVE + above + usize::from(mantissa > 0)).saturating_sub(1);
            &self.buckets[at.min(self.buckets.len() - 1)]
        };
        bucket.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> NativeBuckets {
        // Prometheus' bucket at 0 ends at 1.
        let first = self.lowest * IN_OCTAVE as i32 + 1;
        let mut read = NativeBuckets::new(SCHEMA, self.zero_threshold, self.zero.load(Ordering::Relaxed));
        for (at, bucket) in self.buckets.iter().enumerate() {
            read.push(first + at as i32, bucket.load(Ordering::Relaxed));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index_of(value: f64) -> Vec<(i32, u64)> {
        let counters = Exponential::new(0.0001, 1000.0);
        counters.count(value);
        counters.read().buckets().collect()
    }

    #[test]
    fn bounds_belong_to_the_bucket_below_them() {
        // As Prometheus has it: bucket i reaches from 2^((i-1)/8), without it, to 2^(i/8).
        for (value, index) in
            [(1.0, 0), (1.000_001, 1), (1.09, 1), (1.0906, 2), (2.0, 8), (2.1, 9), (0.5, -8), (0.51, -7)]
        {
            assert_eq!(index_of(value), [(index, 1)], "{value}");
        }
        assert_eq!(index_of(0.0), []);
        // 2^-14 is the power of two below the range, and counts as zero.
        assert_eq!(index_of(2_f64.powi(-14)), []);
        assert_eq!(index_of(2_f64.powi(-14) * 1.01), [(-14 * 8 + 1, 1)]);
        // Above 2^10 there are no more buckets.
        assert_eq!(index_of(1024.0), [(80, 1)]);
        assert_eq!(index_of(f64::MAX), [(80, 1)]);
        assert_eq!(index_of(f64::INFINITY), [(80, 1)]);
    }

    proptest! {
        #[test]
        fn a_value_lies_within_the_bounds_of_its_bucket(value in 0.000_07_f64..1020.0) {
            let found = index_of(value);
            prop_assert_eq!(found.len(), 1);
            let upper = 2_f64.powf(f64::from(found[0].0) / 8.0);
            let lower = 2_f64.powf(f64::from(found[0].0 - 1) / 8.0);
            // A bound that is no power of two is rounded.
            prop_assert!(value > lower * (1.0 - 1e-15) && value <= upper * (1.0 + 1e-15), "{} {} {}", lower, value, upper);
        }
    }
}
