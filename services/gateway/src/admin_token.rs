//! `signalbox-gateway admin-token`: makes a token of the admin API, and the setting that lets its holder in.

use std::ffi::OsString;

use anyhow::{Result, anyhow};
use clap::{Args, FromArgMatches as _};

use crate::config::admin::{AdminToken, Scope, new_token, scopes};

/// Makes a token of the admin API. The token is for whoever is to use it; the setting, which holds its hash, is for the nodes.
#[derive(Debug, Args)]
struct TokenArgs {
    /// Whose it is, as the log is to call it.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    name: String,
    /// What it is good for: one or more of read, emit and control, joined by +.
    #[arg(long, value_name = "SCOPES", default_value = "read+emit+control", value_parser = parse_scopes)]
    scopes: Scopes,
}

#[derive(Debug, Clone)]
struct Scopes(Vec<Scope>);

fn parse_scopes(text: &str) -> Result<Scopes, String> {
    scopes(text).map(Scopes).map_err(|problem| format!("it {problem}"))
}

/// The subcommand, as completions know it.
pub fn command() -> clap::Command {
    TokenArgs::augment_args(clap::Command::new("admin-token"))
}

/// Runs `admin-token ...`; `arguments` are those behind the program's name. Returns what to print.
///
/// # Errors
/// A mistake in the arguments.
pub fn run(arguments: &[OsString]) -> Result<String> {
    let command = TokenArgs::augment_args(clap::Command::new("signalbox-gateway admin-token"));
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => return Ok(error.to_string()),
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            return Err(anyhow!("{} (see admin-token --help)", line.trim_start_matches("error: ")));
        }
    };
    let TokenArgs { name, scopes } = TokenArgs::from_arg_matches(&matches)?;
    let token = new_token();
    let setting =
        AdminToken::of(&token, &name, scopes.0).map_err(|problem| anyhow!("--name: it {problem}"))?;
    Ok(format!(
        "token, for its holder:      {token}\nsetting, for every node:    --admin-token-hash {setting}\n"
    ))
}
