//! The histograms of one name, as a scrape reads them.

use crate::histogram::{Histogram, Snapshot};

/// The histograms of one name.
#[derive(Debug)]
pub(crate) struct HistogramFamily {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// The names of the labels.
    pub(crate) labels: &'static [&'static str],
    /// Each with the values of its labels.
    pub(crate) rows: Vec<(&'static [&'static str], Histogram)>,
}

impl HistogramFamily {
    /// What each has counted by now, with its labels in their order by name.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = (Vec<(&'static str, &'static str)>, Snapshot)> {
        self.rows.iter().map(|(values, histogram)| {
            let pairs = self.labels.iter().copied().zip(values.iter().copied());
            let mut pairs: Vec<(&str, &str)> = pairs.collect();
            pairs.sort_unstable();
            (pairs, histogram.snapshot())
        })
    }
}
