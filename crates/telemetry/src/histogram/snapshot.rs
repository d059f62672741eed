//! What a histogram has counted up to a moment.

/// Counts of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Each classic bound, and how many values were at most that.
    pub cumulative: Vec<(f64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The native buckets of the same values.
    pub native: NativeBuckets,
}

/// Native buckets as Prometheus takes them: runs of buckets that are in use, and each count as its difference to the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeBuckets {
    /// How close together the bounds are.
    pub schema: i32,
    /// Values up to this count as zero.
    pub zero_threshold: f64,
    /// How many did.
    pub zero_count: u64,
    /// How many buckets lie between the end of the run before, or bucket 0, and the first of this run; and how many are in it.
    pub spans: Vec<(i32, u32)>,
    /// Each count less the one before it.
    pub deltas: Vec<i64>,
    /// The bucket behind the last one, and its count.
    last: Option<(i32, u64)>,
    count: u64,
}

impl NativeBuckets {
    pub(super) fn new(schema: i32, zero_threshold: f64, zero_count: u64) -> Self {
        Self {
            schema,
            zero_threshold,
            zero_count,
            spans: Vec::new(),
            deltas: Vec::new(),
            last: None,
            count: zero_count,
        }
    }

    /// Adds a bucket; their indices grow.
    pub(super) fn push(&mut self, index: i32, count: u64) {
        if count == 0 {
            return;
        }
        let (next, before) = self.last.map_or((0, 0), |(index, count)| (index + 1, count));
        match self.spans.last_mut() {
            Some((_, length)) if index == next => *length += 1,
            _ => self.spans.push((index - next, 1)),
        }
        self.deltas.push(count as i64 - before as i64);
        self.last = Some((index, count));
        self.count += count;
    }

    /// All values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The index and the count of each bucket in use.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> {
        let (mut next, mut count) = (0, 0);
        let indices = self.spans.iter().flat_map(move |(offset, length)| {
            let first = next + offset;
            next = first + *length as i32;
            first..next
        });
        let counts = self.deltas.iter().map(move |delta| {
            count += delta;
            count as u64
        });
        indices.zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_in_use_become_runs_and_differences() {
        let mut native = NativeBuckets::new(3, 0.1, 2);
        for (index, count) in [(-4, 0), (-3, 5), (-2, 7), (0, 0), (1, 1), (2, 1), (3, 0)] {
            native.push(index, count);
        }
        assert_eq!(native.spans, [(-3, 2), (2, 2)]);
        assert_eq!(native.deltas, [5, 2, -6, 0]);
        assert_eq!(native.count(), 16);
        assert_eq!(native.buckets().collect::<Vec<_>>(), [(-3, 5), (-2, 7), (1, 1), (2, 1)]);
    }
}
