//! Histograms that keep classic and native buckets of the same values.
//!
//! - `exponential`: native buckets, whose bounds follow from the value itself.
//! - `snapshot`: what was counted up to a moment.
//!
//! An observation takes no lock and allocates nothing: it adds to one classic bucket, to one native bucket and to the sum.

mod exponential;
mod snapshot;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use exponential::Exponential;
pub use snapshot::{NativeBuckets, Snapshot};

/// A histogram. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The upper bounds of the classic buckets, growing, without the last one, which is infinite.
    bounds: &'static [f64],
    /// One for each bound, and one for what is above.
    classic: Box<[AtomicU64]>,
    native: Exponential,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one with these upper bounds, which grow. The native buckets reach from a 64th of the lowest that is above 0 to 64 times
    /// the highest.
    pub fn new(bounds: &'static [f64]) -> Self {
        let classic = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        let lowest = bounds.iter().copied().find(|bound| *bound > 0.0).unwrap_or(1.0);
        let highest = bounds.last().copied().unwrap_or(1.0).max(lowest);
        let native = Exponential::new(lowest / 64.0, highest * 64.0);
        Self(Arc::new(Inner { bounds, classic, native, sum: AtomicU64::new(0) }))
    }

    /// Counts a value. One that is no number is ignored.
    // Never inlined: `cargo xtask bench` looks for it in a profile, to say what metrics cost.
    #[inline(never)]
    pub fn observe(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let Inner { bounds, classic, native, sum } = &*self.0;
        // There are so few that a search would take longer.
        let at = bounds.iter().take_while(|bound| value > **bound).count();
        if let Some(bucket) = classic.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        native.count(value);
        let add = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
        // It never gives up.
        let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// What it has counted by now. All numbers in it fit together, also while others go on observing, but for the sum, which may have a
    /// value more.
    pub fn snapshot(&self) -> Snapshot {
        let Inner { bounds, classic, native, sum } = &*self.0;
        let native = native.read();
        let count = native.count();
        let mut below = 0;
        let cumulative = bounds.iter().zip(&**classic).map(|(bound, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            // Those that came since the native buckets were read do not count yet.
            (*bound, below.min(count))
        });
        let cumulative = cumulative.collect();
        Snapshot { cumulative, count, sum: f64::from_bits(sum.load(Ordering::Relaxed)), native }
    }
}

/// Histograms of one name that their labels tell apart. All of them are there from the start. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HistogramVec(Arc<[(Row, Histogram)]>);

/// The values of the labels, in their order.
type Row = &'static [&'static str];

impl HistogramVec {
    /// One for each row of labels' values.
    pub fn new(rows: &[Row], bounds: &'static [f64]) -> Self {
        Self(rows.iter().map(|row| (*row, Histogram::new(bounds))).collect())
    }

    /// Counts a value in the histogram with these labels; where there is none, nowhere.
    pub fn observe(&self, labels: &[&str], value: f64) {
        let found = self.0.iter().find(|(row, _)| *row == labels);
        debug_assert!(found.is_some(), "{labels:?} is not declared");
        if let Some((_, histogram)) = found {
            histogram.observe(value);
        }
    }

    /// All of them, with their labels' values.
    pub fn rows(&self) -> impl Iterator<Item = (Row, &Histogram)> {
        self.0.iter().map(|(row, histogram)| (*row, histogram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[f64] = &[0.001, 0.1, 1.0];

    #[test]
    fn a_value_counts_in_both_kinds_of_buckets() {
        let histogram = Histogram::new(BOUNDS);
        for value in [0.0005, 0.001, 0.05, 3.0, f64::NAN, f64::INFINITY, -1.0, 0.0] {
            histogram.observe(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.cumulative, [(0.001, 4), (0.1, 5), (1.0, 5)]);
        assert_eq!((snapshot.count, snapshot.native.count()), (7, 7));
        assert_eq!(snapshot.native.zero_count, 2);
        assert_eq!(snapshot.sum, f64::INFINITY);
    }

    #[test]
    fn what_is_read_fits_together_while_others_observe() {
        let histogram = Histogram::new(BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..20_000).for_each(|at| histogram.observe(f64::from(at % 7) / 3.0)));
            }
            for _ in 0..200 {
                let snapshot = histogram.snapshot();
                assert!(snapshot.cumulative.is_sorted_by_key(|(_, count)| *count));
                assert!(snapshot.cumulative.iter().all(|(_, count)| *count <= snapshot.count));
                assert_eq!(snapshot.count, snapshot.native.count());
            }
        });
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count, 40_000);
        assert!((snapshot.sum - 39_998.0).abs() < 0.01, "{}", snapshot.sum);
    }

    #[test]
    fn a_row_counts_for_itself() {
        let family = HistogramVec::new(&[&["a"], &["b"]], BOUNDS);
        family.observe(&["b"], 1.0);
        let counts: Vec<_> = family.rows().map(|(row, one)| (row[0], one.snapshot().count)).collect();
        assert_eq!(counts, [("a", 0), ("b", 1)]);
    }
}
