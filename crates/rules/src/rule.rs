//! A rule, compiled.

use crate::{
    action::{Guarded, On, Pattern},
    condition::Condition,
    cost::Cost,
};

/// What happens on an event, or when something else occurs.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) namespaces: Vec<Pattern>,
    pub(crate) on: On,
    pub(crate) when: Vec<Condition>,
    pub(crate) actions: Vec<Guarded>,
    pub(crate) cost: Cost,
    /// Where it stands in its file.
    pub(crate) line: usize,
}

impl Rule {
    /// All that makes a difference to what it does.
    pub(crate) fn meaning(&self) -> (&On, &[Pattern], &[Condition], &[Guarded]) {
        (&self.on, &self.namespaces, &self.when, &self.actions)
    }
}
