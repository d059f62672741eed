//! What is said to clients.

use std::time::Duration;

use actix_web::{HttpResponse, web::Path};
use signalbox_admin::{
    binary,
    orders::{Audience, BatchRequest, BatchResult, EmitRequest, EmitResult, Outcome, PeerMessageRequest},
};
use signalbox_node::{
    Node,
    admin::{Act, Answer, Answers, Emission, PeerOrder, Question, is_reserved},
};

use super::{look::mixed_up, order::Order, patience::Patience, problem::Refused};

type Answered = Result<HttpResponse, Refused>;

/// Longest time for acknowledgements, in milliseconds.
const MAX_ACK_TIMEOUT: u64 = 30_000;
/// Most events of a batch.
const MAX_BATCH: usize = 100;
/// Most rooms, sockets and subjects in an audience.
const MAX_NAMES: usize = 1_000;

/// Checks whom something is for.
pub(super) fn check_audience(to: &Audience) -> Result<(), Refused> {
    if to.is_nobody() {
        return Err(Refused::bad("to", "to names nobody: it needs rooms, sockets, subjects or everyone"));
    }
    if to.len() > MAX_NAMES {
        return Err(Refused::bad("to", format!("to has more than {MAX_NAMES} names")));
    }
    if !to.namespace.starts_with('/') {
        return Err(Refused::bad("to", "a namespace begins with a slash"));
    }
    Ok(())
}

/// Whom something is for, as the log shows it.
pub(super) fn about(to: &Audience) -> String {
    serde_json::to_string(to).unwrap_or_default()
}

/// An event that can be sent.
fn checked(request: EmitRequest) -> Result<(Audience, Emission), Refused> {
    let EmitRequest { to, event, args, volatile, ack } = request;
    check_audience(&to)?;
    if event.is_empty() || is_reserved(&event) {
        return Err(Refused::bad("event", "events cannot have this name: it is empty, or Socket.IO's own"));
    }
    let args = args.map_or_else(|| "[]".to_owned(), |args| args.get().to_owned());
    binary::sent(&args).map_err(|problem| Refused::bad("args", problem.detail()))?;
    let ack_timeout = ack.map(|ack| ack.timeout);
    if ack_timeout.is_some_and(|timeout| !(1..=MAX_ACK_TIMEOUT).contains(&timeout)) {
        return Err(Refused::bad("ack", format!("ack.timeout is not between 1 and {MAX_ACK_TIMEOUT}")));
    }
    if ack_timeout.is_some() && volatile {
        return Err(Refused::bad("volatile", "what may be missed cannot be waited for"));
    }
    let emission = Emission { event, args, volatile, ack_timeout };
    emission.args().ok_or_else(|| Refused::bad("args", "args cannot be sent"))?;
    Ok((to, emission))
}

/// Whether every node has to look for the clients that an event is for.
fn is_looked_for(to: &Audience, emission: &Emission) -> bool {
    !to.subjects.is_empty() || emission.ack_timeout.is_some()
}

/// Sends an event. To rooms and sockets it is broadcast, as an application would. Only subjects, and who is to acknowledge, have to be
/// looked for.
async fn emit_to(
    node: &Node,
    patience: &mut Patience,
    to: Audience,
    emission: Emission,
) -> Result<EmitResult, Refused> {
    if !is_looked_for(&to, &emission) {
        let args = emission.args().ok_or_else(|| Refused::bad("args", "args cannot be sent"))?;
        let rooms = if to.everyone { &[][..] } else { &to.rooms[..] };
        let sockets = if to.everyone { &[][..] } else { &to.sockets[..] };
        let everybody = node.namespace(&to.namespace);
        let mut receivers = rooms.iter().chain(sockets).fold(everybody, |receivers, name| receivers.to(name));
        receivers = to.except.iter().fold(receivers, |receivers, name| receivers.except(name));
        if emission.volatile {
            receivers = receivers.volatile();
        }
        receivers.emit(&emission.event, args);
        let partial = if node.can_publish() { Vec::new() } else { node.others_unreached() };
        return Ok(EmitResult { partial, ..EmitResult::default() });
    }
    let wait = Duration::from_millis(emission.ack_timeout.unwrap_or_default());
    let question = Question::act(to, Act::Emit(emission));
    let asked = patience.ask(node, question, wait).await;
    let Answers { answer: Answer::Done(nodes, acks), partial } = asked else {
        return Err(mixed_up());
    };
    let Outcome { matched, nodes, partial, .. } = Outcome::of(nodes, partial);
    Ok(EmitResult { sockets: Some(matched), acks, nodes, partial })
}

/// Sends an event to clients, wherever they are.
///
/// Without `ack` the answer says that it was sent, not who received it. With `ack`, it comes when every client has acknowledged, or the time is over.
#[utoipa::path(post, path = "/admin/v1/emit", tag = "speak", security(("token" = ["emit"])), request_body = EmitRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "What became of it", body = EmitResult)))]
pub(super) async fn emit(order: Order) -> Answered {
    let (to, emission) = checked(order.read()?)?;
    let about = format!("{} to {}", emission.event, about(&to));
    let (node, mut patience) = (order.state.node.clone(), Patience::new(order.until(), 1));
    order.run(about, async move { emit_to(&node, &mut patience, to, emission).await }).await
}

/// Sends several events, in order; none if one of them cannot be sent.
#[utoipa::path(post, path = "/admin/v1/batch", tag = "speak", security(("token" = ["emit"])), request_body = BatchRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "What became of each", body = BatchResult)))]
pub(super) async fn batch(order: Order) -> Answered {
    let BatchRequest { events } = order.read()?;
    if events.is_empty() || events.len() > MAX_BATCH {
        return Err(Refused::bad("events", format!("events has not 1 to {MAX_BATCH} entries")));
    }
    let events: Vec<_> = events.into_iter().map(checked).collect::<Result<_, _>>()?;
    // Each waits for the one before it.
    let waits: u64 = events.iter().filter_map(|(_, emission)| emission.ack_timeout).sum();
    if waits > MAX_ACK_TIMEOUT {
        return Err(Refused::bad(
            "events",
            format!("the ack.timeout of all are together more than {MAX_ACK_TIMEOUT}"),
        ));
    }
    let (about, node) = (format!("{} events", events.len()), order.state.node.clone());
    let questions = events.iter().filter(|(to, emission)| is_looked_for(to, emission)).count();
    let mut patience = Patience::new(order.until(), questions);
    let send = async move {
        let mut results = Vec::new();
        for (to, emission) in events {
            results.push(emit_to(&node, &mut patience, to, emission).await?);
        }
        Ok(BatchResult { results })
    };
    order.run(about, send).await
}

/// Sends a message to a PeerServer client.
#[utoipa::path(post, path = "/admin/v1/peers/{id}/messages", tag = "speak", security(("token" = ["emit"])),
    request_body = PeerMessageRequest,
    params(("id" = String, Path, description = "The peer's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "Whether it was there", body = Outcome)))]
pub(super) async fn message_peer(order: Order, path: Path<String>) -> Answered {
    let PeerMessageRequest { kind, src, payload, key } = order.read()?;
    let id = path.into_inner();
    if kind.is_empty() || kind.len() > 64 {
        return Err(Refused::bad("type", "type has not 1 to 64 bytes"));
    }
    let mut message = serde_json::json!({"type": kind, "dst": id, "payload": payload});
    if let Some(src) = src {
        message["src"] = src.into();
    }
    let question = Question::Peer { key, id: id.clone(), order: PeerOrder::Message(message.to_string()) };
    let (node, until) = (order.state.node.clone(), order.until());
    let tell = async move { super::act::done(&node, until, question).await };
    order.run(format!("{kind} to peer {id}"), tell).await
}
