//! The settings of logs, which all programs have.

use clap::Args;
use serde::Serialize;

use crate::error::quote;
use crate::parse;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs, which go to stdout.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Logs")]
pub struct LoggingSettings {
    /// What is logged: a level (error, warn, info, debug, trace), or a list of target=level.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = parse::log_filter)]
    pub log: String,

    /// How a log line looks: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = log_format)]
    pub log_format: LogFormat,
}

fn log_format(text: &str) -> parse::Parsed<LogFormat> {
    match text.trim() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{} is not a log format: text or json", quote(text))),
    }
}
