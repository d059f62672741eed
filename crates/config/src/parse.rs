//! One parser for each kind of value. All three sources hand in text, so a value means the same wherever it stands.
//! An error is the problem alone; where the value stood, and the remedy, are added by the caller.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::OrOff;
use crate::error::quote;

/// One hour in milliseconds.
pub const HOUR: u64 = 60 * 60 * 1000;
/// One day in milliseconds, the longest time that most settings take.
pub const DAY: u64 = 24 * HOUR;
/// A leap year in milliseconds.
pub const YEAR: u64 = 366 * DAY;
/// One gibibyte.
pub const GIB: usize = 1 << 30;

/// Any origin, in a list of them.
pub const ANY_ORIGIN: &str = "*";

/// A value, or the problem with it.
pub type Parsed<T> = Result<T, String>;

/// A parser for a time in milliseconds.
pub fn millis(range: RangeInclusive<u64>) -> impl Fn(&str) -> Parsed<Duration> + Clone {
    move |text| number(text, &range, "milliseconds").map(Duration::from_millis)
}

/// A parser for a number of things.
pub fn count(range: RangeInclusive<usize>) -> impl Fn(&str) -> Parsed<usize> + Clone {
    move |text| number(text, &range, "")
}

/// A parser for a number of threads; `cores` is one for each core of the processor.
pub fn workers(most: usize) -> impl Fn(&str) -> Parsed<usize> + Clone {
    move |text| {
        if text.trim() == "cores" {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
            return Ok(cores.min(most));
        }
        number(text, &(1..=most), "")
            .map_err(|_| format!("{} is neither a number from 1 to {most} nor cores", quote(text)))
    }
}

/// A parser for a size in bytes.
pub fn bytes(range: RangeInclusive<usize>) -> impl Fn(&str) -> Parsed<usize> + Clone {
    move |text| number(text, &range, "bytes")
}

/// Digits alone, in a range; `unit` is named in the problem, and may be empty.
///
/// # Errors
/// The text is no number, or outside the range.
pub fn number<N>(text: &str, range: &RangeInclusive<N>, unit: &str) -> Parsed<N>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let of_unit = if unit.is_empty() { String::new() } else { format!(" of {unit}") };
        return Err(format!("{} is not a number{of_unit}", quote(text)));
    }
    match digits.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        // Only digits, so what fails to parse is too large.
        _ => {
            let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
            Err(format!("{} is not between {} and {}{unit}", quote(text), range.start(), range.end()))
        }
    }
}

/// A port; 0 is any free one.
pub fn port(text: &str) -> Parsed<u16> {
    number(text, &(0..=u16::MAX), "").map_err(|_| format!("{} is not a port from 0 to 65535", quote(text)))
}

/// A port, or `off`.
pub fn port_or_off(text: &str) -> Parsed<OrOff<u16>> {
    if is_off(text) {
        return Ok(None);
    }
    port(text).map(Some).map_err(|problem| format!("{problem}, or off"))
}

/// On or off, in the usual words.
pub fn switch(text: &str) -> Parsed<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("{} is not true or false", quote(text))),
    }
}

/// An IP address (an IPv6 one may stand in brackets) or a host name, which is resolved when the listener opens.
pub fn host(text: &str) -> Parsed<String> {
    let trimmed = text.trim();
    let host = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(trimmed);
    if host.parse::<IpAddr>().is_ok() || is_host_name(host) {
        return Ok(host.to_owned());
    }
    Err(format!("{} is neither an IP address nor a host name", quote(text)))
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // All digits and dots is an address with a slip in it, never a name.
    let looks_like_address = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    name.len() <= 253 && !looks_like_address && name.split('.').all(is_label)
}

/// The cluster checks it further when it starts; here so much that a slip is found before anything runs.
pub fn redis_url(text: &str) -> Parsed<String> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let schemes = ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];
    if schemes.contains(&scheme) && !rest.is_empty() {
        return Ok(text.to_owned());
    }
    // It is not shown: it may hold a password.
    Err("the value does not begin with redis://, redis+sentinel:// or redis+cluster:// (rediss for TLS)"
        .to_owned())
}

/// Braces would decide where Redis Cluster keeps a key, and a long prefix stands in every message.
pub fn redis_prefix(text: &str) -> Parsed<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:/".contains(&b);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_plain) {
        return Err(format!("{} is not a prefix: 1 to 64 of A-Z a-z 0-9 . _ - : /", quote(text)));
    }
    Ok(text.to_owned())
}

/// `scheme://host[:port]` as browsers send it, `scheme://*.domain[:port]` for all domains below one, or `null`; `*` is any but that.
///
/// # Errors
/// The text is none of these.
pub fn origin(text: &str) -> Parsed<String> {
    let trimmed = text.trim();
    if trimmed == "null" || trimmed == ANY_ORIGIN {
        return Ok(trimmed.to_owned());
    }
    let origin = trimmed.strip_suffix('/').unwrap_or(trimmed).to_ascii_lowercase();
    let is_authority = |authority: &str| match authority.strip_prefix("*.") {
        Some(domain) => is_domain(domain),
        None => {
            !authority.is_empty()
                && authority.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
        }
    };
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    match origin.split_once("://") {
        Some((scheme, authority))
            if !scheme.is_empty() && scheme.chars().all(is_scheme) && is_authority(authority) =>
        {
            Ok(without_default_port(scheme, &origin).to_owned())
        }
        _ => Err(format!("{} is not an origin (scheme://host or scheme://host:port)", quote(text))),
    }
}

/// Whether there can be domains below this one, which may have a port.
fn is_domain(domain: &str) -> bool {
    let (name, port) = domain.split_once(':').map_or((domain, None), |(name, port)| (name, Some(port)));
    is_host_name(name) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Leaves out what others in a list of origins say already: with `*` only `null` says more, and both together are as no list.
pub fn merge_origins(origins: &mut Vec<String>) {
    if origins.iter().any(|origin| origin == ANY_ORIGIN) {
        match origins.iter().any(|origin| origin == "null") {
            true => origins.clear(),
            false => *origins = vec![ANY_ORIGIN.to_owned()],
        }
    }
}

/// Browsers leave the scheme's own port out of `Origin`, so an entry that names it would never match.
fn without_default_port<'a>(scheme: &str, origin: &'a str) -> &'a str {
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return origin,
    };
    origin.strip_suffix(default_port).unwrap_or(origin)
}

/// An address range, as in `10.0.0.0/8`; an address alone is the range of itself. `ipnet` reads the range, but has one message for
/// every mistake, and accepts bits beyond the prefix, where one of the two is a slip.
pub fn cidr(text: &str) -> Parsed<IpNet> {
    let (address, prefix) = match text.trim().split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text.trim(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!("{} is not an address range (address/prefix)", quote(text)));
    };
    let Some(prefix) = prefix else { return Ok(address.to_canonical().into()) };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let range = prefix.parse().ok().and_then(|prefix| IpNet::new(address, prefix).ok());
    let Some(range) = range else {
        return Err(format!("{} has a prefix that is not between 0 and {bits}", quote(text)));
    };
    if range.trunc() != range {
        let range = range.trunc();
        return Err(format!("{} has address bits set beyond its prefix; the range is {range}", quote(text)));
    }
    Ok(range)
}

/// A name of a node: 1 to 64 of `A-Z a-z 0-9 . _ -`.
pub fn node_id(text: &str) -> Parsed<String> {
    let is_id_character = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_id_character) {
        return Err(format!("{} is not a node id: 1 to 64 of A-Z a-z 0-9 . _ -", quote(text)));
    }
    Ok(text.to_owned())
}

/// Any text but none.
///
/// # Errors
/// The text is empty.
pub fn text(text: &str) -> Parsed<String> {
    if text.trim().is_empty() {
        return Err("the value is empty".to_owned());
    }
    Ok(text.to_owned())
}

/// The name of a file, which need not exist.
pub fn file_name(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// A level, or a list of `target=level`.
pub fn log_filter(text: &str) -> Parsed<String> {
    let filter = text.trim();
    // A lone word is taken for a target where it is no level, and a mistyped level would log nothing of all the others.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let is_plain = |part: &str| part.contains('=') || is_level(part.trim());
    if !filter.split(',').all(is_plain) || EnvFilter::builder().parse(filter).is_err() {
        return Err(format!("{} is not a log filter", quote(text)));
    }
    Ok(filter.to_owned())
}

/// Whether the text is the word `off`.
pub fn is_off(text: &str) -> bool {
    text.trim() == "off"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for (text, expected) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://App.Example.com/", "https://app.example.com"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("https://*.Example.com:443", "https://*.example.com"),
            ("http://*.localhost:3000", "http://*.localhost:3000"),
            ("null", "null"),
            ("*", "*"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(expected), "{text:?}");
        }
        for text in [
            "",
            "app.example.com",
            "https://",
            "https://a/b",
            "://a",
            "https://a b",
            "https://*",
            "https://*.",
            "https://a.*.example.com",
            "https://**.example.com",
            "https://*example.com",
            "https://*.10.0.0.1",
            "https://*.[::1]",
            "https://*.example.com:port",
            "*.example.com",
        ] {
            assert!(origin(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        for (text, expected) in [
            ("0.0.0.0", "0.0.0.0"),
            ("::", "::"),
            ("[::1]", "::1"),
            ("localhost", "localhost"),
            ("node-1.example", "node-1.example"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text:?}");
        }
        for text in ["", "1.2.3", "256.1.1.1", "a b", "http://x", "a..b", "x:80"] {
            assert!(host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ranges_are_cidr_or_one_address() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            (" ::/0 ", "::/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::1", "::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ] {
            assert_eq!(cidr(text).unwrap().to_string(), expected, "{text:?}");
        }
        for (text, problem) in [
            ("10.0.0/8", "is not an address range (address/prefix)"),
            ("", "is not an address range (address/prefix)"),
            ("10.0.0.0/33", "has a prefix that is not between 0 and 32"),
            ("10.0.0.0/", "has a prefix that is not between 0 and 32"),
            ("::/129", "has a prefix that is not between 0 and 128"),
            ("10.0.0.1/8", "has address bits set beyond its prefix; the range is 10.0.0.0/8"),
        ] {
            assert_eq!(cidr(text).unwrap_err(), format!("{text:?} {problem}"));
        }
    }

    #[test]
    fn numbers_are_digits_in_their_range() {
        assert_eq!(millis(1..=DAY)("25000"), Ok(Duration::from_secs(25)));
        assert_eq!(millis(1..=DAY)("2.5"), Err("\"2.5\" is not a number of milliseconds".to_owned()));
        assert_eq!(
            bytes(1..=GIB)("99999999999999999999"),
            Err("\"99999999999999999999\" is not between 1 and 1073741824 bytes".to_owned())
        );
        assert_eq!(port("65535"), Ok(65535));
        assert_eq!(port("65536"), Err("\"65536\" is not a port from 0 to 65535".to_owned()));
    }

    #[test]
    fn log_filters_are_checked() {
        for text in ["info", "warn,signalbox_node=debug", "off"] {
            assert!(log_filter(text).is_ok(), "{text:?}");
        }
        for text in ["", "info=loud", "a=b=c", "inof", "info,,", "warn,signalbox_node"] {
            assert!(log_filter(text).is_err(), "{text:?}");
        }
    }
}
