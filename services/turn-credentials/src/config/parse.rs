//! Parsers for the kinds of values that only this program has; the others are in [`signalbox_config::parse`].

use signalbox_config::error::quote;
use std::time::Duration;

use signalbox_config::OrOff;
use signalbox_config::parse::{self, Parsed};
use signalbox_turn::{Secret, ServerUri, upstream::Provider};

use super::settings::ProbeDepth;
use crate::api_keys::ApiKey;

/// It stays as it was written, so that `--print-config` shows it like that.
pub(super) fn server_uri(text: &str) -> Parsed<String> {
    let text = text.trim();
    match text.parse::<ServerUri>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn secret(text: &str) -> Parsed<String> {
    match Secret::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn subject_key(text: &str) -> Parsed<String> {
    match text.len() {
        16..=1024 => Ok(text.to_owned()),
        _ => Err("the value is shorter than 16 bytes, or longer than 1024".to_owned()),
    }
}

pub(super) fn api_key(text: &str) -> Parsed<ApiKey> {
    text.trim()
        .parse()
        .map_err(|problem| format!("{} {problem}", quote(text.split(':').next().unwrap_or_default())))
}

pub(super) fn probe_depth(text: &str) -> Parsed<OrOff<ProbeDepth>> {
    match text.trim() {
        "relay" => Ok(Some(ProbeDepth::Relay)),
        "allocate" => Ok(Some(ProbeDepth::Allocate)),
        "off" => Ok(None),
        _ => Err(format!("{} is neither relay, allocate nor off", quote(text))),
    }
}

pub(super) fn provider(text: &str) -> Parsed<Provider> {
    let known = Provider::ALL.into_iter().find(|provider| provider.name() == text.trim());
    known.ok_or_else(|| format!("{} is neither cloudflare nor twilio", quote(text)))
}

/// It is part of a path.
pub(super) fn upstream_id(text: &str) -> Parsed<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    match (1..=128).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not an id: 1 to 128 of A-Z a-z 0-9 _ -", quote(text))),
    }
}

/// It is never shown.
pub(super) fn upstream_key(text: &str) -> Parsed<String> {
    match (1..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("the value is not a key of a provider".to_owned()),
    }
}

/// The key travels there: over TLS, or not at all over a network.
pub(super) fn upstream_url(text: &str) -> Parsed<String> {
    let url = text.trim().trim_end_matches('/');
    let is_plain = |rest: &str| !rest.is_empty() && !rest.contains(['@', '?', '#', ' ', '\\']);
    let is_here = |rest: &str| {
        let host = rest.split('/').next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        ["127.0.0.1", "[::1]", "localhost"].contains(&host)
    };
    match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) if is_plain(rest) => Ok(url.to_owned()),
        (_, Some(rest)) if is_plain(rest) && is_here(rest) => Ok(url.to_owned()),
        _ => Err(format!("{} is not the URL of an API (https://, or http:// to this machine)", quote(text))),
    }
}

/// coturn knows single servers alone, so no others are of use here.
pub(super) fn redis_url(text: &str) -> Parsed<String> {
    let text = text.trim();
    match text.split_once("://") {
        Some(("redis" | "rediss", rest)) if !rest.is_empty() => Ok(text.to_owned()),
        // It is not shown: it may hold a password.
        _ => Err("the value does not begin with redis:// or rediss://".to_owned()),
    }
}

/// It is part of names in Redis, and of patterns.
pub(super) fn realm(text: &str) -> Parsed<String> {
    match signalbox_turn::server::is_label(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not a realm: 1 to 64 of A-Z a-z 0-9 . _ -", quote(text))),
    }
}

pub(super) fn millis_or_off(text: &str) -> Parsed<OrOff<Duration>> {
    if parse::is_off(text) {
        return Ok(None);
    }
    let time = parse::millis(1000..=parse::YEAR)(text).map_err(|problem| format!("{problem}, or off"))?;
    Ok(Some(time))
}
