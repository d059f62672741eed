//! Latencies, from when something was due until it was there.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that is told apart, in microseconds.
const LONGEST: u64 = 60_000_000;
/// The least time between two points of the plot.
const SHORTEST_SLICE: Duration = Duration::from_millis(200);
const MOST_SLICES: u32 = 300;

/// Latencies in microseconds, as a whole and over time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Counts", try_from = "Counts")]
pub(crate) struct Latency {
    whole: Histogram<u64>,
    /// By when they were due, in steps of `slice`.
    slices: Vec<Histogram<u64>>,
    slice: Duration,
}

/// A histogram as text: pairs of a value and how often it occurred.
#[derive(Serialize, Deserialize)]
struct Counts {
    slice: Duration,
    whole: Vec<(u64, u64)>,
    slices: Vec<Vec<(u64, u64)>>,
}

/// What is said of a distribution, in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self::over(Duration::ZERO)
    }
}

impl Latency {
    /// For a phase of about this length.
    pub(crate) fn over(phase: Duration) -> Self {
        Self { whole: histogram(3), slices: Vec::new(), slice: SHORTEST_SLICE.max(phase / MOST_SLICES) }
    }

    /// Records what was due `due` after the phase began.
    pub(crate) fn record(&mut self, due: Duration, latency: Duration) {
        let microseconds = (latency.as_nanos() / 1_000).max(1) as u64;
        self.whole.saturating_record(microseconds);
        let slice = (due.as_nanos() / self.slice.as_nanos()) as usize;
        while self.slices.len() <= slice {
            self.slices.push(histogram(2));
        }
        self.slices[slice].saturating_record(microseconds);
    }

    /// Adds what another process recorded in the same phase.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.whole.is_empty() {
            *self = other.clone();
            return;
        }
        add(&mut self.whole, &other.whole);
        while self.slices.len() < other.slices.len() {
            self.slices.push(histogram(2));
        }
        for (mine, theirs) in self.slices.iter_mut().zip(&other.slices) {
            add(mine, theirs);
        }
    }

    /// Of everything; `None` if nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        percentiles(&self.whole)
    }

    /// Over time: seconds since the phase began, and what was due then.
    pub(crate) fn series(&self) -> Vec<(f64, Percentiles)> {
        let at = |index: usize| index as f64 * self.slice.as_secs_f64();
        let points = self.slices.iter().enumerate();
        points.filter_map(|(index, slice)| Some((at(index), percentiles(slice)?))).collect()
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, digits).expect("the bounds are valid")
}

/// Both have the same bounds, so nothing can be out of range.
fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    to.add(from).expect("the bounds are the same");
}

fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    let at = |quantile| histogram.value_at_quantile(quantile);
    (!histogram.is_empty()).then(|| Percentiles {
        count: histogram.len(),
        mean: histogram.mean(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max(),
    })
}

impl From<Latency> for Counts {
    fn from(latency: Latency) -> Self {
        let counts = |histogram: &Histogram<u64>| {
            let recorded = histogram.iter_recorded();
            recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
        };
        Self {
            slice: latency.slice,
            whole: counts(&latency.whole),
            slices: latency.slices.iter().map(counts).collect(),
        }
    }
}

impl TryFrom<Counts> for Latency {
    type Error = hdrhistogram::errors::RecordError;

    fn try_from(counts: Counts) -> Result<Self, Self::Error> {
        let filled = |digits, counts: &[(u64, u64)]| {
            let mut filled = histogram(digits);
            for &(value, count) in counts {
                filled.record_n(value.min(LONGEST), count)?;
            }
            Ok(filled)
        };
        Ok(Self {
            whole: filled(3, &counts.whole)?,
            slices: counts.slices.iter().map(|slice| filled(2, slice)).collect::<Result<_, _>>()?,
            slice: counts.slice,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_processes_recorded_survives_the_way_and_adds_up() {
        let mut one = Latency::over(Duration::from_secs(1));
        let mut two = one.clone();
        for n in 1..=1000 {
            one.record(Duration::from_millis(n), Duration::from_micros(n));
            two.record(Duration::from_millis(n), Duration::from_millis(n));
        }
        let text = serde_json::to_string(&two).unwrap();
        one.add(&serde_json::from_str(&text).unwrap());
        let all = one.percentiles().unwrap();
        assert_eq!(all.count, 2000);
        assert!((995..=1005).contains(&all.p50), "{all:?}");
        assert!((999_000..=1_001_000).contains(&all.max), "{all:?}");
        let series = one.series();
        assert_eq!(series.iter().map(|(_, point)| point.count).sum::<u64>(), 2000);
        assert_eq!(series.len(), 6);
    }
}
