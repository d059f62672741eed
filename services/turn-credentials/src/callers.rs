//! Who asks: the holder of a token, a server with an API key, or somebody of whom only the address is known.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use actix_web::{HttpRequest, http::header};
use ipnet::IpNet;
use signalbox_auth::{Action, Identity, Principal, Refusal};

use crate::{
    api_keys::{self, ApiKey, PREFIX, Scope},
    problem::Problem,
    tokens::Tokens,
};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller<'a> {
    /// A server.
    Key(&'a ApiKey),
    /// The holder of a token.
    Token(Arc<Principal>),
    /// Anybody, where that is allowed.
    Anonymous,
}

impl Caller<'_> {
    /// As metrics call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Token(_) => "token",
            Self::Anonymous => "anonymous",
        }
    }

    /// Whether the caller may look after the service.
    ///
    /// # Errors
    /// 401 for nobody in particular, 403 for others.
    pub fn check_admin(&self, scope: Scope) -> Result<(), Problem> {
        let is_allowed = match self {
            Self::Anonymous => return Err(Problem::unauthorized("token-missing", "an API key is required")),
            Self::Key(key) => key.may(scope),
            Self::Token(principal) => {
                let name = format!("turn:{}", scope.name());
                principal.grants.allows(&Action::Admin { scope: &name })
            }
        };
        match is_allowed {
            true => Ok(()),
            false => Err(Problem::forbidden("admin-forbidden", "this is not granted")),
        }
    }
}

/// What a request shows of its sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// The parameter `key`.
    pub key: Option<&'a str>,
    /// The parameter `token`.
    pub token: Option<&'a str>,
}

/// Finds out who asks. What the holder of a token may do is for others to check.
///
/// # Errors
/// 401 where it must be known and is not, or where what is shown is no good.
pub fn identify<'a>(
    request: &HttpRequest,
    shown: Shown<'_>,
    keys: &'a [ApiKey],
    tokens: &Tokens,
) -> Result<Caller<'a>, Problem> {
    let text = |name| request.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(bearer);
    let key = text(header::HeaderName::from_static("x-api-key"))
        .or(shown.key)
        .or_else(|| bearer.filter(|text| text.starts_with(PREFIX)));
    if let Some(key) = key {
        return match api_keys::find(keys, key) {
            Some(key) => Ok(Caller::Key(key)),
            None => Err(Problem::unauthorized("key-unknown", "the API key is not known")),
        };
    }
    match tokens.judge(bearer.or(shown.token)) {
        Ok(Identity::Known(principal)) => Ok(Caller::Token(principal)),
        Ok(Identity::Anonymous(grants)) if grants.allows(&Action::Turn) => Ok(Caller::Anonymous),
        Ok(Identity::Anonymous(_)) => {
            Err(Problem::forbidden("turn-forbidden", "a token is required for TURN credentials"))
        }
        Err(refusal) => Err(of_refusal(&refusal)),
    }
}

fn of_refusal(refusal: &Refusal) -> Problem {
    Problem::unauthorized(refusal.code(), refusal.to_string())
}

/// The text after `Bearer`, in any case.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim()).filter(|text| !text.is_empty())
}

/// The client's address: the last one in the chain of `X-Forwarded-For` and the peer that is not a trusted proxy's.
pub fn address(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut address = request.peer_addr()?.ip().to_canonical();
    if trusted.is_empty() {
        return Some(address);
    }
    let lines: Vec<&str> =
        request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
    let hops =
        lines.iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim).filter(|hop| !hop.is_empty());
    for hop in hops {
        if !is_trusted(&address) {
            break;
        }
        let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
        let parsed = bare.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
        let Some(hop) = parsed else { break };
        address = hop.to_canonical();
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let of = |peer: &str, forwarded: &str, trusted: &[IpNet]| {
            let request = TestRequest::default()
                .peer_addr(format!("{peer}:1").parse().unwrap())
                .insert_header(("x-forwarded-for", forwarded))
                .to_http_request();
            address(&request, trusted).unwrap().to_string()
        };
        assert_eq!(of("9.9.9.9", "1.2.3.4", &proxies), "9.9.9.9");
        assert_eq!(of("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", &proxies), "1.2.3.4");
        assert_eq!(of("10.0.0.1", "1.2.3.4", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", "nonsense", &proxies), "10.0.0.1");
        assert_eq!(of("10.0.0.1", "9.9.9.9, [2001:db8::7]:443", &proxies), "2001:db8::7");
    }

    #[test]
    fn a_bearer_is_read_in_any_case() {
        assert_eq!(bearer("bEaRer  a.b.c"), Some("a.b.c"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer "), None);
    }
}
