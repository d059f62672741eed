//! What may have become of a command that failed.

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandError {
    /// Whether it may have done what it was asked.
    pub(crate) may_have_run: bool,
}
