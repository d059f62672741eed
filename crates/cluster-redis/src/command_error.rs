//! What may have become of a command that failed.

/// Redis did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandError {
    /// Whether it may have executed the command.
    pub(crate) may_have_run: bool,
}
