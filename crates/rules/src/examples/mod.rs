//! Examples in a rules file: what clients send, and what they get. They are played in memory, with the same evaluation that a node has.
//!
//! - `world`: sockets, rooms, and what is done to them.

mod world;

use crate::{RuleSet, example::Example};
use world::World;

/// Where an example went another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The example's name.
    pub example: String,
    /// The line of the step.
    pub line: usize,
    /// What happened instead.
    pub what: String,
}

impl Example {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Plays it.
    ///
    /// # Errors
    /// The first step that went another way.
    pub fn play(&self, rules: &RuleSet) -> Result<(), Failure> {
        let mut world = World::new(rules);
        let failed = |line, what| Failure { example: self.name.clone(), line, what };
        for step in &self.steps {
            world.play(step).map_err(|what| failed(step.line, what))?;
        }
        match world.unexpected() {
            Some(what) => Err(failed(self.steps.last().map_or(self.line, |step| step.line), what)),
            None => Ok(()),
        }
    }
}

impl RuleSet {
    /// Plays all examples; those that went another way.
    pub fn play_examples(&self) -> Vec<Failure> {
        self.examples().iter().filter_map(|example| example.play(self).err()).collect()
    }
}
