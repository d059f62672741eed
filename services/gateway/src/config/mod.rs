//! The gateway's configuration: one typed struct, read from flags, environment variables and a TOML file.
//!
//! In the order in which a value passes through them:
//!
//! - [`settings`]: the struct itself, with defaults, units and documentation. Start here.
//! - `command`: the command line that follows from it, and the names in the environment and the file.
//! - `peerjs`: command lines of PeerServer's program, as ours.
//! - `environment`, `file`: the two other sources.
//! - `layers`: which source wins, and all values through one parser.
//! - `parse`: one parser for each kind of value.
//! - `validate`: the checks that concern several settings.
//! - `idle`: settings that were given and have no effect.
//! - [`auth`], [`keys`]: the settings of authentication, and what they come to.
//! - `error`, `suggest`: errors of one line, with the remedy and the name that was probably meant.
//! - `print`, `reference`: `--print-config`, and the page `docs/configuration.md`.

pub mod auth;
mod command;
mod environment;
mod error;
mod file;
mod idle;
pub mod keys;
mod layers;
mod parse;
mod peerjs;
mod print;
mod reference;
pub mod settings;
mod suggest;
#[cfg(test)]
mod tests;
mod validate;

pub use error::ConfigError;
pub use settings::{LogFormat, OrOff, Settings, Transport};

/// What the program is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded {
    /// Start with these settings.
    Run {
        /// Checked and normalised.
        settings: Box<Settings>,
        /// Possible mistakes that are no errors; each is worth one line in the log.
        warnings: Vec<String>,
    },
    /// Write this to stdout and exit with code 0: the help, the version, or the effective configuration.
    Print(String),
}
