//! Numbers that two stores gave for the same thing.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestCaseError};

/// The model's numbers and Redis': equal ones are equal on both sides, and later ones are larger on both.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    theirs: BTreeMap<u64, u64>,
    ours: BTreeMap<u64, u64>,
}

impl Numbers {
    /// The stores gave these.
    pub(super) fn learn(&mut self, ours: u64, theirs: u64) -> Result<(), TestCaseError> {
        if let Some(known) = self.theirs.get(&ours) {
            prop_assert_eq!(*known, theirs, "for {}", ours);
            return Ok(());
        }
        let before = self.theirs.range(..ours).next_back();
        let after = self.theirs.range(ours..).next();
        prop_assert!(before.is_none_or(|(_, before)| *before < theirs), "{} {} in {:?}", ours, theirs, self);
        prop_assert!(after.is_none_or(|(_, after)| *after > theirs), "{} {} in {:?}", ours, theirs, self);
        self.theirs.insert(ours, theirs);
        self.ours.insert(theirs, ours);
        Ok(())
    }

    /// The model's number for one of Redis'; zero for one that it never gave.
    pub(super) fn ours(&self, theirs: u64) -> u64 {
        self.ours.get(&theirs).copied().unwrap_or_default()
    }
}
