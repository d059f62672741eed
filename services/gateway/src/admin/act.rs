//! What is done with clients and nodes.

use std::time::Instant;

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use signalbox_admin::orders::{DisconnectRequest, JoinRequest, LeaveRequest, LogRequest, Outcome};
use signalbox_auth::{refusal::MAX_NAME, revocation::is_too_far_ahead};
use signalbox_node::{
    CannotRevoke, ClientSelector, MAX_FOLLOWED, Node,
    admin::{Act, Answer, Answers, LogOrder, PeerOrder, Question},
};
use tokio::time::timeout_at;
use utoipa::ToSchema;

use super::{
    look::mixed_up,
    order::Order,
    problem::Refused,
    speak::{about, check_audience},
};

type Answered = Result<HttpResponse, Refused>;

/// Most rooms or peers of one request.
const MAX_NAMES: usize = 100;
/// The end of the year 9999, in seconds since 1970.
const LATEST: u64 = 253_402_300_799;
/// Longest name of a room, and largest profile, in bytes: as for clients.
const MAX_ROOM_NAME: usize = 255;
const MAX_PROFILE: usize = 4096;

/// For how long more is logged, in seconds, unless a request says otherwise; and for how long at most.
const LOG_SECONDS: u64 = 600;
const MAX_LOG_SECONDS: u64 = 86_400;
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What the nodes have done.
pub(super) async fn done(node: &Node, until: Instant, question: Question) -> Result<Outcome, Refused> {
    let asked = node.ask_cluster_until(until, question);
    let Answers { answer: Answer::Done(nodes, _), partial } = asked.await else {
        return Err(mixed_up());
    };
    Ok(Outcome::of(nodes, partial))
}

fn check_rooms(rooms: &[String]) -> Result<(), Refused> {
    let is_named = |room: &String| (1..=MAX_ROOM_NAME).contains(&room.len());
    if rooms.is_empty() || rooms.len() > MAX_NAMES || !rooms.iter().all(is_named) {
        return Err(Refused::bad(
            "rooms",
            format!("rooms are 1 to {MAX_NAMES} names of 1 to {MAX_ROOM_NAME} bytes"),
        ));
    }
    Ok(())
}

/// Lets sockets join rooms, wherever they are.
#[utoipa::path(post, path = "/admin/v1/join", tag = "act", security(("token" = ["control"])), request_body = JoinRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "How many have joined all of them", body = Outcome)))]
pub(super) async fn join(order: Order) -> Answered {
    let JoinRequest { to, rooms, profile } = order.read()?;
    check_audience(&to)?;
    check_rooms(&rooms)?;
    if rooms.iter().any(|room| order.state.node.is_socket_id(room)) {
        return Err(Refused::bad("rooms", "a room cannot be named like a socket"));
    }
    // These are said by the server itself.
    let mut profile = profile.unwrap_or_default();
    profile.retain(|name, _| name != "id" && name != "room");
    let profile = serde_json::Value::Object(profile).to_string();
    if profile.len() > MAX_PROFILE {
        return Err(Refused::bad("profile", format!("the profile has more than {MAX_PROFILE} bytes")));
    }
    let (about, node, until) =
        (format!("{rooms:?} by {}", about(&to)), order.state.node.clone(), order.until());
    let question = Question::act(to, Act::Join { rooms, profile });
    order.run(about, async move { done(&node, until, question).await }).await
}

/// Lets sockets leave rooms, wherever they are.
#[utoipa::path(post, path = "/admin/v1/leave", tag = "act", security(("token" = ["control"])), request_body = LeaveRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "How many were in all of them, and have left", body = Outcome)))]
pub(super) async fn leave(order: Order) -> Answered {
    let LeaveRequest { to, rooms } = order.read()?;
    check_audience(&to)?;
    check_rooms(&rooms)?;
    let (about, node, until) =
        (format!("{rooms:?} by {}", about(&to)), order.state.node.clone(), order.until());
    let question = Question::act(to, Act::Leave { rooms });
    order.run(about, async move { done(&node, until, question).await }).await
}

/// Disconnects clients. Those of Socket.IO are told, and do not come back by themselves.
#[utoipa::path(post, path = "/admin/v1/disconnect", tag = "act", security(("token" = ["control"])), request_body = DisconnectRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "How many there were", body = Outcome)))]
pub(super) async fn disconnect(order: Order) -> Answered {
    let DisconnectRequest { to, close, peers } = order.read()?;
    if let Some(to) = &to {
        check_audience(to)?;
    }
    if to.is_none() && peers.is_empty() || peers.len() > MAX_NAMES {
        return Err(Refused::bad("to", format!("it names nobody, or more than {MAX_NAMES} peers")));
    }
    let sockets = to.as_ref().map(about).unwrap_or_default();
    let names: Vec<&str> = peers.iter().map(|peer| peer.id.as_str()).collect();
    let (about, node, until) =
        (format!("{sockets} peers {names:?}"), order.state.node.clone(), order.until());
    let sockets = to.map(|audience| Question::act(audience, Act::Disconnect { close }));
    let peers =
        peers.into_iter().map(|peer| Question::Peer { key: peer.key, id: peer.id, order: PeerOrder::Close });
    let questions: Vec<Question> = sockets.into_iter().chain(peers).collect();
    let disconnect = async move {
        let outcomes = questions.into_iter().map(|question| done(&node, until, question));
        let (mut nodes, mut partial) = (Vec::new(), Vec::new());
        for outcome in futures_util::future::join_all(outcomes).await {
            let outcome = outcome?;
            partial.extend(outcome.partial);
            for node in outcome.nodes {
                merge(&mut nodes, node);
            }
        }
        partial.sort_unstable();
        partial.dedup();
        Ok(Outcome::of(nodes, partial))
    };
    order.run(about, disconnect).await
}

fn merge(nodes: &mut Vec<signalbox_admin::orders::NodeOutcome>, more: signalbox_admin::orders::NodeOutcome) {
    match nodes.iter_mut().find(|known| known.node == more.node) {
        Some(known) => {
            known.matched += more.matched;
            known.done += more.done;
        }
        None => nodes.push(more),
    }
}

/// Changes what all nodes log, for a time: the level of their own lines, and the clients whose whole stories are told.
#[utoipa::path(put, path = "/admin/v1/log", tag = "act", security(("token" = ["control"])), request_body = LogRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "Which nodes do so", body = Outcome)))]
pub(super) async fn log(order: Order) -> Answered {
    let LogRequest { level, clients, seconds } = order.read()?;
    let seconds = seconds.unwrap_or(LOG_SECONDS);
    if !(1..=MAX_LOG_SECONDS).contains(&seconds) {
        return Err(Refused::bad("seconds", format!("seconds is not between 1 and {MAX_LOG_SECONDS}")));
    }
    if level.as_deref().is_some_and(|level| !LEVELS.contains(&level)) {
        return Err(Refused::bad("level", format!("level is none of {}", LEVELS.join(", "))));
    }
    if clients.len() > MAX_FOLLOWED {
        return Err(Refused::bad("clients", format!("clients has more than {MAX_FOLLOWED} entries")));
    }
    if let Some(error) = clients.iter().find_map(|text| text.parse::<ClientSelector>().err()) {
        return Err(Refused::bad("clients", error.to_string()));
    }
    let what = serde_json::json!({"level": level, "clients": clients, "seconds": seconds});
    let (node, until) = (order.state.node.clone(), order.until());
    let question = Question::Log(LogOrder { level, clients, seconds });
    order.run(what.to_string(), async move { done(&node, until, question).await }).await
}

/// Tokens that are to count no more. One of the three has to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RevokeRequest {
    /// The token with this id (`jti`).
    token_id: Option<String>,
    /// When that token expires, in seconds since 1970: until then the revocation is kept.
    #[schema(maximum = 253402300799_u64)]
    expires_at: Option<u64>,
    /// All tokens of this subject.
    subject: Option<String>,
    /// Only those issued before this time, in seconds since 1970; without a subject, everybody's. Default, with a subject: now.
    issued_before: Option<u64>,
}

/// Until when a revocation is kept.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Revoked {
    /// In seconds since 1970; absent: for ever (`--jwt-max-lifetime` bounds it).
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// Revokes tokens on all nodes: they are refused from now on, and their holders disconnected, within a second.
#[utoipa::path(post, path = "/admin/v1/revoke", tag = "act", security(("token" = ["control"])), request_body = RevokeRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "It is known to this node, and to Redis, from which the others learn", body = Revoked)))]
pub(super) async fn revoke(order: Order) -> Answered {
    let RevokeRequest { token_id, expires_at, subject, issued_before } = order.read()?;
    let now = signalbox_auth::Now::read().unix;
    if issued_before.is_some_and(|before| is_too_far_ahead(before, now)) {
        return Err(Refused::bad(
            "issuedBefore",
            "issuedBefore is more than a minute from now: it is in seconds since 1970, not in milliseconds",
        ));
    }
    if expires_at.is_some_and(|at| at > LATEST) {
        return Err(Refused::bad(
            "expiresAt",
            "expiresAt is after the year 9999: it is in seconds since 1970, not in milliseconds",
        ));
    }
    let lifetimes = &order.state.lifetimes;
    // No token has a longer one, and what is revoked is kept.
    for (parameter, name) in [("tokenId", &token_id), ("subject", &subject)] {
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > MAX_NAME) {
            return Err(Refused::bad(parameter, format!("that of a token has 1 to {MAX_NAME} bytes")));
        }
    }
    let (what, revocation) = match (token_id, subject, issued_before) {
        (Some(id), None, None) => (format!("token {id}"), lifetimes.of_token(&id, expires_at, now)),
        // Times are whole seconds, so one that is issued in this very second goes as well.
        (None, Some(subject), before) if expires_at.is_none() => {
            (format!("subject {subject}"), lifetimes.of_subject(&subject, before.unwrap_or(now + 1)))
        }
        (None, None, Some(before)) if expires_at.is_none() => {
            (format!("all before {before}"), lifetimes.of_all(before))
        }
        _ => {
            return Err(Refused::bad(
                "tokenId",
                "give tokenId (with expiresAt), or subject, or issuedBefore alone",
            ));
        }
    };
    let (node, deadline) = (order.state.node.clone(), order.until());
    let tell = async move {
        let until = revocation.until;
        // What this node knows to be revoked it writes in any case.
        let told = timeout_at(deadline.into(), node.revoke(&[revocation])).await;
        let told = told.unwrap_or(Err(CannotRevoke::Unreachable));
        told.map_err(|error| Refused::busy(error.to_string()))?;
        Ok(Revoked { until })
    };
    order.run(what, tell).await
}
