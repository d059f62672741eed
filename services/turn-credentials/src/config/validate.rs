//! Checks beyond a single value, and settings that were given and have no effect.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Command;
use signalbox_auth::jwks::{Intervals, SharedJwks};
use signalbox_config::auth::AuthMode;
use signalbox_config::check::{Address, Check, remove_repeated};
use signalbox_config::parse::merge_origins;
use signalbox_config::{ConfigError, SettingSource, SettingSources, keys, reason};
use signalbox_turn::Secret;

use super::settings::{Settings, TurnSettings, UpstreamSettings};

/// Checks the settings against each other and brings them into their final form.
pub(super) fn validate(
    settings: &mut Settings,
    sources: &SettingSources,
    command: &Command,
) -> Result<(), ConfigError> {
    let check = Check::new(sources, command);
    for origins in [&mut settings.listener.cors, &mut settings.listener.origins] {
        remove_repeated(origins);
        merge_origins(origins);
    }
    remove_repeated(&mut settings.turn.uri);
    remove_repeated(&mut settings.turn.secret);
    if settings.store.coturn_stats_url.is_none() {
        settings.store.coturn_stats_url = settings.store.coturn_redis_url.clone();
    }
    let Settings { listener, turn, store, auth, keys: key_settings, management, probes, upstream, .. } =
        settings;
    check.tls(listener.sslkey.as_deref(), listener.sslcert.as_deref())?;
    check.proxies(listener.proxied, &listener.trusted_proxies)?;
    check.ports(&[
        Address { name: "port", host: &listener.host, port: listener.port },
        Address { name: "admin-port", host: &management.admin_host, port: management.admin_port },
    ])?;
    let has_upstream = check_upstream(&check, upstream, turn)?;
    if turn.uri.is_empty() && !has_upstream {
        return Err(check.bad("uri", "there is no TURN server"));
    }
    let unreadable = |(path, problem): (PathBuf, String)| {
        check.unreadable("secret-file", &path, &problem, "write secrets into it, one a line")
    };
    let has_secret = !secrets(turn).map_err(unreadable)?.is_empty() || store.coturn_redis_url.is_some();
    if !has_secret && !has_upstream {
        return Err(check.bad("secret", "there is no secret to sign with"));
    }
    // Nothing else is the same in all instances.
    let needs_key = [("coturn-redis-url", &store.coturn_redis_url), ("redis-url", &store.redis_url)];
    if turn.secret.is_empty()
        && turn.secret_file.is_empty()
        && turn.subject_key.is_none()
        && let Some((name, _)) = needs_key.into_iter().find(|(_, url)| url.is_some())
    {
        return Err(check.missing_partner(name, "subject-key", "16-bytes-or-more"));
    }
    if let Some(path) = &probes.probe_ca {
        check.readable_file("probe-ca", path, "name a readable PEM file")?;
    }
    if let Some(path) = &store.redis_ca {
        check.readable_file("redis-ca", path, "name a readable PEM file")?;
    }
    if turn.ttl > turn.max_ttl {
        return Err(check.bad("max-ttl", "it is shorter than --ttl"));
    }
    let mut names = Vec::new();
    for key in &key_settings.api_key {
        if names.contains(&&key.name) {
            return Err(check.bad("api-key", format!("the name {} is given twice", key.name)));
        }
        names.push(&key.name);
    }
    if auth.auth == AuthMode::Off {
        return Ok(());
    }
    let has_token_keys =
        !(auth.jwt_secret.is_empty() && auth.jwt_secret_file.is_empty() && auth.jwt_public_key.is_empty())
            || auth.jwks.is_some();
    if !has_token_keys && auth.auth == AuthMode::Required && !key_settings.api_key.is_empty() {
        // Servers alone may ask.
        return Ok(());
    }
    let fetched = keys::jwks_url(auth).and_then(|url| {
        let set = url.map(|_| SharedJwks::new(Intervals::default(), Instant::now()));
        keys::authenticator(auth, set.as_ref()).map(|_| ())
    });
    fetched.map_err(|error| {
        ConfigError::new(sources.of(error.setting).place(error.setting), error.problem, error.remedy)
    })
}

/// Whether there is a provider, with all that it needs.
fn check_upstream(
    check: &Check<'_>,
    upstream: &UpstreamSettings,
    turn: &TurnSettings,
) -> Result<bool, ConfigError> {
    let Some(provider) = upstream.upstream else { return Ok(false) };
    if upstream.upstream_id.is_none() {
        return Err(check.missing_partner("upstream", "upstream-id", "ID"));
    }
    if upstream.upstream_key.is_none() && upstream.upstream_key_file.is_none() {
        return Err(check.missing_partner("upstream", "upstream-key", "KEY"));
    }
    if upstream.upstream_key.is_some() && upstream.upstream_key_file.is_some() {
        return Err(check.bad("upstream-key-file", "it is given together with --upstream-key"));
    }
    if let Some(path) = &upstream.upstream_key_file
        && let Err(error) = upstream.key()
    {
        return Err(check.unreadable("upstream-key-file", path, &reason(&error), "write the key into it"));
    }
    if let Some(path) = &upstream.upstream_ca {
        check.readable_file("upstream-ca", path, "name a readable PEM file")?;
    }
    if turn.max_ttl.as_secs() > provider.max_ttl() {
        let (name, hours) = (provider.name(), provider.max_ttl() / 3600);
        return Err(check.bad("max-ttl", format!("it is longer than the {hours} hours of {name}")));
    }
    Ok(true)
}

/// All static secrets, the one that signs first.
///
/// # Errors
/// A file that cannot be read, and why.
pub(crate) fn secrets(turn: &TurnSettings) -> Result<Vec<Secret>, (PathBuf, String)> {
    let mut secrets = Vec::new();
    let parsed =
        |text: &str, path: &Path| Secret::new(text).map_err(|error| (path.to_owned(), error.to_string()));
    for text in &turn.secret {
        secrets.push(parsed(text, Path::new(""))?);
    }
    for path in &turn.secret_file {
        let content = std::fs::read_to_string(path).map_err(|error| (path.clone(), reason(&error)))?;
        for line in content.lines().map(str::trim).filter(|line| !line.is_empty()) {
            secrets.push(parsed(line, path)?);
        }
    }
    remove_repeated(&mut secrets);
    Ok(secrets)
}

/// One sentence for each setting that was given and has no effect.
pub(super) fn idle(settings: &Settings, sources: &SettingSources) -> Vec<String> {
    let is_open = settings.auth.auth == AuthMode::Off;
    let has_static = settings.store.coturn_redis_url.is_none();
    let is_alone = settings.store.redis_url.is_none();
    let is_unheard = settings.store.coturn_stats_url.is_none() || is_alone;
    let without_stats = "has no effect without --redis-url and --coturn-stats-url";
    let without_auth = "has no effect with --auth off";
    let (has_upstream, with_upstream) =
        (settings.upstream.upstream.is_some(), "has no effect with --upstream");
    let without_upstream = "has no effect without --upstream";
    let mut warnings: Vec<String> = [
        ("jwt-secret", is_open, without_auth),
        ("jwt-secret-file", is_open, without_auth),
        ("jwt-public-key", is_open, without_auth),
        ("jwks", is_open, without_auth),
        ("default-grants", is_open, without_auth),
        (
            "anonymous-grants",
            settings.auth.auth != AuthMode::Optional,
            "has no effect without --auth optional",
        ),
        ("uri", has_upstream, with_upstream),
        ("secret", has_upstream, with_upstream),
        ("secret-file", has_upstream, with_upstream),
        ("probe", has_upstream, with_upstream),
        ("coturn-redis-url", has_upstream, with_upstream),
        ("upstream-id", !has_upstream, without_upstream),
        ("upstream-key", !has_upstream, without_upstream),
        ("upstream-key-file", !has_upstream, without_upstream),
        ("upstream-url", !has_upstream, without_upstream),
        ("upstream-ca", !has_upstream, without_upstream),
        ("redis-ca", !settings.store.has_tls(), "has no effect without rediss in a URL of Redis"),
        ("rotate-every", has_static, "has no effect without --coturn-redis-url"),
        ("quota-bytes", is_unheard, without_stats),
        ("quota-allocations", is_unheard, without_stats),
        ("quota-total", has_static, "has no effect without --coturn-redis-url"),
    ]
    .into_iter()
    .filter(|(name, is_idle, _)| *is_idle && sources.of(name) != &SettingSource::Default)
    .map(|(name, _, problem)| format!("{}: {problem}", sources.of(name).place(name)))
    .collect();
    if is_open {
        warnings.push(
            "anybody gets credentials, and can use the TURN servers as a relay (set --auth required)"
                .to_owned(),
        );
    }
    warnings
}
