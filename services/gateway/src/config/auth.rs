//! The settings of authentication: those that all programs have, and those of the gateway alone.

use clap::{ArgAction, Args};
use serde::Serialize;
use signalbox_config::auth::TokenSettings;

use super::parse;

/// What becomes of tokens that may have been revoked without the node's knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutRedis {
    /// They are judged by what the node knows.
    Allow,
    /// They are refused.
    Refuse,
}

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

    /// What becomes of tokens while Redis is away, and the node cannot know whether they were revoked on another: allow (they are
    /// judged by what the node knows, and counted) or refuse (until Redis is back; who is connected stays).
    #[arg(long, value_name = "allow|refuse", default_value = "allow", value_parser = parse::without_redis)]
    pub auth_without_redis: WithoutRedis,

    /// Refuse the event users, which lists the connected clients, whatever is granted.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = parse::switch)]
    pub no_users: bool,
}
