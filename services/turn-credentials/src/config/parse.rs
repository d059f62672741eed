//! Parsers for the kinds of values that only this program has; the others are in [`signalbox_config::parse`].

use signalbox_config::error::quote;
use std::time::Duration;

use signalbox_config::OrOff;
use signalbox_config::parse::{self, Parsed};
use signalbox_turn::{Secret, ServerUri};

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
