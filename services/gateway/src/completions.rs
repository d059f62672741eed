//! `signalbox-gateway completions`: what a shell needs to complete our command line.

use std::{ffi::OsString, str::FromStr as _};

use anyhow::{Result, anyhow};
use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;

use crate::{admin_cli, admin_token, config, rules, token};

/// The shells that are known, as they are named.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Runs `completions ...`; `arguments` are those behind the program's name. Returns what to print: a script of the shell.
///
/// # Errors
/// A shell that is not known.
pub fn run(arguments: &[OsString]) -> Result<String> {
    let matches = match own().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => return Ok(error.to_string()),
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return Err(anyhow!("{} (see completions --help)", line.trim_start_matches("error: ")));
        }
    };
    let name = matches.get_one::<String>("shell").map(String::as_str).unwrap_or_default();
    let shell = Shell::from_str(name).map_err(|problem| anyhow!(problem))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), "signalbox-gateway", &mut script);
    let script = String::from_utf8(script)?;
    // clap_complete 4.6 writes a hyphen of the program's own name in two ways for bash, and then finds no subcommand.
    Ok(match shell {
        Shell::Bash => script.replace("signalbox__subcmd__gateway", "signalbox__gateway"),
        _ => script,
    })
}

fn own() -> Command {
    let names = SHELLS.map(|shell| shell.to_string());
    Command::new("completions").about("Prints what a shell needs to complete this command line").arg(
        Arg::new("shell").value_name("SHELL").help("bash, zsh or fish").required(true).value_parser(names),
    )
}

/// The whole command line: the settings, and all subcommands. Each of them is parsed by itself, since most take settings too.
fn whole() -> Command {
    let ready =
        Arg::new("ready").long("ready").action(ArgAction::SetTrue).help("Ask for readiness instead of life");
    let health =
        Command::new("health").about("Asks the node that runs with these settings how it is").arg(ready);
    config::command()
        .subcommand(admin_cli::command())
        .subcommand(token::command())
        .subcommand(admin_token::command())
        .subcommand(rules::command())
        .subcommand(with_settings(health))
        .subcommand(own())
}

/// With the settings beside its own arguments, which come first where both have one of a name.
pub(crate) fn with_settings(command: Command) -> Command {
    let settings = config::command();
    let is_free = |arg: &&Arg| {
        command.get_arguments().all(|own| own.get_id() != arg.get_id() && own.get_long() != arg.get_long())
    };
    let settings: Vec<Arg> = settings.get_arguments().filter(is_free).cloned().collect();
    command.args(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_command_line_is_sound() {
        whole().debug_assert();
    }

    #[test]
    fn every_shell_knows_the_subcommands_and_the_settings() {
        for shell in SHELLS {
            let script = run(&["completions".into(), shell.to_string().into()]).unwrap();
            for word in ["members", "explain", "admin-token", "completions", "redis-url", "ready"] {
                assert!(script.contains(word), "{shell} does not know {word}");
            }
        }
        let error = run(&["completions".into(), "csh".into()]).unwrap_err().to_string();
        assert!(error.contains("csh") && error.contains("--help"), "{error}");
    }
}
