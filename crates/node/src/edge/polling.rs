//! Engine.IO over HTTP: handshake, GET and POST. A request may land on any shard; it is handed to the one that owns the session.

use std::{future::Future, io::Write};

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::Cookie,
    http::{Method, StatusCode, header},
    web,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use signalbox_cluster::Address;
use signalbox_engineio::{
    RequestError, Transport,
    handshake::{Query, RequestKind, check_request},
};
use tokio::sync::oneshot::error::RecvError;

use super::{body, client, counted_body::CountedBody, http1::Exchange};
use crate::{
    limits::TurnedAway,
    policy::{AccessRequest, Decided},
    protocol::RequestRefused,
    routing::{Location, Reply},
    shard::{
        mailbox::{Request, ShardMessage},
        runtime::Busy,
    },
    shared::NodeShared,
};

/// Smaller replies are not worth compressing.
const COMPRESS_FROM: usize = 1024;

/// Answers a request below the Socket.IO path that is no upgrade.
pub(crate) async fn handle(node: &NodeShared, request: &HttpRequest, payload: web::Payload) -> HttpResponse {
    let query = Query::parse(request.query_string());
    let is_get = *request.method() == Method::GET;
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.as_bytes());
    let enabled = &node.config.engine.transports;
    match check_request(&query, enabled, is_get, false, client::origin_valid(origin)) {
        Err(error) => refuse(node, error),
        Ok(_) if !client::origin_allowed(origin, &node.config) => refuse(node, RequestError::Forbidden),
        Ok(RequestKind::Open(_)) if node.lifecycle.is_stopping() => {
            HttpResponse::ServiceUnavailable().finish()
        }
        Ok(RequestKind::Open(_)) => open(node, request).await,
        Ok(RequestKind::Continue { sid, transport, revision_matches }) => {
            let Some((sid, place)) = owner(node, sid).await else {
                return refuse(node, RequestError::UnknownSid);
            };
            let session = Session { node, sid, place };
            if transport != Transport::Polling || !revision_matches {
                return session.mismatch().await;
            }
            match *request.method() {
                Method::GET => session.get(request).await,
                Method::POST => session.post(request, payload).await,
                _ => session.other_method().await,
            }
        }
    }
}

/// Whose a session id is: a shard's of this node, or another node's.
pub(crate) async fn owner(node: &NodeShared, sid: &str) -> Option<(Address, Location)> {
    let sid = Address::parse(sid)?;
    let place = Location::birth(sid);
    node.peering.find(place).await.then_some((sid, place))
}

fn refuse(node: &NodeShared, error: RequestError) -> HttpResponse {
    node.metrics.handshakes.with_label_values(&["socketio", outcome(error)]).inc();
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    HttpResponse::build(status).insert_header((header::CONTENT_TYPE, "application/json")).body(error.body())
}

/// A refusal's name among the outcomes of handshakes.
pub(crate) fn outcome(error: RequestError) -> &'static str {
    match error {
        RequestError::UnknownTransport => "unknown_transport",
        RequestError::UnknownSid => "unknown_sid",
        RequestError::BadHandshakeMethod => "bad_method",
        RequestError::BadRequest => "bad_request",
        RequestError::Forbidden => "forbidden",
        RequestError::UnsupportedProtocolVersion => "unsupported_version",
    }
}

/// Opens a session.
async fn open(node: &NodeShared, request: &HttpRequest) -> HttpResponse {
    let config = &node.config;
    let handshake = client::handshake(request.headers(), request.query_string(), request.peer_addr(), config);
    let slot = match node.let_in_polling(handshake.address, request.peer_addr()) {
        Ok(slot) => slot,
        Err(away) => {
            node.metrics.handshakes.with_label_values(&["socketio", outcome_of(&away)]).inc();
            node.report_refused("socketio", handshake.address, away.reason);
            return turned_away(&away);
        }
    };
    let principal = match node.policy.decide(None, AccessRequest::Handshake(&handshake)).decided().await {
        Decided::Allow(principal) => principal,
        Decided::Deny(denial) => {
            node.metrics.handshakes.with_label_values(&["socketio", "forbidden"]).inc();
            node.report_refused("socketio", handshake.address, denial.code);
            let message = serde_json::to_string(&denial.message).unwrap_or_default();
            return HttpResponse::Forbidden()
                .insert_header((header::CONTENT_TYPE, "application/json"))
                .body(format!("{{\"code\":4,\"message\":{message}}}"));
        }
    };
    let Some(shard) = node.shard() else { return HttpResponse::ServiceUnavailable().finish() };
    let (sid, body) = shard.with(|shard, now| shard.open_polling(now, principal, handshake, slot));
    let mut response = reply(node, request, body, None);
    if let Some(settings) = &config.cookie {
        let cookie = Cookie::build(settings.name.clone(), sid.to_string())
            .path("/")
            .secure(settings.secure.unwrap_or_else(|| client::is_secure(request, config)))
            .same_site(settings.same_site)
            .http_only(settings.http_only);
        // A name that no cookie may have was refused with the configuration.
        let _ = response.add_cookie(&cookie.finish());
    }
    response
}

/// The answer to a GET.
fn reply(
    node: &NodeShared,
    request: &HttpRequest,
    body: String,
    on_lost: Option<Box<dyn FnOnce()>>,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, "text/plain; charset=UTF-8"));
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    let mut body = Bytes::from(body);
    if body.len() >= COMPRESS_FROM
        && let Some((encoding, compressed)) = compress(request, &body)
    {
        response.insert_header((header::CONTENT_ENCODING, encoding));
        body = compressed.into();
    }
    response.body(CountedBody::new(client::charge(node, request), body, on_lost))
}

/// Compresses as the client accepts it.
fn compress(request: &HttpRequest, body: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let out = Vec::with_capacity(body.len() / 2);
    match coding(request.headers().get(header::ACCEPT_ENCODING)?.to_str().ok()?)? {
        "gzip" => {
            let mut encoder = GzEncoder::new(out, Compression::fast());
            encoder.write_all(body).ok()?;
            Some(("gzip", encoder.finish().ok()?))
        }
        coding => {
            let mut encoder = ZlibEncoder::new(out, Compression::fast());
            encoder.write_all(body).ok()?;
            Some((coding, encoder.finish().ok()?))
        }
    }
}

/// Of gzip and deflate the one that is liked better, if any is accepted (RFC 9110 §12.5.3); gzip if both are.
fn coding(accepted: &str) -> Option<&'static str> {
    let accepted = accepted.to_ascii_lowercase();
    let weight_of = |name: &str| {
        accepted.split(',').find_map(|item| {
            let (coding, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse().ok());
            (coding.trim() == name).then(|| weight.unwrap_or(0.0_f32))
        })
    };
    // What is named is not meant by the star.
    let weight = |name: &str| weight_of(name).or_else(|| weight_of("*")).unwrap_or(0.0);
    let (gzip, deflate) = (weight("gzip"), weight("deflate"));
    match (gzip >= deflate, gzip.max(deflate) > 0.0) {
        (_, false) => None,
        (true, true) => Some("gzip"),
        (false, true) => Some("deflate"),
    }
}

/// A session somewhere in the cluster.
struct Session<'a> {
    node: &'a NodeShared,
    sid: Address,
    place: Location,
}

impl Session<'_> {
    /// Hands a request to the session's owner.
    fn ask(&self, request: Request) -> Result<(), Busy> {
        dispatch(self.node, self.place, request)
    }

    async fn exists(&self) -> Result<bool, Busy> {
        let (reply, answer) = Reply::channel();
        self.ask(Request::Exists { sid: self.sid, reply })?;
        Ok(answer.await.unwrap_or(false))
    }

    /// A transport or protocol revision that is not the session's.
    async fn mismatch(&self) -> HttpResponse {
        match self.exists().await {
            Ok(true) => refuse(self.node, RequestError::BadRequest),
            Ok(false) => refuse(self.node, RequestError::UnknownSid),
            Err(Busy) => busy(),
        }
    }

    async fn other_method(&self) -> HttpResponse {
        match self.exists().await {
            Ok(true) => HttpResponse::InternalServerError().finish(),
            Ok(false) => refuse(self.node, RequestError::UnknownSid),
            Err(Busy) => busy(),
        }
    }

    fn refused(&self, refused: RequestRefused) -> HttpResponse {
        match refused {
            RequestRefused::UnknownSid => refuse(self.node, RequestError::UnknownSid),
            RequestRefused::NotPolling => refuse(self.node, RequestError::BadRequest),
            RequestRefused::Overlap => HttpResponse::BadRequest().finish(),
            RequestRefused::Busy => busy(),
        }
    }

    async fn get(&self, request: &HttpRequest) -> HttpResponse {
        let number = self.node.request_number();
        let (poll, answer) = Reply::channel();
        let poll = Request::Poll { sid: self.sid, number, accepted: None, reply: poll };
        if self.ask(poll).is_err() {
            return busy();
        }
        let mut guard = CancelGuard::new(self, |sid| Request::PollLost { sid, number });
        let answer = match self.wait(request, number, answer).await.unwrap_or(Err(RequestRefused::UnknownSid))
        {
            Ok(body) => {
                // The session would go on without the packets that the answer carries.
                let (peering, place, sid) = (self.node.peering.clone(), self.place, self.sid);
                let lost = move || peering.dispatch(place, Request::PollLost { sid, number });
                reply(self.node, request, body, Some(Box::new(lost)))
            }
            Err(refused) => self.refused(refused),
        };
        guard.request = None;
        answer
    }

    /// Waits for the answer to a GET. One that another request of its connection waits behind ends early, since that may be the POST
    /// without which there is no answer. One for a session of another node does not have to end with this node: its client asks
    /// again, and the balancer sends it elsewhere.
    async fn wait<T>(
        &self,
        request: &HttpRequest,
        number: u64,
        mut answer: impl Future<Output = Result<T, RecvError>> + Unpin,
    ) -> Option<T> {
        let is_elsewhere = self.place.node != self.node.tag;
        let relayed = is_elsewhere.then(|| self.node.peering.relayed_polls().enter());
        let mut is_overtaken = false;
        loop {
            let released = async {
                match &relayed {
                    Some(relayed) => relayed.released().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut answer => return answer.ok(),
                () = released => {}
                () = Exchange::next_arrived(request), if !is_overtaken => is_overtaken = true,
            }
            // If that cannot be handed over, the answer comes later.
            let _ = self.ask(Request::ReleasePoll { sid: self.sid, number });
        }
    }

    async fn post(&self, request: &HttpRequest, payload: web::Payload) -> HttpResponse {
        let number = self.node.request_number();
        let (reply, began) = Reply::channel();
        let (on_close, closed) = Reply::<()>::channel();
        if self.ask(Request::BeginPost { sid: self.sid, number, on_close, reply }).is_err() {
            return busy();
        }
        // Whatever goes wrong from here on closes the session.
        let mut guard = CancelGuard::new(self, |sid| Request::PostLost { sid, number });
        match began.await {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => return self.refused(refused),
            Err(_) => return refuse(self.node, RequestError::UnknownSid),
        }
        let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        if content_type == Some(b"application/octet-stream") {
            return HttpResponse::BadRequest().finish();
        }
        let is_elsewhere = self.place.node != self.node.tag;
        let closed = async {
            // The node of another session refuses the POST itself.
            match is_elsewhere {
                true => std::future::pending().await,
                false => drop(closed.await),
            }
        };
        let body = tokio::select! {
            body = body::read(self.node, request, payload) => body,
            () = Exchange::overdue(request, self.node.config.body_timeout) => Err(StatusCode::REQUEST_TIMEOUT),
            () = closed => Err(StatusCode::BAD_REQUEST),
        };
        let body = match body {
            Ok(body) => body,
            Err(status @ StatusCode::SERVICE_UNAVAILABLE) => {
                let retry_after = (header::RETRY_AFTER, "1");
                return HttpResponse::build(status).insert_header(retry_after).force_close().finish();
            }
            Err(status) => return HttpResponse::build(status).force_close().finish(),
        };
        let (reply, applied) = Reply::channel();
        if self.ask(Request::Post { sid: self.sid, number, body, is_relayed: false, reply }).is_err() {
            return busy();
        }
        // A client that is cut off while its packets wait is gone, and what it has sent is of no use.
        let applied = applied.await;
        guard.request = None;
        if applied.is_err() && is_elsewhere {
            return refuse(self.node, RequestError::UnknownSid);
        }
        HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/html"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .body("ok")
    }
}

/// Hands a request to a session's owner: at once if that is this thread, else through its inbox, or over the node link.
pub(crate) fn dispatch(node: &NodeShared, place: Location, request: Request) -> Result<(), Busy> {
    if place.node != node.tag {
        node.peering.relay_request(place.node, request);
        return Ok(());
    }
    match node.shard().filter(|own| own.id() == place.shard) {
        Some(own) => match own.try_request(request) {
            None => Ok(()),
            Some(request) => node.mailboxes.request(place.shard, ShardMessage::Request(request)),
        },
        None => node.mailboxes.request(place.shard, ShardMessage::Request(request)),
    }
}

/// A handshake's outcome where its client is turned away.
pub(crate) fn outcome_of(away: &TurnedAway) -> &'static str {
    if away.is_full() { "full" } else { "rate_limited" }
}

/// The client, or all of them together, begin too many sessions, or there is no memory for more.
pub(super) fn turned_away(away: &TurnedAway) -> HttpResponse {
    let (status, message) = match away.is_full() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "full"),
        false => (StatusCode::TOO_MANY_REQUESTS, "rate-limited"),
    };
    HttpResponse::build(status)
        .insert_header((header::RETRY_AFTER, away.seconds().to_string()))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .body(format!("{{\"code\":4,\"message\":\"{message}\"}}"))
}

/// The session's owner is too far behind, or too much waits for slow clients.
fn busy() -> HttpResponse {
    HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, "1")).finish()
}

/// Tells the session's owner when the client gives its request up, which drops the future that answers it.
struct CancelGuard<'a> {
    node: &'a NodeShared,
    place: Location,
    request: Option<Request>,
}

impl<'a> CancelGuard<'a> {
    fn new(session: &Session<'a>, request: impl FnOnce(Address) -> Request) -> Self {
        Self { node: session.node, place: session.place, request: Some(request(session.sid)) }
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            // May not be refused, or the session would be left half open. Nothing that comes next on this thread may overtake it.
            let own = self.node.shard().filter(|own| self.place == own.location());
            let left = match own {
                Some(own) => own.try_request(request),
                None => Some(request),
            };
            if let Some(request) = left {
                self.node.peering.dispatch(self.place, request);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_is_one_that_the_client_accepts() {
        for (accepted, expected) in [
            ("gzip, deflate, br", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("deflate, gzip", Some("gzip")),
            ("gzip;q=0.1, deflate", Some("deflate")),
            ("gzip;q=0, deflate;q=0.5", Some("deflate")),
            ("gzip ; q=0", None),
            ("gzip;q=0.000", None),
            ("*", Some("gzip")),
            ("*;q=0", None),
            ("gzip;q=0, *", Some("deflate")),
            ("gzip;q=0, deflate;q=0, *", None),
            ("br, identity", None),
            ("gzip;q=high", None),
            ("", None),
        ] {
            assert_eq!(coding(accepted), expected, "{accepted}");
        }
    }
}
