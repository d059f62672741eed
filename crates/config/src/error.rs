//! What went wrong, always in one line: where the value stood, the problem, the remedy.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use crate::arguments::{find, long_name};
use crate::suggest::suggest;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem} ({remedy})")]
pub struct ConfigError {
    place: String,
    problem: String,
    remedy: String,
}

impl ConfigError {
    /// What stood where, the problem, the remedy.
    pub fn new(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// No source gives it.
    Default,
    /// The command line.
    Flag,
    /// The environment variable of this name.
    Env(String),
    /// A key of this file.
    File(PathBuf),
}

impl SettingSource {
    /// How an error calls the place where the value of this setting stood.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Default | Self::Flag => format!("--{name}"),
            Self::Env(variable) => variable.clone(),
            Self::File(file) => format!("{}: {name}", file.display()),
        }
    }

    /// How the setting is given another value at the same place.
    pub fn assignment(&self, name: &str, value: &str) -> String {
        match self {
            Self::Default | Self::Flag => format!("--{name} {value}"),
            Self::Env(variable) => format!("{variable}={value}"),
            Self::File(_) => {
                let is_bare = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
                if is_bare { format!("{name} = {value}") } else { format!("{name} = \"{value}\"") }
            }
        }
    }

    /// The error of a value that this place gave to the setting.
    pub fn error(&self, arg: &Arg, problem: impl Into<String>) -> ConfigError {
        let name = long_name(arg);
        let remedy = format!("use e.g. {}", self.assignment(name, &example(arg)));
        ConfigError::new(self.place(name), problem, remedy)
    }
}

/// A value the setting takes: its default, or else one that fits the kind of value.
fn example(arg: &Arg) -> String {
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    if let Some(default) = default.filter(|default| *default != "off") {
        return default.to_owned();
    }
    let value_name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let example = match value_name {
        "PORT" => "9004",
        "BYTES" => "4000000",
        "COUNT" => "5000",
        "CIDR" => "10.0.0.0/8",
        "ORIGIN" => "https://app.example.com",
        "DIR" => "vendor",
        "FILE" if long_name(arg) == "sslkey" => "key.pem",
        "FILE" if long_name(arg) == "sslcert" => "cert.pem",
        "FILE" if long_name(arg).starts_with("cluster-tls-") => "node.pem",
        "FILE" => "signalbox.toml",
        "NAME" => "io",
        "ID" => "node-1",
        "URL" => "redis://127.0.0.1:6379",
        "ADDRESS" => "127.0.0.1:9005",
        "SECRET" => "16-bytes-or-more",
        "MODE" => "required",
        "JWKS" => "https://id.example.com/.well-known/jwks.json",
        "ISSUER" => "https://id.example.com/",
        "AUDIENCE" => "my-service",
        "GRANTS" => "grants.json",
        "JSON" => r#"[{"urls": "stun:stun.example.com"}]"#,
        "HTTP_URL" => "http://127.0.0.1:9002",
        "HOOK_URL" => "https://app.example.com/hooks",
        "WHSEC" => "whsec_...",
        "URI" => "turn:turn.example.com:3478",
        "PROVIDER" => "cloudflare",
        "API_KEY" => "app:issue:HASH",
        other => other,
    };
    example.to_owned()
}

/// A value as it is shown in an error: quoted, on one line, and cut where it is long.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Turns clap's error, which spans several lines, into ours. The value that clap refused came from `source`.
pub(crate) fn from_clap(error: &clap::Error, command: &Command, source: &SettingSource) -> ConfigError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap shows an argument with its value, as in `--ping-interval <MS>`.
    let shown = context(ContextKind::InvalidArg);
    let flag = shown.split([' ', '=', '[']).next().unwrap_or(shown);
    let arg = flag.strip_prefix("--").and_then(|name| find(command, name));
    match (error.kind(), arg) {
        (ErrorKind::ValueValidation, Some(arg)) => {
            let reason = std::error::Error::source(error).map(ToString::to_string);
            let problem = reason.unwrap_or_else(|| "is not understood".to_owned());
            source.error(arg, problem)
        }
        (ErrorKind::InvalidValue, Some(arg)) => source.error(arg, "a value is missing"),
        (ErrorKind::ArgumentConflict, Some(arg)) => {
            ConfigError::new(source.place(long_name(arg)), "given more than once", "give it once")
        }
        (ErrorKind::TooManyValues, Some(arg)) => {
            ConfigError::new(source.place(long_name(arg)), "takes no value", "leave it out")
        }
        (ErrorKind::UnknownArgument, _) if shown.starts_with('-') => unknown_flag(flag, command),
        (ErrorKind::UnknownArgument, _) => {
            ConfigError::new(quote(shown), "not a flag", "settings are given as --name value, see --help")
        }
        _ => {
            let text = error.to_string();
            let first_line = text.lines().next().unwrap_or_default();
            let problem = first_line.strip_prefix("error: ").unwrap_or(first_line);
            ConfigError::new("arguments", problem, "see --help")
        }
    }
}

fn unknown_flag(flag: &str, command: &Command) -> ConfigError {
    let names = command.get_arguments().filter(|arg| !arg.is_hide_set()).map(long_name);
    let nearest = flag.strip_prefix("--").and_then(|name| suggest(name, names));
    let remedy = match nearest {
        // It is known, so what stands before it keeps it from being one.
        Some(name) if flag.strip_prefix("--") == Some(name) => "put it in front of the --".to_owned(),
        Some(name) => format!("did you mean --{name}?"),
        None => "see --help".to_owned(),
    };
    ConfigError::new(flag.escape_default().to_string(), "unknown flag", remedy)
}
