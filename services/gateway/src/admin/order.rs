//! What changes something: its body is read strictly, it is done once for each `Idempotency-Key`, also when whoever asked does not wait
//! for it, and the log has a line of it.

use std::{net::IpAddr, pin::Pin, time::Instant};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest, HttpResponse,
    dev::Payload,
    http::header,
    web::{Bytes, Data},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use signalbox_node::admin::{ANSWER_BY, NewOperation, Once};

use super::{
    access::Caller,
    problem::Refused,
    request::{Nothing, Query},
    state::AdminState,
};

/// Longest key in bytes.
const MAX_KEY: usize = 255;
/// Longest answer that is kept for the same `Idempotency-Key`, in bytes.
const MAX_KEPT: usize = 256 << 10;
/// How much of what was asked the log shows, in bytes.
const MAX_LOGGED: usize = 300;

/// A request that changes something.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) state: Data<AdminState>,
    caller: Caller,
    from: Option<IpAddr>,
    route: String,
    key: Option<String>,
    body: Bytes,
    /// Until when nodes and Redis are waited for.
    until: Instant,
}

impl FromRequest for Order {
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Refused>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let query = Query::<Nothing>::from_request(request, payload);
        let body = Bytes::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let body = body.await.map_err(|_| Refused::too_large())?;
            query.await?;
            let known = request.extensions().get::<Caller>().cloned();
            let caller =
                known.ok_or_else(|| Refused::unauthorized("token-missing", "a token is required"))?;
            let state = request.app_data::<Data<AdminState>>().cloned();
            let state = state.ok_or_else(|| Refused::busy("the admin API is not there"))?;
            let key = request.headers().get("idempotency-key").map(|key| key.to_str().unwrap_or_default());
            if key.is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
                return Err(Refused::bad("Idempotency-Key", "the key is not 1 to 255 printable characters"));
            }
            Ok(Self {
                state,
                caller,
                from: request.peer_addr().map(|address| address.ip()),
                route: format!("{} {}", request.method(), request.path()),
                key: key.map(str::to_owned),
                body,
                until: Instant::now() + ANSWER_BY,
            })
        })
    }
}

impl Order {
    /// Until when nodes and Redis are waited for, whatever there is to ask them.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// What an operation is begun with. With an `Idempotency-Key`, the same body and caller begin the same one.
    pub(super) fn new_operation(&self) -> NewOperation {
        let started_by = self.caller.name();
        let key = self
            .key
            .as_ref()
            .map(|key| format!("{}\n{}\n{}\n{key}", self.caller.name(), self.route, self.digest()));
        NewOperation { started_by, key, until: self.until }
    }

    /// What tells a body from another one.
    fn digest(&self) -> String {
        Sha256::digest(&self.body).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the body says.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        serde_json::from_slice(&self.body).map_err(|error| Refused::malformed(format!("the body: {error}")))
    }

    /// The body as text.
    pub(super) fn text(&self) -> Result<&str, Refused> {
        std::str::from_utf8(&self.body).map_err(|_| Refused::malformed("the body is not UTF-8"))
    }

    /// Does it, unless it was done. `about` is what the log says of it; nothing that is sent to clients belongs there.
    pub(super) async fn run<R: Serialize + 'static>(
        self,
        about: String,
        action: impl Future<Output = Result<R, Refused>> + 'static,
    ) -> Result<HttpResponse, Refused> {
        self.run_named(about, action, |_| None).await
    }

    /// The same for what has a name once it is done: that of an operation, for the log.
    pub(super) async fn run_named<R: Serialize + 'static>(
        self,
        about: String,
        action: impl Future<Output = Result<R, Refused>> + 'static,
        name: fn(&R) -> Option<&str>,
    ) -> Result<HttpResponse, Refused> {
        let Ok(turn) = self.state.orders.clone().try_acquire_owned() else {
            return Err(Refused::busy("too many changes are under way (try again)"));
        };
        // It goes on when whoever asked hangs up: a change is done whole, and the log knows of it.
        let done = actix_web::rt::spawn(async move {
            let _turn = turn;
            self.finish(about, action, name).await
        });
        done.await.unwrap_or_else(|_| Err(Refused::busy("it broke off")))
    }

    async fn finish<R: Serialize>(
        self,
        mut about: String,
        action: impl Future<Output = Result<R, Refused>>,
        name: fn(&R) -> Option<&str>,
    ) -> Result<HttpResponse, Refused> {
        let digest = self.digest();
        let key = self.key.as_ref().map(|key| format!("{}\n{}\n{key}", self.caller.name(), self.route));
        let node = &self.state.node;
        if let Some(key) = &key {
            match node.begin_once(key).await {
                Some(Once::New) => {}
                Some(Once::UnderWay) => {
                    return Err(Refused::conflict("the request with this Idempotency-Key is being answered"));
                }
                Some(Once::Done(outcome)) => {
                    return match outcome.split_once('\n') {
                        Some((of, "")) if of == digest => Err(Refused::conflict(
                            "it was done; its answer was too large to be kept for the same Idempotency-Key",
                        )),
                        Some((of, body)) if of == digest => {
                            Ok(answer(body.to_owned(), &[("idempotent-replayed", "true")]))
                        }
                        _ => Err(Refused::bad("Idempotency-Key", "the key was used for another body")),
                    };
                }
                None => return Err(Refused::busy("too many requests with an Idempotency-Key are under way")),
            }
        }
        let outcome = action.await;
        let operation = outcome.as_ref().ok().and_then(name).map(str::to_owned);
        let outcome = outcome.map(|result| serde_json::to_string(&result).unwrap_or_default());
        if let Some(key) = &key {
            let kept = |body: &String| if body.len() > MAX_KEPT { "" } else { body.as_str() }.to_owned();
            let kept = outcome.as_ref().ok().map(kept);
            node.finish_once(key, kept.map(|body| format!("{digest}\n{body}")));
        }
        let cut = (0..=about.len().min(MAX_LOGGED)).rev().find(|at| about.is_char_boundary(*at));
        about.truncate(cut.unwrap_or_default());
        let who = self.caller.name();
        let from = self.from.map(tracing::field::display);
        let (route, code) = (self.route.as_str(), outcome.as_ref().err().map_or("done", Refused::code));
        tracing::info!(target: "signalbox_gateway::admin", who, from, route, about, operation, outcome = code, "change");
        outcome.map(|body| answer(body, &[]))
    }
}

fn answer(body: String, headers: &[(&'static str, &'static str)]) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store")).content_type("application/json");
    for header in headers {
        response.insert_header(*header);
    }
    response.body(body)
}
