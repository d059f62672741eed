//! The gateway's configuration: one typed struct, read from flags, environment variables and a TOML file.
//!
//! In the order in which a value passes through them:
//!
//! - [`settings`]: the struct itself, with defaults, units and documentation. Start here.
//! - `command`: the command line that follows from it, and the names in the environment and the file.
//! - `environment`, `file`: the two other sources.
//! - `layers`: which source wins, and everything into one parser.
//! - `parse`: what each kind of value looks like.
//! - `validate`: what the values must be for each other.
//! - `error`, `suggest`: the one line that says what is wrong, and what was probably meant.
//! - `print`, `reference`: `--print-config`, and the page `docs/configuration.md`.

mod command;
mod environment;
mod error;
mod file;
mod layers;
mod parse;
mod print;
mod reference;
pub mod settings;
mod suggest;
#[cfg(test)]
mod tests;
mod validate;

pub use error::ConfigError;
pub use settings::{LogFormat, OrOff, Settings, Transport};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded {
    /// Start with these settings.
    Run {
        /// Checked and normalised.
        settings: Box<Settings>,
        /// What looks like a mistake but may not be one; worth a line in the log each.
        warnings: Vec<String>,
    },
    /// Write this to stdout and exit with code 0: the help, the version, the effective configuration.
    Print(String),
}
