//! Examples in a rules file: what clients send, and what they get. They are played in memory, with the same evaluation that a node has.
//!
//! - `world`: sockets, rooms, and what is done to them.

mod world;

use serde_json::Value;

use crate::RuleSet;
use world::World;

/// An example.
#[derive(Debug, Clone)]
pub struct Example {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) steps: Vec<ExampleStep>,
}

#[derive(Debug, Clone)]
pub(crate) struct ExampleStep {
    pub(crate) line: usize,
    pub(crate) played: Played,
}

/// What happens in a step. A client is named; its name is its socket's id, too.
#[derive(Debug, Clone)]
pub(crate) enum Played {
    Connect {
        from: String,
        namespace: String,
        auth: Option<Value>,
        subject: Option<String>,
    },
    /// A client sends an event. With `ack`, it wants this answer.
    Emit {
        from: String,
        namespace: String,
        event: Vec<Value>,
        ack: Option<Value>,
    },
    /// A client gets this, before anything else.
    Expect {
        to: String,
        event: Vec<Value>,
    },
    Disconnect {
        from: String,
    },
    Peer {
        id: String,
        is_claim: bool,
    },
}

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
            world.play(&step.played).map_err(|what| failed(step.line, what))?;
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
