//! The command line that follows from [`Settings`], and what the other sources derive from it: the names of the
//! environment variables and of the file's keys, and which kind of value each takes.

use std::path::PathBuf;

use clap::{Arg, ArgAction, CommandFactory, Parser};

use super::parse;
use super::settings::Settings;

/// Variables without our prefix that are read where ours is absent: the setting's name, the variable.
const UNPREFIXED_VARIABLES: [(&str, &str); 2] = [("port", "PORT"), ("path", "PEERSERVER_PATH")];

/// The variable that names the configuration file.
pub(super) const CONFIG_VARIABLE: &str = "SIGNALBOX_CONFIG";

/// The command line: the settings, and the flags that say what to do with them.
#[derive(Debug, Parser)]
#[command(name = "signalbox-gateway", version)]
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) settings: Settings,

    /// TOML file with further settings; its keys are the names of the flags.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name, help_heading = "Configuration")]
    pub(super) config: Option<PathBuf>,

    /// Print the effective configuration as TOML, with where each value came from, and exit.
    #[arg(long, help_heading = "Configuration")]
    pub(super) print_config: bool,

    /// Print the reference page of all settings as Markdown, and exit.
    #[arg(long, hide = true)]
    pub(super) print_reference: bool,
}

/// The command that parses. clap's own reading of the environment stays unused: it knows one variable a setting, and
/// could not be tested without changing the process' environment.
pub(super) fn parser() -> clap::Command {
    CommandLine::command()
        // The groups' own doc comments are not the program's.
        .about("A signaling node: Socket.IO and PeerServer, for unmodified clients, on one port.")
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
pub(super) fn with_environment_names() -> clap::Command {
    parser()
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

/// Whether the argument is one of [`Settings`], and not about the invocation.
pub(super) fn is_setting(arg: &Arg) -> bool {
    !matches!(arg.get_id().as_str(), "config" | "print_config" | "print_reference" | "help" | "version")
}

/// The settings in the order of their declaration.
pub(super) fn settings(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| is_setting(arg))
}

/// The name of the flag without its dashes, which is the key in the file too.
pub(super) fn long_name(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

/// The argument of this name, in either spelling.
pub(super) fn find<'a>(command: &'a clap::Command, name: &str) -> Option<&'a Arg> {
    let name = name.replace('_', "-");
    command.get_arguments().find(|arg| long_name(arg).replace('_', "-") == name)
}

/// `SIGNALBOX_` and the name in capitals.
pub(super) fn own_variable(arg: &Arg) -> String {
    format!("SIGNALBOX_{}", long_name(arg).replace('-', "_").to_ascii_uppercase())
}

/// The variables that set the argument; the first that is set counts.
pub(super) fn variables(arg: &Arg) -> Vec<String> {
    let unprefixed = UNPREFIXED_VARIABLES.iter().filter(|(name, _)| *name == long_name(arg));
    std::iter::once(own_variable(arg)).chain(unprefixed.map(|(_, variable)| (*variable).to_owned())).collect()
}

/// Whether the setting may be given several times.
pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Whether the setting is a number.
pub(super) fn is_number(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| matches!(name.as_str(), "PORT" | "MS" | "BYTES" | "COUNT"))
}

/// Whether the flag may stand without a value, so that a boolean in the file means something.
pub(super) fn is_switch(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|range| range.min_values() == 0)
}

/// Whether the value must never be shown. A setting is made secret by `hide_env_values = true` in its `#[arg]`.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
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
