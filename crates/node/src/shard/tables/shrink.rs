//! Giving memory back: collections that were large once keep their room for good, unless they are told.

use std::{collections::BinaryHeap, hash::Hash};

use ahash::AHashMap;
use slab::Slab;

/// Smaller ones are left alone.
const MIN_CAPACITY: usize = 1024;

/// A collection with a capacity.
pub(in crate::shard) trait Shrink {
    /// Entries, and how many there is room for.
    fn usage(&self) -> (usize, usize);
    /// Gives up the room that is not used.
    fn shrink(&mut self);

    /// Gives up most of the room if hardly any of it is used. What is left lasts until half as much again is needed, so a
    /// collection that breathes is not shrunk and grown in turns.
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

impl<T: Ord> Shrink for BinaryHeap<T> {
    fn usage(&self) -> (usize, usize) {
        (self.len(), self.capacity())
    }
    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}
