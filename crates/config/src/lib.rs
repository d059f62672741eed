//! How the programs are configured: typed settings in a struct for clap, read from flags, environment variables and a
//! TOML file. A setting is a field with its attributes and its doc comment; names, help, the reference page and
//! `--print-config` follow from it.
//!
//! In the order in which a value passes through them:
//!
//! - [`program`]: what is read, and what the program does with it. Start here.
//! - [`command`]: the command line that follows from the settings; [`arguments`]: the names in the environment and the file.
//! - `environment`, `file`: the two other sources.
//! - `layers`, [`sources`]: which source wins, and all values through one parser.
//! - [`parse`]: one parser for each kind of value.
//! - [`check`]: checks that concern several settings, or files, and that several programs make.
//! - [`error`], `suggest`: errors of one line, with the remedy and the name that was probably meant.
//! - [`split`]: the settings among the arguments of a subcommand; [`health`]: the subcommand that all programs have.
//! - `print`, [`mod@reference`], [`serialize`]: `--print-config`, and the reference page.
//! - [`logging`], [`auth`]: groups of settings that several programs have; [`keys`]: what those of authentication come to.

pub mod arguments;
pub mod auth;
pub mod check;
pub mod command;
mod environment;
pub mod error;
mod file;
pub mod health;
pub mod keys;
mod layers;
pub mod logging;
pub mod parse;
mod print;
pub mod program;
pub mod reference;
pub mod serialize;
pub mod sources;
pub mod split;
mod suggest;

pub use error::{ConfigError, SettingSource};
pub use file::reason;
pub use logging::{LogFormat, LoggingSettings};
pub use program::{Loaded, Program, as_it_is};
pub use sources::SettingSources;

/// A setting that can be switched off; `None` is off.
pub type OrOff<T> = Option<T>;
