//! The settings among the arguments of a subcommand, which has flags of its own.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};

use crate::arguments::{is_switch, long_name};
use crate::command::parser;
use crate::error::{ConfigError, SettingSource, from_clap};
use crate::program::Program;

/// The arguments as the subcommand `own` reads them, and those of [`Program::load`] among them, the program's name first; or the help,
/// where that is asked for.
///
/// # Errors
/// An argument that is neither the subcommand's nor a setting.
pub fn split_settings<S: Args>(
    program: &Program<S>,
    own: Command,
    arguments: &[OsString],
) -> Result<Result<(ArgMatches, Vec<OsString>), String>, ConfigError> {
    let named = |arg: &clap::Arg| own.get_arguments().any(|known| known.get_long() == arg.get_long());
    let settings: Vec<_> = parser(program)
        .get_arguments()
        .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
        .filter(|arg| !named(arg))
        .map(|arg| arg.clone().hide(true))
        .collect();
    let after = "Keys, issuer, audience and the names of claims are the program's settings: flags, variables or the file of --config.";
    let command = own.args(&settings).after_help(after);
    let name = [OsString::from(program.name)];
    let matches = match command.clone().try_get_matches_from(name.iter().chain(arguments)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Err(error.to_string())),
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            let text = error.to_string();
            let missing = text.lines().nth(1).unwrap_or_default().trim().to_owned();
            return Err(ConfigError::new(missing, "is missing", "see --help"));
        }
        Err(error) => return Err(from_clap(&error, &command, &SettingSource::Flag)),
    };
    let mut given = name.to_vec();
    for arg in &settings {
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let flag = format!("--{}", long_name(arg));
        if !arg.get_action().takes_values() {
            given.push(flag.into());
            continue;
        }
        let values: Vec<_> = matches.get_raw(id).into_iter().flatten().collect();
        if values.is_empty() && is_switch(arg) {
            given.push(flag.clone().into());
        }
        for value in values {
            let mut whole = OsString::from(format!("{flag}="));
            whole.push(value);
            given.push(whole);
        }
    }
    Ok(Ok((matches, given)))
}
