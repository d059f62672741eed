//! `GET events`: what happens in the cluster, as server-sent events, or as the messages of a WebSocket.
//!
//! A listener reads at its own pace out of the node's bounded buffer; what happens is nowhere kept for it alone. One that falls out of the
//! buffer is told so and cut off, and so is one that takes nothing for half a minute.

mod slow;
mod sse;
mod websocket;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderMap},
    web::{Data, Payload},
};
use serde::Deserialize;
use signalbox_admin::events::{EventFilter, EventKind};
use signalbox_node::admin::EventListener;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{
    IntoParams, ToSchema,
    openapi::schema::{Object, ObjectBuilder, Ref, Type},
};

use self::slow::Watch;
pub(super) use self::slow::remember;
use super::{access, problem::Refused, request::Query, state::AdminState};
use crate::config::admin::Scope;

/// How often it is looked whether who listens still may.
const CHECK: Duration = Duration::from_secs(15);
/// Longest value of a filter, in bytes.
const MAX_VALUE: usize = 1_024;

/// Which events are asked for. Those that fit everything that is given; markers always come.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Kinds, separated by commas; default all. `connect`, `disconnect`, `join`, `leave`, `claim`, `release`, `evict`, `refuse`,
    /// `transfer`, `node-up`, `node-down`, `degraded`, `online`, `drain`.
    kinds: Option<String>,
    /// Those in this namespace.
    namespace: Option<String>,
    /// Those in this room.
    room: Option<String>,
    /// Those of clients that have shown a token of this subject.
    subject: Option<String>,
    /// Those of this socket.
    socket: Option<String>,
    /// Those of the PeerServer client with this id.
    peer: Option<String>,
    /// Those of the node with this id, or name.
    node: Option<String>,
    /// Go on behind this position, which this node has told; `Last-Event-ID` goes before it.
    after: Option<String>,
}

impl EventsQuery {
    fn filter(self) -> Result<EventFilter, Refused> {
        let Self { kinds, namespace, room, subject, socket, peer, node, after: _ } = self;
        let kind = |text: &str| {
            text.trim().parse::<EventKind>().map_err(|why| Refused::bad("kinds", format!("{text:?} {why}")))
        };
        let kinds = kinds.as_deref().map(|kinds| kinds.split(',').map(kind).collect()).transpose()?;
        let values = [&namespace, &room, &subject, &socket, &peer, &node];
        if values.into_iter().flatten().any(|value| value.len() > MAX_VALUE) {
            return Err(Refused::bad("filter", "a filter has more than 1024 bytes"));
        }
        Ok(EventFilter { kinds: kinds.unwrap_or_default(), namespace, room, subject, socket, peer, node })
    }
}

/// One event of the stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is written as text")]
pub(super) struct ServerSentEvent {
    /// Its position: for `Last-Event-ID`.
    id: String,
    #[schema(schema_with = told_event)]
    data: String,
}

/// What the data of an event is.
fn told_event() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("What has happened: a ToldEvent, as JSON"))
        .content_media_type("application/json")
        .content_schema(Some(Ref::from_schema_name("ToldEvent")))
        .build()
}

/// Tells what happens in the cluster, as it happens: as server-sent events, or as messages of a WebSocket where one is asked for (with the
/// subprotocol `signalbox.events` and, since browsers send no other header, the token as the subprotocol `bearer.` and its Base64url).
/// Whoever comes back with `Last-Event-ID` goes on where it was, at the same node and within a minute; else a marker `resync` says that
/// events were missed. A node whose events are missing is named by a marker, and so are events that were dropped.
#[utoipa::path(get, path = "/admin/v1/events", tag = "listen", security(("token" = ["read"])),
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id that came last")),
    responses(
        (status = 200, description = "One event after the other, until the client goes: `id` is its position, `data` the event. A comment every 5 seconds says that all is well",
            body = ServerSentEvent, content_type = "text/event-stream"),
        (status = 101, description = "The same over a WebSocket, an event in each message. What a ping carries is the position")))]
pub(super) async fn events(
    request: HttpRequest,
    payload: Payload,
    state: Data<AdminState>,
    query: Query<EventsQuery>,
) -> Result<HttpResponse, Refused> {
    let last = request.headers().get("last-event-id").and_then(|last| last.to_str().ok());
    let after = last.map(str::to_owned).or_else(|| query.0.after.clone());
    let filter = query.0.filter()?;
    let Ok(place) = state.listeners.clone().try_acquire_owned() else {
        return Err(Refused::busy("too many listen at this node (try another one)"));
    };
    let listener = state.node.listen(filter, after.as_deref()).await;
    let allowed = Allowed { state, headers: request.headers().clone(), checked: Instant::now() };
    let audience =
        Audience { watch: Watch::begin(&request, listener.gauge()), listener, allowed, _place: place };
    match is_websocket(request.headers()) {
        true => websocket::serve(&request, payload, audience),
        false => Ok(sse::serve(audience)),
    }
}

/// One who listens.
struct Audience {
    listener: EventListener,
    allowed: Allowed,
    watch: Watch,
    _place: OwnedSemaphorePermit,
}

/// Whether somebody may listen: tokens end, and are revoked.
struct Allowed {
    state: Data<AdminState>,
    headers: HeaderMap,
    checked: Instant,
}

impl Allowed {
    /// Looks now and then.
    fn still(&mut self) -> bool {
        if self.checked.elapsed() < CHECK {
            return true;
        }
        self.checked = Instant::now();
        self.state.access.identify(&self.headers).is_ok_and(|caller| caller.check(Scope::Read).is_ok())
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(access::WEBSOCKET))
}
