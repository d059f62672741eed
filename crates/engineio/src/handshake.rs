//! The query of an HTTP request, the checks it must pass, and the errors of those it does not pass.
//!
//! Source: Engine.IO protocol, revision 4, and the order of the checks in `engine.io` 6.6.

use std::{borrow::Cow, time::Duration};

use serde::Serialize;

/// The transport of a session's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

impl Transport {
    /// The name in the `transport` query parameter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }

    /// The transport of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "polling" => Some(Self::Polling),
            "websocket" => Some(Self::WebSocket),
            _ => None,
        }
    }
}

/// An error that is answered before or instead of a session; `code` and message are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No `transport`, one that does not exist, or one that is not enabled.
    #[error("Transport unknown")]
    UnknownTransport,
    /// The `sid` belongs to no living session.
    #[error("Session ID unknown")]
    UnknownSid,
    /// A handshake with a method other than GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// WebSocket without an upgrade, a transport the session does not use, an `Origin` no header may hold.
    #[error("Bad request")]
    BadRequest,
    /// The policy refused the handshake.
    #[error("Forbidden")]
    Forbidden,
    /// An `EIO` that is not served.
    #[error("Unsupported protocol version")]
    UnsupportedProtocolVersion,
}

impl RequestError {
    /// The protocol's error code.
    pub fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSid => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedProtocolVersion => 5,
        }
    }

    /// The HTTP status of a polling reply: 403 for a refusal by policy, else 400.
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            _ => 400,
        }
    }

    /// The JSON body of a polling reply: `{"code":N,"message":"..."}`.
    pub fn body(self) -> String {
        #[derive(Serialize)]
        struct Body {
            code: u8,
            message: String,
        }
        let body = Body { code: self.code(), message: self.to_string() };
        // A struct of strings and numbers always serializes.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// The parameters of a request's query that Engine.IO reads, decoded. The last of a repeated parameter wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query<'a> {
    /// `EIO`, the protocol revision.
    pub eio: Option<Cow<'a, str>>,
    /// `transport`.
    pub transport: Option<Cow<'a, str>>,
    /// `sid`, absent (or empty) at the handshake.
    pub sid: Option<Cow<'a, str>>,
    /// Whether there is a `b64` with any value: binary is to be sent to a WebSocket as base64 text.
    pub b64: bool,
}

impl<'a> Query<'a> {
    /// Reads a raw query string, without its question mark.
    pub fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "EIO" => parsed.eio = Some(value),
                "transport" => parsed.transport = Some(value),
                "b64" => parsed.b64 = !value.is_empty(),
                "sid" => parsed.sid = (!value.is_empty()).then_some(value),
                _ => {}
            }
        }
        parsed
    }
}

/// A valid request: for a new session, or for one that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind<'a> {
    /// A new session on this transport.
    Open(Transport),
    /// A GET, POST or upgrade of the session with this id. Whether the session exists is not checked here.
    Continue {
        /// The session id as the client wrote it.
        sid: &'a str,
        /// The transport the request uses.
        transport: Transport,
        /// Whether the request names protocol revision 4, as it must if the session exists.
        revision_matches: bool,
    },
}

/// Checks a request in the reference's order: transport, `Origin`, `sid` (by the caller, for [`RequestKind::Continue`]), method,
/// upgrade, and the protocol revision last.
///
/// `enabled` lists the transports served; `is_get` and `is_upgrade` say whether the request is a GET and whether it is a WebSocket
/// upgrade; `origin_is_valid` says whether the `Origin` header, if there is one, holds only characters that a header may hold.
///
/// # Errors
/// The first check that fails; the caller answers with [`RequestError::status`] and [`RequestError::body`].
pub fn check_request<'a>(
    query: &'a Query<'_>,
    enabled: &[Transport],
    is_get: bool,
    is_upgrade: bool,
    origin_is_valid: bool,
) -> Result<RequestKind<'a>, RequestError> {
    let transport = query
        .transport
        .as_deref()
        .and_then(Transport::of_name)
        .filter(|transport| enabled.contains(transport))
        .ok_or(RequestError::UnknownTransport)?;
    if !origin_is_valid {
        return Err(RequestError::BadRequest);
    }
    let revision_matches = query.eio.as_deref() == Some("4");
    if let Some(sid) = query.sid.as_deref() {
        return Ok(RequestKind::Continue { sid, transport, revision_matches });
    }
    if !is_get {
        return Err(RequestError::BadHandshakeMethod);
    }
    if (transport == Transport::WebSocket) != is_upgrade {
        return Err(RequestError::BadRequest);
    }
    if !revision_matches {
        return Err(RequestError::UnsupportedProtocolVersion);
    }
    Ok(RequestKind::Open(transport))
}

/// The payload of the open packet: exactly these five keys, in this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Open<'a> {
    sid: &'a str,
    upgrades: &'a [&'a str],
    ping_interval: u128,
    ping_timeout: u128,
    max_payload: usize,
}

/// The open packet, `0{"sid":...,"upgrades":[...],"pingInterval":...,"pingTimeout":...,"maxPayload":...}`: durations in
/// milliseconds, `max_payload` in bytes. `can_upgrade` offers the upgrade to WebSocket.
pub fn open_packet(
    sid: &str,
    can_upgrade: bool,
    ping_interval: Duration,
    ping_timeout: Duration,
    max_payload: usize,
) -> String {
    let open = Open {
        sid,
        upgrades: if can_upgrade { &["websocket"] } else { &[] },
        ping_interval: ping_interval.as_millis(),
        ping_timeout: ping_timeout.as_millis(),
        max_payload,
    };
    // A struct of strings and numbers always serializes.
    format!("0{}", serde_json::to_string(&open).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[Transport] = &[Transport::Polling, Transport::WebSocket];

    #[test]
    fn checks_come_in_the_order_of_the_reference() {
        use RequestError::*;
        let cases = [
            ("", true, false, Err(UnknownTransport)),
            ("EIO=4&transport=tcp", true, false, Err(UnknownTransport)),
            ("transport=webtransport&EIO=4", true, false, Err(UnknownTransport)),
            ("EIO=3&transport=polling", false, false, Err(BadHandshakeMethod)),
            ("EIO=4&transport=websocket", true, false, Err(BadRequest)),
            ("EIO=3&transport=polling", true, false, Err(UnsupportedProtocolVersion)),
            ("transport=polling", true, false, Err(UnsupportedProtocolVersion)),
            ("EIO=4&transport=polling", true, false, Ok(RequestKind::Open(Transport::Polling))),
            ("EIO=4&transport=polling&sid=", true, false, Ok(RequestKind::Open(Transport::Polling))),
            ("&E%49O=4&transport=poll%69ng", true, false, Ok(RequestKind::Open(Transport::Polling))),
            ("EIO=4&transport=poll%zzing", true, false, Err(UnknownTransport)),
            ("EIO=4&transport=websocket", true, true, Ok(RequestKind::Open(Transport::WebSocket))),
        ];
        for (query, is_get, is_upgrade, expected) in cases {
            let parsed = Query::parse(query);
            assert_eq!(check_request(&parsed, BOTH, is_get, is_upgrade, true), expected, "{query}");
        }
    }

    #[test]
    fn a_transport_that_is_not_enabled_is_unknown() {
        let query = Query::parse("EIO=4&transport=polling");
        assert_eq!(
            check_request(&query, &[Transport::WebSocket], true, false, true),
            Err(RequestError::UnknownTransport)
        );
    }

    #[test]
    fn error_bodies_are_exact() {
        assert_eq!(RequestError::UnknownSid.body(), r#"{"code":1,"message":"Session ID unknown"}"#);
        assert_eq!(RequestError::Forbidden.status(), 403);
    }

    #[test]
    fn the_open_packet_has_five_keys() {
        let packet = open_packet("abc", true, Duration::from_secs(25), Duration::from_secs(20), 1_000_000);
        assert_eq!(
            packet,
            r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }
}
