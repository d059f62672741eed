//! The configuration: one typed struct, read from flags, environment variables and a TOML file by [`signalbox_config`].
//!
//! - [`settings`]: the struct itself, with defaults, units and documentation. Start here.
//! - `parse`: one parser for each kind of value that only this program has.
//! - `validate`: the checks that concern several settings.

mod parse;
pub mod settings;
#[cfg(test)]
mod tests;
mod validate;

use std::ffi::OsString;

pub use settings::Settings;
use signalbox_config::{ConfigError, Loaded, Program, as_it_is};
pub(crate) use validate::secrets;

const INTRODUCTION: &str = "\
# Configuration of the TURN credentials service

<!-- Written by `cargo xtask docs` from the settings in services/turn-credentials/src/config. Change them there. -->

Settings are given as those of [the gateway](configuration.md): a flag, an environment variable, or a key of the TOML file that
`--config FILE` names. `signalbox-turn --print-config` shows the outcome. What the service does is in [turn.md](turn.md).
";

const PROGRAM: Program<Settings> = Program {
    name: "signalbox-turn",
    version: env!("CARGO_PKG_VERSION"),
    about: "Short-lived credentials for TURN servers, for whoever has a valid token.",
    unprefixed_variables: &[],
    // An open TURN server is everybody's relay.
    defaults: &[("auth", "required")],
    introduction: INTRODUCTION,
    translate: as_it_is,
    validate: validate::validate,
    idle: validate::idle,
};

/// Reads the flags in `arguments` (the program's name first), the variables in `environment`, and the file that either of them
/// names, and checks everything.
///
/// # Errors
/// The first setting that cannot be used.
pub fn load(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded<Settings>, ConfigError> {
    PROGRAM.load(arguments, environment)
}
