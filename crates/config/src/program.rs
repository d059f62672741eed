//! A program that is configured: its name, its settings, and what it does with them.

use std::ffi::OsString;

use clap::Command;

use crate::error::ConfigError;
use crate::sources::SettingSources;

/// Turns a command line into ours, and says in one sentence each which flags mean nothing.
pub type Translate = fn(Vec<OsString>, &Command) -> (Vec<OsString>, Vec<String>);

/// What the machinery has to know of a program, besides the settings themselves.
pub struct Program<S> {
    /// The name of the binary.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// One sentence, for `--help`.
    pub about: &'static str,
    /// Variables without our prefix that are read where ours is absent: the setting's name, the variable.
    pub unprefixed_variables: &'static [(&'static str, &'static str)],
    /// Defaults that differ from those of settings which several programs have: the argument's id, the default.
    pub defaults: &'static [(&'static str, &'static str)],
    /// What the reference page begins with.
    pub introduction: &'static str,
    /// Turns a command line of another program into ours.
    pub translate: Translate,
    /// Checks the settings against each other and brings them into their final form.
    pub validate: fn(&mut S, &SettingSources, &Command) -> Result<(), ConfigError>,
    /// One sentence for each setting that was given and has no effect.
    pub idle: fn(&S, &SettingSources) -> Vec<String>,
}

/// What the program is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded<S> {
    /// Start with these settings.
    Run {
        /// Checked and normalised.
        settings: Box<S>,
        /// Possible mistakes that are no errors; each is worth one line in the log.
        warnings: Vec<String>,
    },
    /// Write this to stdout and exit with code 0: the help, the version, or the effective configuration.
    Print(String),
}

/// For programs that take no other program's command lines.
pub fn as_it_is(arguments: Vec<OsString>, _: &Command) -> (Vec<OsString>, Vec<String>) {
    (arguments, Vec::new())
}
