//! The settings of authentication: those that all programs have, and those of the gateway alone.

use clap::{ArgAction, Args};
use serde::Serialize;
use signalbox_config::auth::TokenSettings;

use super::parse;

/// Who may do what, by JSON Web Tokens. `docs/auth.md` describes it.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Authentication")]
pub struct AuthSettings {
    /// The tokens that are trusted, and what they grant.
    #[command(flatten)]
    #[serde(flatten)]
    pub tokens: TokenSettings,

    /// Name of a cookie in which pages of --origins may show their token. Without it no cookie counts.
    #[arg(long, value_name = "NAME", value_parser = parse::cookie_name)]
    pub jwt_cookie: Option<String>,

    /// Refuse the event users, which lists the connected clients, whatever is granted.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = parse::switch)]
    pub no_users: bool,
}
