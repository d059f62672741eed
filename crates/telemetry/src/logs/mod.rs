//! Logs go to stdout; stderr is for what stops a program.
//!
//! - `limit`: no place in the code logs more than 100 lines a second.
//! - `lines`: each event is one line, whatever is in it.

mod limit;
mod lines;

use std::{
    io::IsTerminal as _,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

pub use tracing::Level;
use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, Targets},
    fmt,
    layer::{Context, SubscriberExt as _},
    registry, reload,
    util::SubscriberInitExt as _,
};

use limit::RateLimit;
pub use limit::take_lines_left_out;
use lines::Lines;

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

/// Hides the start messages of the web server, which are of no use to an operator; what it logs as an error about each request that it
/// cannot read: clients do not choose how much is logged; and what the TURN client tells of each step of each try of a server. A filter that
/// names the target overrides it.
const DEFAULT_DIRECTIVES: &str =
    "actix_server=warn,actix_http=off,turn_client_proto=off,signalbox_node::story=info";

/// The target of what happens to one client: its handshake, a refusal, its end. `--log info,signalbox_node::client=debug` shows it.
pub const CLIENT_EVENTS: &str = "signalbox_node::client";

/// The target of the stories of clients that are followed (`--log-client`): told at `info`, whatever the level.
pub const STORIES: &str = "signalbox_node::story";

/// Changes the filter, once there is one.
static FILTER: OnceLock<(reload::Handle<EnvFilter, Registry>, String)> = OnceLock::new();

/// Logs the lines of this project's own code at this level, or again as configured. What libraries log stays as it is: some show what
/// clients send. Targets that the configuration names keep their levels. Returns whether it was done; not without [`init_logs`].
pub fn set_own_level(level: Option<Level>) -> bool {
    let Some((handle, configured)) = FILTER.get() else { return level.is_none() };
    let own = level.map(|level| format!(",signalbox={level}")).unwrap_or_default();
    let filter = EnvFilter::try_new(format!("{DEFAULT_DIRECTIVES},{configured}{own}"));
    filter.is_ok_and(|filter| handle.reload(filter).is_ok())
}

/// What the HTTP library logs as errors since they were last taken.
static HTTP_ERRORS: AtomicU64 = AtomicU64::new(0);

/// Counts what is hidden.
struct CountHttpErrors;

impl<S: Subscriber> Layer<S> for CountHttpErrors {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        HTTP_ERRORS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Requests that the HTTP library could not read since this was called last.
pub fn take_http_errors() -> u64 {
    HTTP_ERRORS.swap(0, Ordering::Relaxed)
}

/// Sets up logs for the process. `filter` is a level, or a list of `target=level`.
///
/// # Errors
/// [`LogError::Filter`] when the filter cannot be parsed, [`LogError::AlreadySetUp`] at a second call.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let filter_text = filter.to_owned();
    let parsed = EnvFilter::try_new(format!("{DEFAULT_DIRECTIVES},{filter}"))
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let is_terminal = std::io::stdout().is_terminal();
    let lines = fmt::layer().with_ansi(is_terminal).with_writer(Lines { format, is_terminal });
    let (parsed, handle) = reload::Layer::new(parsed);
    let filter = parsed.and(RateLimit::default());
    let lines = match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.with_ansi(false).json().with_filter(filter).boxed(),
    };
    let http_errors = Targets::new().with_target("actix_http", LevelFilter::ERROR);
    let installed = registry().with(lines).with(CountHttpErrors.with_filter(http_errors)).try_init();
    installed.map_err(|_| LogError::AlreadySetUp)?;
    let _ = FILTER.set((handle, filter_text));
    Ok(())
}
