//! URIs of STUN and TURN servers (RFC 7064, 7065).

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Serialize, Serializer};

/// The port of DNS. Browsers do not connect to it.
const BLOCKED_PORT: u16 = 53;

/// What is wrong with a URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// The scheme.
    #[error("{0:?} does not begin with turn:, turns:, stun: or stuns:")]
    Scheme(String),
    /// The host.
    #[error("{0:?} has no host, or one that is neither a name nor an address")]
    Host(String),
    /// The port.
    #[error("{0:?} has a port that is not between 1 and 65535")]
    Port(String),
    /// Port 53.
    #[error("{0:?} has port 53, which browsers do not connect to (use 3478, or 443 with turns:)")]
    BlockedPort(String),
    /// What follows the question mark.
    #[error("{0:?} has something else after the question mark than transport=udp or transport=tcp")]
    Transport(String),
    /// TURN over DTLS.
    #[error("{0:?} is TURN over DTLS, which browsers do not speak (use turns: with transport=tcp)")]
    Dtls(String),
}

/// The scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// STUN over UDP.
    Stun,
    /// STUN over TLS.
    Stuns,
    /// TURN over UDP or TCP.
    Turn,
    /// TURN over TLS.
    Turns,
}

/// How a client reaches a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelayTransport {
    /// The fastest.
    Udp,
    /// Where UDP is blocked.
    Tcp,
    /// Where only HTTPS is let through.
    Tls,
}

impl RelayTransport {
    /// All of them, in the order in which a client should try them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// As parameters and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// A URI of a STUN or TURN server, such as `turn:turn.example.com:3478?transport=udp`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TurnUri {
    scheme: Scheme,
    host: Box<str>,
    port: Option<u16>,
    /// Written down in the URI.
    transport: Option<RelayTransport>,
}

impl TurnUri {
    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, which is the scheme's own where the URI has none.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Stun | Scheme::Turn => 3478,
            Scheme::Stuns | Scheme::Turns => 5349,
        })
    }

    /// How a relay is reached at it; `None` for one that only answers STUN.
    pub fn relay(&self) -> Option<RelayTransport> {
        match self.scheme {
            Scheme::Stun | Scheme::Stuns => None,
            Scheme::Turn => Some(self.transport.unwrap_or(RelayTransport::Udp)),
            Scheme::Turns => Some(RelayTransport::Tls),
        }
    }
}

impl FromStr for TurnUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        let given = || text.chars().take(80).collect::<String>();
        let (scheme, rest) = text.split_once(':').ok_or_else(|| UriError::Scheme(given()))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "stun" => Scheme::Stun,
            "stuns" => Scheme::Stuns,
            "turn" => Scheme::Turn,
            "turns" => Scheme::Turns,
            _ => return Err(UriError::Scheme(given())),
        };
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let transport = match (scheme, query) {
            (_, None) => None,
            (Scheme::Turn, Some("transport=udp")) => Some(RelayTransport::Udp),
            (Scheme::Turn | Scheme::Turns, Some("transport=tcp")) => Some(RelayTransport::Tcp),
            (Scheme::Turns, Some("transport=udp")) => return Err(UriError::Dtls(given())),
            _ => return Err(UriError::Transport(given())),
        };
        let (host, port) = split_port(authority);
        let port = match port {
            None => None,
            Some(port) => match port.parse() {
                Ok(BLOCKED_PORT) => return Err(UriError::BlockedPort(given())),
                Ok(port) if port > 0 && !port_has_sign(authority) => Some(port),
                _ => return Err(UriError::Port(given())),
            },
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let is_host = match bare.contains(':') {
            true => bare.parse::<Ipv6Addr>().is_ok(),
            false => !bare.is_empty() && bare.len() <= 253 && bare.split('.').all(is_label),
        };
        if !is_host {
            return Err(UriError::Host(given()));
        }
        Ok(Self { scheme, host: bare.to_ascii_lowercase().into(), port, transport })
    }
}

/// Splits a port off, which an IPv6 address without brackets has none of.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let is_bare_v6 = authority.matches(':').count() > 1 && !authority.starts_with('[');
    match authority.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 && !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// `parse` takes a plus in front of a number.
fn port_has_sign(authority: &str) -> bool {
    authority.contains('+')
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl fmt::Display for TurnUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Stun => "stun:",
            Scheme::Stuns => "stuns:",
            Scheme::Turn => "turn:",
            Scheme::Turns => "turns:",
        })?;
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match self.transport {
            Some(RelayTransport::Udp) => f.write_str("?transport=udp"),
            Some(_) => f.write_str("?transport=tcp"),
            None => Ok(()),
        }
    }
}

impl Serialize for TurnUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uris_are_read_and_written() {
        for (text, written, relay, port) in [
            ("turn:a.example", "turn:a.example", Some("udp"), 3478),
            ("turn:A.example:80?transport=tcp", "turn:a.example:80?transport=tcp", Some("tcp"), 80),
            ("turns:a.example?transport=tcp", "turns:a.example?transport=tcp", Some("tls"), 5349),
            ("turns:a.example:443", "turns:a.example:443", Some("tls"), 443),
            (
                "turn:[2001:db8::1]:3478?transport=udp",
                "turn:[2001:db8::1]:3478?transport=udp",
                Some("udp"),
                3478,
            ),
            ("turn:2001:db8::1", "turn:[2001:db8::1]", Some("udp"), 3478),
            ("turn:[::1]", "turn:[::1]", Some("udp"), 3478),
            ("stun:192.0.2.1:19302", "stun:192.0.2.1:19302", None, 19302),
        ] {
            let uri: TurnUri = text.parse().unwrap();
            assert_eq!(uri.to_string(), written);
            assert_eq!(uri.relay().map(RelayTransport::name), relay, "{text}");
            assert_eq!(uri.port(), port, "{text}");
        }
    }

    #[test]
    fn what_no_browser_takes_is_refused() {
        for text in [
            "turn:a.example:53",
            "turn:a.example:53?transport=tcp",
            "turns:a.example?transport=udp",
            "turn:a.example:0",
            "turn:a.example:+5",
            "turn:a.example:65536",
            "turn:",
            "turn:a b",
            "turn:a..b",
            "turn:[::1",
            "turn:user@a.example",
            "turn://a.example",
            "turn:a.example?transport=sctp",
            "stun:a.example?transport=tcp",
            "http://a.example",
            "a.example:3478",
        ] {
            assert!(text.parse::<TurnUri>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_written_reads_the_same(text in "(turn|turns|stun):[a-z0-9.:\\[\\]?=+]{0,30}") {
            if let Ok(uri) = text.parse::<TurnUri>() {
                prop_assert_eq!(uri.to_string().parse::<TurnUri>(), Ok(uri));
            }
        }
    }
}
