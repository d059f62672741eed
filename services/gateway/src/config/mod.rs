//! The gateway's configuration: one typed struct, read from flags, environment variables and a TOML file. The machinery
//! is [`signalbox_config`]'s.
//!
//! - [`settings`]: the struct itself, with defaults, units and documentation. Start here.
//! - `peerjs`: command lines of PeerServer's program, as ours.
//! - `parse`: one parser for each kind of value that only the gateway has.
//! - `validate`: the checks that concern several settings.
//! - [`auth`]: the settings of authentication.
//! - [`limits`]: how much clients may do.
//! - [`admin`]: tokens of the admin API.
//! - [`ice`]: the settings of ICE servers.
//! - [`hooks`]: the settings of hooks.
//! - [`webhooks`]: the settings of webhooks.
//! - `idle`: settings that were given and have no effect.
//! - `fingerprint`: the hash in a metric.
//! - `reference`: what the page `docs/configuration.md` begins with.

pub mod admin;
pub mod auth;
pub mod cookie;
mod fingerprint;
pub mod hooks;
pub mod ice;
mod idle;
pub mod limits;
mod parse;
mod peerjs;
mod reference;
pub mod settings;
#[cfg(test)]
mod tests;
mod validate;
pub mod webhooks;

use std::ffi::OsString;
use std::path::Path;

pub use settings::{Settings, Transport};
use signalbox_config::Program;
pub use signalbox_config::{ConfigError, LogFormat, OrOff};

/// What a file of a secret holds by now.
///
/// # Errors
/// A sentence that says what is wrong, and nothing of what the file holds.
fn read_again(path: &Path, parse: fn(&str) -> Result<String, String>) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| signalbox_config::reason(&error))?;
    parse(parse::without_line_ending(&text))
}

/// The URL in a `--redis-url-file`.
///
/// # Errors
/// The file cannot be read, or holds no such URL: a sentence that shows nothing of it.
pub fn read_redis_url(path: &Path) -> Result<String, String> {
    read_again(path, signalbox_config::parse::redis_url)
}

/// The secret in a `--cluster-secret-file`.
///
/// # Errors
/// The file cannot be read, or holds no such secret: a sentence that shows nothing of it.
pub fn read_cluster_secret(path: &Path) -> Result<String, String> {
    read_again(path, parse::cluster_secret)
}

/// What the program is to do.
pub type Loaded = signalbox_config::Loaded<Settings>;

const PROGRAM: Program<Settings> = Program {
    name: "signalbox-gateway",
    version: env!("CARGO_PKG_VERSION"),
    about: "A signaling node: Socket.IO and PeerServer, for unmodified clients, on one port.",
    unprefixed_variables: &[("port", "PORT"), ("path", "PEERSERVER_PATH")],
    defaults: &[],
    introduction: reference::INTRODUCTION,
    translate: peerjs::translate,
    validate: validate::validate,
    idle: idle::warnings,
};

/// The command line of the settings.
pub fn command() -> clap::Command {
    signalbox_config::command::parser(&PROGRAM)
}

/// The arguments as a subcommand reads them, and the settings among them: [`signalbox_config::split::split_settings`].
///
/// # Errors
/// An argument that is neither the subcommand's nor a setting.
pub fn split_settings(
    own: clap::Command,
    arguments: &[OsString],
) -> Result<Result<(clap::ArgMatches, Vec<OsString>), String>, ConfigError> {
    signalbox_config::split::split_settings(&PROGRAM, own, arguments)
}

impl Settings {
    /// Reads the flags in `arguments` (the program's name first), the variables in `environment`, and the file that
    /// either of them names, and checks everything. Nothing but the named files is touched.
    ///
    /// # Errors
    /// The first setting that cannot be used; see [`Program::load`].
    pub fn load(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigError> {
        PROGRAM.load(arguments, environment)
    }
}
