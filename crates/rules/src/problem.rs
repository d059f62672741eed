//! What is wrong with a rules file, and where.

use std::{cell::RefCell, fmt};

/// Problems of one file that are kept: beyond that, nobody reads on.
const MAX_PROBLEMS: usize = 20;

/// A mistake in a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, problem, remedy } = self;
        write!(f, "line {line}, column {column}: {problem} ({remedy})")
    }
}

/// The text of a file, and what was found to be wrong with it.
pub(crate) struct Source<'a> {
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, problems: RefCell::default() }
    }

    /// Notes a problem at this byte of the text. Gives back `None`, so that a parser can return it.
    pub(crate) fn problem<T>(
        &self,
        at: usize,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            let (line, column) = self.place(at);
            problems.push(Problem { line, column, problem: problem.into(), remedy: remedy.into() });
        }
        None
    }

    /// Line and column of a byte, counted from 1.
    pub(crate) fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Where a byte of a string's content stands, given where the string stands; its beginning, if escapes hide that.
    pub(crate) fn within(&self, at: usize, content: &str, offset: usize) -> usize {
        let is_plain = self.text.get(at + 1..).is_some_and(|rest| rest.starts_with(content));
        if is_plain { at + 1 + offset } else { at }
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

/// The known name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let score = |known: &'a str| (strsim::jaro_winkler(name, known), known);
    let best = known.into_iter().map(score).max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 > 0.8).then_some(best.1)
}

/// A remedy that names what was probably meant, or everything that would do.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(known) => format!("did you mean {known:?}?"),
        None => format!("one of: {}", known.join(", ")),
    }
}
