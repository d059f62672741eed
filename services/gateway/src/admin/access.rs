//! Who may use the admin API.
//!
//! - The holder of a token whose hash is configured, or of a JSON Web Token that grants it: for its scopes.
//! - Where neither is configured: whoever reaches the listener, if that is on loopback. No web page does: a browser says in `Origin` which
//!   page asks, and in `Host` under which name it found this machine.
//! - Where neither is configured and the listener is not on loopback: nobody.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use actix_web::{
    Error, HttpMessage as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName},
    middleware::Next,
    web::Data,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use signalbox_auth::{Action, Identity, Principal};
use signalbox_node::policy::TokenPolicy;

use super::{problem::Refused, state::AdminState};
use crate::config::admin::{self, AdminToken, PREFIX, Scope};

/// The protocol that a WebSocket is an upgrade to.
pub(super) const WEBSOCKET: &str = "websocket";
/// The subprotocol of WebSockets that tell what happens.
pub(super) const EVENTS_PROTOCOL: &str = "signalbox.events";

/// Who uses the API.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Whoever is on this machine.
    Loopback,
    /// The holder of a token that is configured.
    Token(AdminToken),
    /// The holder of a JSON Web Token.
    Known(Arc<Principal>),
}

impl Caller {
    /// For the log.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Loopback => "loopback".to_owned(),
            Self::Token(token) => format!("token {}", token.name),
            Self::Known(principal) => format!("subject {}", principal.subject),
        }
    }

    /// What they may.
    pub(super) fn scopes(&self) -> Vec<String> {
        let has = |scope: &Scope| self.check(*scope).is_ok();
        Scope::ALL.into_iter().filter(has).map(|scope| scope.name().to_owned()).collect()
    }

    /// Whether they have this scope.
    pub(super) fn check(&self, scope: Scope) -> Result<(), Refused> {
        let may = match self {
            Self::Loopback => true,
            Self::Token(token) => token.scopes.contains(&scope),
            Self::Known(principal) => principal.grants.allows(&Action::Admin { scope: scope.name() }),
        };
        let detail = || format!("this needs the scope {}, which the token does not have", scope.name());
        if may { Ok(()) } else { Err(Refused::forbidden("admin-forbidden", detail())) }
    }
}

/// What the listener asks for.
#[derive(Debug)]
pub(super) struct Access {
    tokens: Vec<AdminToken>,
    policy: Option<TokenPolicy>,
    is_loopback: bool,
}

impl Access {
    /// For a listener at this address. `policy` judges JSON Web Tokens, where they are asked for.
    pub(super) fn new(tokens: Vec<AdminToken>, policy: Option<TokenPolicy>, listener: SocketAddr) -> Self {
        Self { tokens, policy, is_loopback: listener.ip().to_canonical().is_loopback() }
    }

    /// Who judges the tokens of clients; `None` where they need none.
    pub(super) fn tokens_of_clients(&self) -> Option<&TokenPolicy> {
        self.policy.as_ref()
    }

    /// Finds out who sends a request.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        let of_browser = token_of_protocols(headers);
        let bearer = text(headers, header::AUTHORIZATION).and_then(bearer).or(of_browser.as_deref());
        if self.tokens.is_empty() && self.policy.is_none() {
            return match self.is_loopback {
                true => check_page(headers).map(|()| Caller::Loopback),
                false => Err(Refused::unauthorized(
                    "admin-closed",
                    "the admin API is closed: its listener is not on loopback, and no token is configured (--admin-token-hash)",
                )),
            };
        }
        let Some(shown) = bearer else {
            return Err(Refused::unauthorized(
                "token-missing",
                "a token is required (Authorization: Bearer ...)",
            ));
        };
        if let Some(token) = admin::find(&self.tokens, shown) {
            return Ok(Caller::Token(token.clone()));
        }
        let Some(policy) = self.policy.as_ref().filter(|_| !shown.starts_with(PREFIX)) else {
            return Err(Refused::unauthorized("token-unknown", "the token is not known"));
        };
        match policy.identify(Some(shown)) {
            Ok(Identity::Known(principal)) => Ok(Caller::Known(principal)),
            // With --auth optional, what is no token at all is an anonymous client.
            Ok(Identity::Anonymous(_)) => {
                Err(Refused::unauthorized("token-unknown", "the token is not known"))
            }
            Err(refusal) => Err(Refused::unauthorized(refusal.code(), refusal.to_string())),
        }
    }
}

/// The scope that a request needs, once its route is known.
type NeededScope = Rc<Cell<Option<Scope>>>;

/// Middleware: counts requests, and how long they take.
pub(super) async fn measure<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let (began, scope) = (Instant::now(), NeededScope::default());
    let metrics = request.app_data::<Data<AdminState>>().map(|state| state.node.metrics().clone());
    request.extensions_mut().insert(scope.clone());
    let result = next.call(request).await;
    let status = match &result {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let outcome = match status.as_u16() {
        500.. => "failed",
        400.. => "refused",
        _ => "done",
    };
    if let Some(metrics) = metrics {
        // Only what needs no scope is not there.
        let labels = scope.get().map_or(["none", "refused"], |scope| [scope.name(), outcome]);
        metrics.admin_requests.with_label_values(&labels).inc();
        metrics.admin_seconds.observe(began.elapsed().as_secs_f64());
    }
    result
}

/// Middleware: only who is known gets further, and only so many at once.
pub(super) async fn authenticate<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let Some(state) = request.app_data::<Data<AdminState>>().cloned() else {
        return Err(Refused::busy("the admin API is not there").into());
    };
    let caller = state.access.identify(request.headers()).inspect_err(|refused| {
        let from = request.peer_addr().map(|address| address.ip().to_string());
        tracing::debug!(target: "signalbox_gateway::admin", code = refused.code(), from, path = request.path(), "refused");
    })?;
    let Ok(_turn) = state.requests.try_acquire() else {
        return Err(Refused::busy("too many requests are being answered (try again)").into());
    };
    request.extensions_mut().insert(caller);
    next.call(request).await
}

/// Middleware of a route: only who has this scope gets further. The body has not been looked at by then.
pub(super) async fn check_scope<B: MessageBody>(
    scope: Scope,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if let Some(needed) = request.extensions().get::<NeededScope>() {
        needed.set(Some(scope));
    }
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.ok_or_else(|| Refused::unauthorized("token-missing", "a token is required"))?;
    caller.check(scope).inspect_err(|_| {
        let (who, path) = (caller.name(), request.path());
        tracing::info!(target: "signalbox_gateway::admin", who, scope = scope.name(), path, "the scope is missing");
    })?;
    next.call(request).await
}

/// What proxies add to requests.
const PROXIES_ADD: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];

/// Whether a request may come from a program of this machine, and from no web page.
fn check_page(headers: &HeaderMap) -> Result<(), Refused> {
    let host = text(headers, header::HOST).unwrap_or_default();
    if !is_this_machine(host) {
        return Err(Refused::forbidden(
            "host-forbidden",
            "without a token, the host must be localhost, 127.0.0.1 or [::1] (--admin-token-hash lets others in)",
        ));
    }
    // Behind a proxy of this machine everybody comes from loopback.
    if PROXIES_ADD.iter().any(|name| headers.contains_key(*name)) {
        return Err(Refused::forbidden(
            "proxy-forbidden",
            "a proxy has sent this: behind one, the admin API asks for a token (--admin-token-hash)",
        ));
    }
    let origin = text(headers, header::ORIGIN);
    let is_own = origin.is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    let site = text(headers, HeaderName::from_static("sec-fetch-site"));
    if headers.contains_key(header::ORIGIN) && origin.is_none()
        || !is_own
        || site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
    {
        return Err(Refused::forbidden(
            "origin-forbidden",
            "pages of other origins may not use the admin API",
        ));
    }
    Ok(())
}

/// Whether a `Host` names this machine: no name that somebody else could have given it.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The subprotocols that the client of a WebSocket offers.
pub(super) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|offer| offer.to_str().ok());
    offers.flat_map(|offer| offer.split(',')).map(str::trim)
}

/// The token that a browser shows with a WebSocket, for which it sends no header of the page's choice but this one. A page of another origin
/// could send it too, but would have to know the token.
fn token_of_protocols(headers: &HeaderMap) -> Option<String> {
    let is_websocket = text(headers, header::UPGRADE)?.eq_ignore_ascii_case(WEBSOCKET);
    let shown =
        protocols(headers).find_map(|protocol| protocol.strip_prefix("bearer.")).filter(|_| is_websocket)?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(shown).ok()?).ok()
}

/// The text after `Bearer`, in any case.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_host_is_this_machine_only_by_a_name_that_nobody_else_gives_it() {
        for host in ["localhost", "LOCALHOST:9001", "127.0.0.1:9001", "127.3.2.1", "[::1]:9001", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in
            ["", "example.com", "localhost.example.com:9001", "10.0.0.1:9001", "127.0.0.1.nip.io", "::"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_told_from_programs() {
        let local = ("host", "localhost:9001");
        for good in [
            vec![local],
            vec![local, ("origin", "http://localhost:9001"), ("sec-fetch-site", "same-origin")],
            vec![local, ("sec-fetch-site", "none")],
        ] {
            assert!(check_page(&headers(&good)).is_ok(), "{good:?}");
        }
        for bad in [
            vec![],
            vec![("host", "rebound.example:9001")],
            vec![local, ("origin", "http://localhost:8080")],
            vec![local, ("origin", "https://localhost:9001")],
            vec![local, ("origin", "null")],
            vec![local, ("sec-fetch-site", "cross-site")],
            vec![local, ("sec-fetch-site", "same-site")],
        ] {
            assert!(check_page(&headers(&bad)).is_err(), "{bad:?}");
        }
    }
}
