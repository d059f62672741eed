//! Giving memory back: a collection that was large once keeps its capacity until it is shrunk.

use std::{
    collections::{BinaryHeap, VecDeque},
    hash::Hash,
};

use ahash::AHashMap;
use slab::Slab;

/// Smaller ones are left alone.
const MIN_CAPACITY: usize = 1024;

/// A collection with a capacity.
pub(in crate::shard) trait Shrink {
    /// How many entries it has, and its capacity.
    fn usage(&self) -> (usize, usize);
    /// Gives back the capacity that is not used.
    fn shrink(&mut self);

    /// Gives back capacity when hardly any of it is used. A collection has to lose three quarters of its entries first, so one whose
    /// size varies is not shrunk and grown in turns.
    fn shrink_if_sparse(&mut self) {
        let (len, capacity) = self.usage();
        if capacity >= MIN_CAPACITY && len < capacity / 4 {
            self.shrink();
        }
    }
}

impl<T> Shrink for Slab<T> {
    fn usage(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }
    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

impl<K: Eq + Hash, V> Shrink for AHashMap<K, V> {
    fn usage(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }
    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

impl<T> Shrink for VecDeque<T> {
    fn usage(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }
    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

impl<T: Ord> Shrink for BinaryHeap<T> {
    fn usage(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }
    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity_after(len: usize, capacity: usize) -> usize {
        let mut heap: BinaryHeap<usize> = BinaryHeap::with_capacity(capacity);
        heap.extend(0..len);
        heap.shrink_if_sparse();
        heap.capacity()
    }

    #[test]
    fn only_a_large_and_sparse_collection_is_shrunk() {
        assert!(capacity_after(1, MIN_CAPACITY) < MIN_CAPACITY);
        assert!(capacity_after(MIN_CAPACITY / 4 - 1, MIN_CAPACITY) < MIN_CAPACITY);
        assert_eq!(capacity_after(MIN_CAPACITY / 4, MIN_CAPACITY), MIN_CAPACITY);
        assert_eq!(capacity_after(1, MIN_CAPACITY - 1), MIN_CAPACITY - 1);
    }
}
