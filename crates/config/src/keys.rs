//! What the settings of authentication come to: keys, grants, and who judges tokens by them. Files are read here, each time anew.

use std::fs;
use std::path::Path;
use std::time::Duration;

use signalbox_auth::jwks::{JwksUrl, SharedJwks};
use signalbox_auth::{
    Authenticator, GrantsSpec, HmacSecret, Issuer, Key, KeySet, Lifetimes, Mode,
    Settings as AuthenticatorSettings, SetupError,
};

use crate::auth::{AuthMode, TokenSettings};
use crate::error::quote;
use crate::file::reason;

/// Largest file that is read: a key set may have 256 KiB.
const MAX_FILE: u64 = 1 << 20;

/// A setting of authentication that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{setting}: {problem} ({remedy})")]
pub struct KeyError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl KeyError {
    /// A mistake of a setting. Its message ends with the remedy in brackets, or has none.
    fn of_setup(setting: &'static str, error: &SetupError) -> Self {
        let message = error.to_string();
        let (problem, remedy) = match message.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
            Some((problem, remedy)) => (problem.to_owned(), remedy.to_owned()),
            None => (message, "docs/auth.md says what it may be".to_owned()),
        };
        Self { setting, problem, remedy }
    }
}

/// Reads a text file that a setting names.
fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |problem: String| KeyError {
        setting,
        problem: format!("cannot read {}: {problem}", quote(&path.to_string_lossy())),
        remedy: "name a readable file".to_owned(),
    };
    let metadata = fs::metadata(path).map_err(|error| failed(reason(&error)))?;
    // A pipe, as `<(...)` gives it, has no length.
    if metadata.is_dir() {
        return Err(failed("it is a directory".to_owned()));
    }
    if metadata.len() > MAX_FILE {
        return Err(failed("it is larger than a mebibyte".to_owned()));
    }
    fs::read(path).map_err(|error| failed(reason(&error)))
}

/// The first secret of the settings: what the program itself signs tokens with.
///
/// # Errors
/// There is none, or its file cannot be read.
pub fn signing_secret(settings: &TokenSettings) -> Result<HmacSecret, KeyError> {
    secrets(settings)?.into_iter().next().ok_or_else(|| KeyError {
        setting: "jwt-secret",
        problem: "there is none to sign with".to_owned(),
        remedy: "set --jwt-secret or --jwt-secret-file".to_owned(),
    })
}

fn secrets(settings: &TokenSettings) -> Result<Vec<HmacSecret>, KeyError> {
    let mut secrets = Vec::new();
    for secret in &settings.jwt_secret {
        let secret = HmacSecret::new(secret.as_str());
        secrets.push(secret.map_err(|error| KeyError::of_setup("jwt-secret", &error))?);
    }
    for path in &settings.jwt_secret_file {
        let secret = HmacSecret::from_file_content(&read("jwt-secret-file", path)?);
        secrets.push(secret.map_err(|error| KeyError::of_setup("jwt-secret-file", &error))?);
    }
    Ok(secrets)
}

/// The URL of the key set, if it is one.
///
/// # Errors
/// It is no URL that may be fetched.
pub fn jwks_url(settings: &TokenSettings) -> Result<Option<JwksUrl>, KeyError> {
    let Some(url) = settings.jwks.as_deref().filter(|text| JwksUrl::is_one(text)) else { return Ok(None) };
    let url = JwksUrl::new(url);
    Ok(Some(url.map_err(|error| KeyError::of_setup("jwks", &SetupError::from(error)))?))
}

/// How long tokens may live by these settings.
pub fn lifetimes(settings: &TokenSettings) -> Lifetimes {
    Lifetimes {
        longest: settings.jwt_max_lifetime.map(whole_seconds),
        leeway: whole_seconds(settings.jwt_leeway),
    }
}

/// Who judges tokens by these settings. `fetched`: the set that is fetched from [`jwks_url`], where there is one.
///
/// # Errors
/// The first setting that cannot be used.
pub fn authenticator(
    settings: &TokenSettings,
    fetched: Option<&SharedJwks>,
) -> Result<Authenticator, KeyError> {
    let mut keys = Vec::new();
    for secret in secrets(settings)? {
        keys.push(Key::hmac(&secret).map_err(|error| KeyError::of_setup("jwt-secret", &error))?);
    }
    for path in &settings.jwt_public_key {
        let content = read("jwt-public-key", path)?;
        let text = String::from_utf8_lossy(&content);
        keys.extend(Key::from_pem(&text).map_err(|error| KeyError::of_setup("jwt-public-key", &error))?);
    }
    let set = match (&settings.jwks, fetched) {
        (None, _) => KeySet::None,
        (Some(_), Some(fetched)) => KeySet::Fetched(fetched.clone()),
        (Some(file), None) => {
            let content = read("jwks", Path::new(file))?;
            KeySet::from_file_content(&content).map_err(|error| KeyError::of_setup("jwks", &error))?
        }
    };
    let grants = |setting, value: &Option<String>, parse: fn(&str) -> _| match value {
        None => Ok(None),
        Some(value) => grants(setting, value, parse).map(Some),
    };
    let mode = match settings.auth {
        AuthMode::Off => Mode::Off,
        AuthMode::Optional => Mode::Optional,
        AuthMode::Required => Mode::Required,
    };
    let token_settings = AuthenticatorSettings {
        mode,
        issuers: vec![Issuer { name: settings.jwt_issuer.clone(), keys, set }],
        audiences: settings.jwt_audience.clone(),
        leeway: whole_seconds(settings.jwt_leeway),
        max_lifetime: settings.jwt_max_lifetime.map(whole_seconds),
        grants_claim: settings.jwt_grants_claim.clone(),
        session_claim: settings.jwt_session_claim.clone(),
        default_grants: grants("default-grants", &settings.default_grants, GrantsSpec::from_setting)?,
        anonymous_grants: grants(
            "anonymous-grants",
            &settings.anonymous_grants,
            GrantsSpec::from_anonymous_setting,
        )?,
    };
    Authenticator::new(token_settings).map_err(|error| KeyError::of_setup("auth", &error))
}

/// Grants in JSON, or in a file.
fn grants(
    setting: &'static str,
    value: &str,
    parse: fn(&str) -> Result<GrantsSpec, signalbox_auth::grants::GrantsError>,
) -> Result<GrantsSpec, KeyError> {
    let content = match value.trim_start().starts_with('{') {
        true => value.to_owned(),
        false => String::from_utf8_lossy(&read(setting, Path::new(value))?).into_owned(),
    };
    parse(&content).map_err(|error| KeyError {
        setting,
        problem: error.to_string(),
        remedy: "docs/auth.md lists the grants".to_owned(),
    })
}

/// Times in tokens are whole seconds.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
