//! The hooks that rules call, which the configuration has to know.

use std::sync::Arc;

use crate::problem::{Problem, nearest};

/// A hook's name in a file, and where it stands there.
#[derive(Debug, Clone)]
pub(crate) struct HookName {
    pub(crate) name: Arc<str>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl HookName {
    /// What is wrong with a name that is none of these.
    pub(crate) fn problem(&self, known: &[&str]) -> Problem {
        let Self { name, line, column } = self;
        let remedy = match nearest(name, known.iter().copied()) {
            Some(known) => format!("did you mean {known:?}?"),
            None => format!("configure it: --hook {name}=https://..."),
        };
        Problem { line: *line, column: *column, problem: format!("there is no hook {name:?}"), remedy }
    }
}
