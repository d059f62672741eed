//! Logs go to stdout; stderr is for what stops a program.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "log filter {filter:?} is invalid: {reason} (use e.g. \"info\" or \"info,signalbox_node=debug\")"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a logger already.
    #[error("logs are set up already")]
    AlreadySetUp,
}

/// Hides the start messages of the web server, which are of no use to an operator. A filter that names the target overrides it.
const DEFAULT_DIRECTIVE: &str = "actix_server=warn";

/// Sets up logs for the process. `filter` is a level, or a list of `target=level`.
///
/// # Errors
/// [`LogError::Filter`] when the filter cannot be parsed, [`LogError::AlreadySetUp`] at a second call.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let parsed = EnvFilter::try_new(format!("{DEFAULT_DIRECTIVE},{filter}"))
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let is_terminal = std::io::stdout().is_terminal();
    let builder = fmt().with_env_filter(parsed).with_ansi(is_terminal).with_writer(std::io::stdout);
    let installed = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    installed.map_err(|_| LogError::AlreadySetUp)
}
