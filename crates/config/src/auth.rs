//! The settings of authentication, which mean the same in every program.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::error::quote;
use crate::parse;
use crate::serialize::{as_millis, maybe_millis};

/// Whether tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Anybody may do anything.
    Off,
    /// A token is judged; who shows none is anonymous.
    Optional,
    /// There must be a good token.
    Required,
}

/// Who may do what, by JSON Web Tokens. `docs/auth.md` describes it.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Authentication")]
pub struct TokenSettings {
    /// Whether clients must show a JSON Web Token: off, optional (who shows none is anonymous) or required.
    #[arg(long, value_name = "MODE", default_value = "off", value_parser = auth_mode)]
    pub auth: AuthMode,

    /// Secret that checks tokens signed with HS256, HS384 or HS512, 32 bytes or more, used as it is written; repeatable, so that it
    /// can be rotated. The variable has one.
    #[arg(long, value_name = "SECRET", hide_env_values = true, value_parser = jwt_secret)]
    pub jwt_secret: Vec<String>,

    /// File with such a secret; repeatable. A line ending at its end is not part of it. It is read again on SIGHUP.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub jwt_secret_file: Vec<PathBuf>,

    /// PEM file with public keys that check tokens: RSA, P-256, P-384 or Ed25519; repeatable. It is read again on SIGHUP.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub jwt_public_key: Vec<PathBuf>,

    /// Key set that checks tokens: a file, which is read again on SIGHUP, or an https URL, which is fetched every ten minutes and for
    /// keys that are not known.
    #[arg(long, value_name = "JWKS", value_parser = parse::text)]
    pub jwks: Option<String>,

    /// What the claim iss of a token must be. Without it anything.
    #[arg(long, value_name = "ISSUER", value_parser = parse::text)]
    pub jwt_issuer: Option<String>,

    /// What the claim aud of a token must contain, one of these; repeatable. Without it a token must have no audience.
    #[arg(long, value_name = "AUDIENCE", value_parser = parse::text)]
    pub jwt_audience: Vec<String>,

    /// How far the clocks of those who issue tokens may be off, in milliseconds, rounded up to whole seconds.
    #[arg(long, value_name = "MS", default_value = "10000", value_parser = parse::millis(0..=parse::HOUR))]
    #[serde(serialize_with = "as_millis")]
    pub jwt_leeway: Duration,

    /// How far away the expiry of a token may be, in milliseconds. Without it any time.
    #[arg(long, value_name = "MS", value_parser = parse::millis(1000..=parse::YEAR))]
    #[serde(serialize_with = "maybe_millis")]
    pub jwt_max_lifetime: Option<Duration>,

    /// Name of the claim with the grants; some identity providers want a URL.
    #[arg(long, value_name = "CLAIM", default_value = "signalbox", value_parser = parse::text)]
    pub jwt_grants_claim: String,

    /// Name of the claim that tells two sessions of one subject apart, such as two tabs.
    #[arg(long, value_name = "CLAIM", default_value = "session", value_parser = parse::text)]
    pub jwt_session_claim: String,

    /// What clients may do whose token has no grants of its own: JSON, or a file of it, which is read again on SIGHUP. Without it
    /// everything but the admin API.
    #[arg(long, value_name = "GRANTS", value_parser = parse::text)]
    pub default_grants: Option<String>,

    /// What clients may do that have no token, with --auth optional: JSON, or a file of it, which is read again on SIGHUP. Without it
    /// everything but the admin API.
    #[arg(long, value_name = "GRANTS", value_parser = parse::text)]
    pub anonymous_grants: Option<String>,
}

/// Leaves the secrets out: settings end up in logs.
impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("auth", &self.auth)
            .field("jwks", &self.jwks)
            .field("jwt_issuer", &self.jwt_issuer)
            .finish_non_exhaustive()
    }
}

fn auth_mode(text: &str) -> parse::Parsed<AuthMode> {
    match text.trim() {
        "off" => Ok(AuthMode::Off),
        "optional" => Ok(AuthMode::Optional),
        "required" => Ok(AuthMode::Required),
        _ => Err(format!("{} is neither off, optional nor required", quote(text))),
    }
}

/// What is too short is refused with the remedy when the secrets are used; here only what is no value at all.
fn jwt_secret(text: &str) -> parse::Parsed<String> {
    if text.is_empty() {
        return Err("the value is empty".to_owned());
    }
    Ok(text.to_owned())
}
