//! The command line that follows from the settings.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser};

use crate::arguments::{CONFIG_VARIABLE, is_setting, own_variable};
use crate::parse;
use crate::program::Program;

/// The command line: the settings, and the flags that say what to do with them.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct CommandLine<S: Args> {
    #[command(flatten)]
    pub(crate) settings: S,

    /// TOML file with further settings; its keys are the names of the flags.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name, help_heading = "Configuration")]
    pub(crate) config: Option<PathBuf>,

    /// Print the effective configuration as TOML, with where each value came from, and exit.
    #[arg(long, help_heading = "Configuration")]
    pub(crate) print_config: bool,

    /// Print the reference page of all settings as Markdown, and exit.
    #[arg(long, hide = true)]
    pub(crate) print_reference: bool,
}

/// The command that parses. clap's own reading of the environment stays unused: it knows one variable a setting, and
/// could not be tested without changing the process' environment.
pub fn parser<S: Args>(program: &Program<S>) -> clap::Command {
    let command = program.defaults.iter().fold(CommandLine::<S>::command(), |command, (id, default)| {
        command.mut_arg(id, |arg| arg.default_value(default))
    });
    command
        .name(program.name)
        .version(program.version)
        // The groups' own doc comments are not the program's.
        .about(program.about)
        .long_about(None::<&str>)
        .mut_args(|arg| {
            let spelled_otherwise = other_spelling(arg.get_long().unwrap_or_default());
            // A negative number is a wrong value, and not an unknown flag.
            let arg = if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg };
            match spelled_otherwise {
                Some(alias) => arg.alias(alias),
                None => arg,
            }
        })
}

/// The command whose `--help` is shown: with the names of the environment variables.
pub(crate) fn with_environment_names<S: Args>(program: &Program<S>) -> clap::Command {
    parser(program)
        .mut_args(|arg| match arg.get_id().as_str() {
            "config" => arg.env(CONFIG_VARIABLE).hide_env_values(true),
            _ if is_setting(&arg) => {
                let variable = own_variable(&arg);
                arg.env(variable).hide_env_values(true)
            }
            _ => arg,
        })
        .after_help(
            "Each setting is a flag, an environment variable and a key of the file; the flag wins over the variable,\n\
             the variable over the file, the file over the default. Hyphens and underscores are interchangeable.",
        )
}

fn other_spelling(long: &str) -> Option<String> {
    if long.contains('-') {
        Some(long.replace('-', "_"))
    } else if long.contains('_') {
        Some(long.replace('_', "-"))
    } else {
        None
    }
}
