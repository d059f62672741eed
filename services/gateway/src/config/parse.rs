//! Parsers for the kinds of values that only the gateway has; the others are in [`signalbox_config::parse`].

use std::net::SocketAddr;

use signalbox_config::error::quote;
pub(super) use signalbox_config::parse::*;
use signalbox_hooks::SigningSecret;
use signalbox_node::ClientSelector;

use super::admin::AdminToken;
use super::auth::WithoutRedis;
use super::cookie::{CookieSecure, SameSite};
use super::settings::{MemoryLimit, OrOff, TlsMode, Transport};

/// A session id has eight bits for its shard, and a worker is a shard.
const MAX_WORKERS: usize = 256;
/// Engine.IO's name for the cookie when none is given.
const DEFAULT_COOKIE: &str = "io";

/// A secret that requests are signed with.
pub(super) fn signing_secret(text: &str) -> Parsed<String> {
    let read: Result<SigningSecret, _> = text.parse();
    read.map(|_| text.to_owned()).map_err(|problem| format!("the value {problem}"))
}

/// None is no limit that anybody means.
pub(super) fn concurrent_limit(text: &str) -> Parsed<usize> {
    match number(text, &(0..=u32::MAX as usize), "")? {
        0 => Err(format!("{} would refuse every peer", quote(text))),
        limit => Ok(limit),
    }
}

pub(super) fn workers(text: &str) -> Parsed<usize> {
    signalbox_config::parse::workers(MAX_WORKERS)(text)
}

/// A path with one leading slash, without a trailing one, without empty segments; `/` alone stays, and nothing is as much.
pub(super) fn path(text: &str) -> Parsed<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@".contains(c);
    let trimmed = text.trim();
    if !trimmed.chars().all(is_plain) {
        return Err(format!("{} is not a plain URL path", quote(text)));
    }
    let segments: Vec<&str> = trimmed.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err(format!("{} has a . or .. segment", quote(text)));
    }
    Ok(format!("/{}", segments.join("/")))
}

pub(super) fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.trim().parse().map_err(|_| {
        format!("{} is not an IP address with a port, as 10.0.0.7:9005 or [::1]:9005", quote(text))
    })
}

/// What a file of a secret holds: its last line ending is not part of it.
pub(super) fn without_line_ending(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line)
}

pub(super) fn cluster_secret(text: &str) -> Parsed<String> {
    if text.len() < 16 || text.len() > 1024 {
        return Err("the value is shorter than 16 bytes, or longer than 1024".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn realm_key(text: &str) -> Parsed<String> {
    let is_key_character = |c: char| !c.is_control() && !c.is_whitespace() && !"/?#".contains(c);
    if text.is_empty() || text.len() > 256 || !text.chars().all(is_key_character) {
        return Err(format!("{} is not a key: 1 to 256 bytes without spaces, /, ? and #", quote(text)));
    }
    Ok(text.to_owned())
}

/// A namespace's name, as clients write it; without its slash too.
pub(super) fn namespace(text: &str) -> Parsed<String> {
    let name = text.trim();
    let is_plain = !name.is_empty()
        && name.len() <= 128
        && !name.contains(|c: char| c.is_control() || c.is_whitespace() || "?\"".contains(c));
    if !is_plain {
        return Err(format!(
            "{} is not the name of a namespace: 1 to 128 bytes without spaces, ? and quotes",
            quote(text)
        ));
    }
    Ok(if name.starts_with('/') { name.to_owned() } else { format!("/{name}") })
}

/// A client whose story is logged.
pub(super) fn client(text: &str) -> Parsed<String> {
    let client = text.parse::<ClientSelector>().map_err(|error| format!("{}: {error}", quote(text)))?;
    Ok(client.as_str().to_owned())
}

pub(super) fn cookie_name(text: &str) -> Parsed<String> {
    cookie(text)?.ok_or_else(|| format!("{} is not a cookie name", quote(text)))
}

pub(super) fn memory_limit(text: &str) -> Parsed<MemoryLimit> {
    match text.trim() {
        "auto" => Ok(MemoryLimit::Auto),
        text if is_off(text) => Ok(MemoryLimit::Off),
        text => bytes(1 << 20..=1024 * GIB)(text)
            .map(MemoryLimit::Bytes)
            .map_err(|problem| format!("{problem}, auto or off")),
    }
}

/// A number above 0, or `off` for any.
pub(super) fn rate(text: &str) -> Parsed<OrOff<u32>> {
    if is_off(text) {
        return Ok(None);
    }
    number(text, &(1..=u32::MAX), "").map(Some).map_err(|problem| format!("{problem}, or off"))
}

pub(super) fn without_redis(text: &str) -> Parsed<WithoutRedis> {
    match text.trim() {
        "allow" => Ok(WithoutRedis::Allow),
        "refuse" => Ok(WithoutRedis::Refuse),
        _ => Err(format!("{} is neither allow nor refuse", quote(text))),
    }
}

pub(super) fn tls_mode(text: &str) -> Parsed<TlsMode> {
    match text.trim() {
        "off" => Ok(TlsMode::Off),
        "optional" => Ok(TlsMode::Optional),
        "required" => Ok(TlsMode::Required),
        _ => Err(format!("{} is neither off, optional nor required", quote(text))),
    }
}

pub(super) fn admin_token(text: &str) -> Parsed<AdminToken> {
    text.trim().parse().map_err(|problem| format!("the value {problem}"))
}

pub(super) fn cookie_secure(text: &str) -> Parsed<CookieSecure> {
    match text.trim() {
        "auto" => Ok(CookieSecure::Auto),
        text => match switch(text) {
            Ok(true) => Ok(CookieSecure::Always),
            Ok(false) => Ok(CookieSecure::Never),
            Err(_) => Err(format!("{} is neither auto, true nor false", quote(text))),
        },
    }
}

pub(super) fn same_site(text: &str) -> Parsed<SameSite> {
    match text.trim().to_ascii_lowercase().as_str() {
        "strict" => Ok(SameSite::Strict),
        "lax" => Ok(SameSite::Lax),
        "none" => Ok(SameSite::None),
        _ => Err(format!("{} is neither strict, lax nor none", quote(text))),
    }
}

pub(super) fn transport(text: &str) -> Parsed<Transport> {
    match text.trim() {
        "polling" => Ok(Transport::Polling),
        "websocket" => Ok(Transport::WebSocket),
        _ => Err(format!("{} is not a transport: polling or websocket", quote(text))),
    }
}

/// A cookie's name, a token of RFC 9110; `true` is the usual name, `false` and `off` are no cookie.
pub(super) fn cookie(text: &str) -> Parsed<OrOff<String>> {
    let name = text.trim();
    if is_off(name) || name == "false" {
        return Ok(None);
    }
    if name == "true" {
        return Ok(Some(DEFAULT_COOKIE.to_owned()));
    }
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err(format!("{} is not a cookie name", quote(text)));
    }
    Ok(Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (text, expected) in [
            ("/", "/"),
            ("myapp", "/myapp"),
            ("/myapp/", "/myapp"),
            ("//a//b/", "/a/b"),
            (" /socket.io/ ", "/socket.io"),
            ("", "/"),
        ] {
            assert_eq!(path(text).as_deref(), Ok(expected), "{text:?}");
        }
        for text in ["/a b", "/a?b", "/a#b", "/{a}", "/a/../b", "/é", "/%2e"] {
            assert!(path(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn memory_is_a_number_auto_or_off() {
        assert_eq!(memory_limit("auto"), Ok(MemoryLimit::Auto));
        assert_eq!(memory_limit("off"), Ok(MemoryLimit::Off));
        assert_eq!(memory_limit("1048576"), Ok(MemoryLimit::Bytes(1 << 20)));
        assert!(memory_limit("1000").is_err() && memory_limit("much").is_err());
    }

    #[test]
    fn cookie_is_a_name_or_off() {
        assert_eq!(cookie("off"), Ok(None));
        assert_eq!(cookie("false"), Ok(None));
        assert_eq!(cookie("true"), Ok(Some("io".to_owned())));
        assert_eq!(cookie("sid"), Ok(Some("sid".to_owned())));
        assert!(cookie("a b").is_err());
        assert!(cookie("").is_err());
    }

    #[test]
    fn workers_are_a_number_or_the_cores() {
        assert_eq!(workers("256"), Ok(256));
        assert!(workers("0").is_err());
        assert!(workers("257").is_err());
        assert!(workers("cores").is_ok_and(|cores| cores >= 1));
    }
}
