//! Lays the sources over each other: flag, environment variable, file, default.
//!
//! The values of the environment and of the file are turned into flags and parsed together with the real ones, so that every
//! value goes through the same parser. Each is parsed separately first: an error must name the source of the value.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;

use crate::arguments::{CONFIG_VARIABLE, long_name, settings};
use crate::command::{self, CommandLine};
use crate::environment::EnvironmentLayer;
use crate::error::{ConfigError, SettingSource, from_clap};
use crate::file::FileLayer;
use crate::program::{Loaded, Program};
use crate::sources::SettingSources;
use crate::{print, reference};

impl<S: Args + Serialize> Program<S> {
    /// Reads the flags in `arguments` (the program's name first), the variables in `environment`, and the file that
    /// either of them names, and checks everything. Nothing but the named files is touched.
    ///
    /// # Errors
    /// The first setting that cannot be used: an unknown flag or key, a value of the wrong kind or out of its range, a
    /// file that cannot be read, settings that contradict each other.
    pub fn load(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded<S>, ConfigError> {
        load(self, arguments.into_iter().collect(), environment)
    }
}

/// See [`Program::load`].
fn load<S: Args + Serialize>(
    program: &Program<S>,
    arguments: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded<S>, ConfigError> {
    let command = command::parser(program);
    let (arguments, mut warnings) = (program.translate)(arguments, &command);
    let given = match command.clone().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return help_or_error(program, &error, &command, &arguments),
    };
    if given.get_flag("print_reference") {
        return Ok(Loaded::Print(reference::page(program)));
    }

    let environment = EnvironmentLayer::new(environment, program.unprefixed_variables);
    let file = read_file(&given, &environment, &command)?;
    let mut sources = SettingSources::default();
    let mut merged = vec![program_name(&arguments, &command)];
    for arg in settings(&command) {
        let name = long_name(arg);
        if given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            sources.0.insert(name.to_owned(), SettingSource::Flag);
            continue;
        }
        let lower = match environment.get(arg)? {
            Some(found) => Some(found),
            None => file.get(arg),
        };
        let Some((values, source)) = lower else { continue };
        let flags = as_flags(arg, &values);
        check_separately(&command, &flags, &source)?;
        merged.extend(flags);
        sources.0.insert(name.to_owned(), source);
    }
    // The real flags stand last: after a `--` among them nothing would be a flag.
    merged.extend(arguments.into_iter().skip(1));

    let parsed = command
        .clone()
        .try_get_matches_from(merged)
        .and_then(|matches| CommandLine::<S>::from_arg_matches(&matches))
        .map_err(|error| from_clap(&error, &command, &SettingSource::Flag))?;
    let mut settings = parsed.settings;
    (program.validate)(&mut settings, &sources, &command)?;
    if parsed.print_config {
        return Ok(Loaded::Print(print::effective(&settings, &sources, &command)));
    }
    warnings.extend(environment.warnings(&command));
    warnings.extend((program.idle)(&settings, &sources));
    Ok(Loaded::Run { settings: Box::new(settings), warnings })
}

/// `--help` and `--version` arrive as errors of clap.
fn help_or_error<S: Args>(
    program: &Program<S>,
    error: &clap::Error,
    command: &Command,
    arguments: &[OsString],
) -> Result<Loaded<S>, ConfigError> {
    match error.kind() {
        ErrorKind::DisplayHelp => {
            let mut command = command::with_environment_names(program);
            let is_long = arguments.iter().any(|argument| argument == "--help");
            let help = if is_long { command.render_long_help() } else { command.render_help() };
            Ok(Loaded::Print(help.to_string()))
        }
        ErrorKind::DisplayVersion => Ok(Loaded::Print(error.to_string())),
        _ => Err(from_clap(error, command, &SettingSource::Flag)),
    }
}

fn read_file(
    given: &ArgMatches,
    environment: &EnvironmentLayer,
    command: &Command,
) -> Result<FileLayer, ConfigError> {
    match (given.get_one::<PathBuf>("config"), environment.config_file()) {
        (Some(path), _) => FileLayer::read(path, "--config", command),
        (None, Some(path)) => FileLayer::read(path.as_ref(), CONFIG_VARIABLE, command),
        (None, None) => Ok(FileLayer::default()),
    }
}

fn program_name(arguments: &[OsString], command: &Command) -> OsString {
    arguments.first().cloned().unwrap_or_else(|| command.get_name().into())
}

fn as_flags(arg: &Arg, values: &[String]) -> Vec<OsString> {
    values.iter().map(|value| format!("--{}={value}", long_name(arg)).into()).collect()
}

fn check_separately(
    command: &Command,
    flags: &[OsString],
    source: &SettingSource,
) -> Result<(), ConfigError> {
    let arguments = std::iter::once(OsString::from(command.get_name())).chain(flags.iter().cloned());
    match command.clone().try_get_matches_from(arguments) {
        Ok(_) => Ok(()),
        Err(error) => Err(from_clap(&error, command, source)),
    }
}
