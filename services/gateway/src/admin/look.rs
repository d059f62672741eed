//! What there is: the cluster, its nodes, and their clients.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use serde::Deserialize;
use signalbox_admin::{
    Cluster, ClusterRates, Member, Namespace, Node, NodeAnswer, NodeStatus, Page, Partial, Peer, Rates, Room,
    Row, Socket, SocketDetails,
};
use signalbox_node::{
    Node as AnyNode,
    admin::{ANSWER_BY, Answer, Answers, Listing, Question, SocketFilter},
};
use std::time::{Duration, Instant};
use utoipa::{IntoParams, ToSchema};

use super::{
    patience::Patience,
    problem::Refused,
    request::{MAX_LIMIT, Nothing, Query, json, listing},
    state::AdminState,
};

type Answered = Result<HttpResponse, Refused>;

/// A node that answers something else than it was asked is a mistake of ours.
pub(super) fn mixed_up() -> Refused {
    Refused::busy("the nodes have answered another question")
}

pub(super) fn page<T: Row + serde::Serialize>(
    items: Vec<T>,
    has_more: bool,
    partial: Vec<Partial>,
) -> HttpResponse {
    let next = items.last().filter(|_| has_more).map(|last| last.cursor().encode());
    json(&Page { items, next, partial })
}

/// The state of the cluster, in numbers.
#[utoipa::path(get, path = "/admin/v1/cluster", tag = "look", security(("token" = ["read"])),
    responses((status = 200, description = "The cluster", body = Cluster)))]
pub(super) async fn cluster(state: Data<AdminState>, _: Query<Nothing>) -> Answered {
    let Answers { answer: Answer::Nodes(nodes), partial } = state.node.ask_cluster(Question::Node).await
    else {
        return Err(mixed_up());
    };
    let sum = |count: fn(&Node) -> u64| nodes.iter().map(count).sum();
    let worst = nodes.iter().map(|node| node.status).max_by_key(|status| match status {
        NodeStatus::Online => 0,
        NodeStatus::Joining => 1,
        NodeStatus::Draining => 2,
        NodeStatus::Stopping => 3,
        NodeStatus::Degraded => 4,
    });
    Ok(json(&Cluster {
        status: worst.unwrap_or(NodeStatus::Degraded),
        answered_by: state.node.tag(),
        nodes: state.node.nodes_known() as u64,
        polling_clients: sum(|node| node.polling_clients),
        websocket_clients: sum(|node| node.websocket_clients),
        peers: sum(|node| node.peers),
        partial,
    }))
}

/// All nodes, in the order of their names.
#[utoipa::path(get, path = "/admin/v1/nodes", tag = "look", security(("token" = ["read"])), params(PageQuery),
    responses((status = 200, description = "The nodes; those that do not answer are in `partial`", body = Page<Node>)))]
pub(super) async fn nodes(state: Data<AdminState>, query: Query<PageQuery>) -> Answered {
    let PageQuery { after, limit } = query.0;
    let Listing { after, limit } = listing(after.as_deref(), limit)?;
    let Answers { answer: Answer::Nodes(mut nodes), partial } = state.node.ask_cluster(Question::Node).await
    else {
        return Err(mixed_up());
    };
    nodes.retain(|node| after.as_ref().is_none_or(|after| node.cursor() > *after));
    nodes.sort_by_key(Row::cursor);
    let has_more = nodes.len() > limit;
    nodes.truncate(limit);
    Ok(page(nodes, has_more, partial))
}

/// One node.
#[utoipa::path(get, path = "/admin/v1/nodes/{node}", tag = "look", security(("token" = ["read"])),
    params(("node" = String, Path, description = "Its id, or its name")),
    responses((status = 200, description = "The node, or why it does not answer", body = NodeAnswer)))]
pub(super) async fn node(state: Data<AdminState>, path: Path<String>, _: Query<Nothing>) -> Answered {
    let Some(answers) = state.node.ask_node(&path, Question::Node).await else {
        return Err(Refused::not_found("no node has this id or name"));
    };
    let Answers { answer: Answer::Nodes(nodes), partial } = answers else { return Err(mixed_up()) };
    Ok(json(&NodeAnswer { node: nodes.into_iter().next(), partial }))
}

/// Which part of a list is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Begin behind this entry: what the page before gave as `next`.
    after: Option<String>,
    /// Most entries, 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The namespaces that somebody is connected to.
#[utoipa::path(get, path = "/admin/v1/namespaces", tag = "look", security(("token" = ["read"])), params(PageQuery),
    responses((status = 200, description = "Namespaces, with their numbers of sockets", body = Page<Namespace>)))]
pub(super) async fn namespaces(state: Data<AdminState>, query: Query<PageQuery>) -> Answered {
    let PageQuery { after, limit } = query.0;
    let question = Question::Namespaces(listing(after.as_deref(), limit)?);
    let Answers { answer: Answer::Namespaces(items, has_more), partial } =
        state.node.ask_cluster(question).await
    else {
        return Err(mixed_up());
    };
    Ok(page(items, has_more, partial))
}

/// Which rooms are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RoomsQuery {
    /// Those of this namespace; default all.
    namespace: Option<String>,
    /// Those whose names begin so.
    prefix: Option<String>,
    /// By their `names`, which is the default, or those with the most `members` first: one page, without `next`.
    #[param(inline)]
    order: Option<RoomOrder>,
    /// Begin behind this entry: what the page before gave as `next`.
    after: Option<String>,
    /// Most entries, 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The order of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RoomOrder {
    /// By name.
    Names,
    /// Those with the most members first.
    Members,
}

/// The rooms that somebody is in, with their numbers of members.
#[utoipa::path(get, path = "/admin/v1/rooms", tag = "look", security(("token" = ["read"])), params(RoomsQuery),
    responses((status = 200, description = "Rooms", body = Page<Room>)))]
pub(super) async fn rooms(state: Data<AdminState>, query: Query<RoomsQuery>) -> Answered {
    let RoomsQuery { namespace, prefix, order, after, limit } = query.0;
    let (page_asked, prefix) = (listing(after.as_deref(), limit)?, prefix.unwrap_or_default());
    if order == Some(RoomOrder::Members) {
        if after.is_some() {
            return Err(Refused::bad("after", "those with the most members are one page"));
        }
        return busiest_rooms(&state.node, namespace, prefix, page_asked.limit).await;
    }
    let question = Question::Rooms { namespace, prefix, page: page_asked };
    let Answers { answer: Answer::Rooms(items, has_more), partial } = state.node.ask_cluster(question).await
    else {
        return Err(mixed_up());
    };
    Ok(page(items, has_more, partial))
}

/// The rooms with the most members. Each node knows how many its own rooms have in the whole cluster, as their members were told, so the
/// largest are among those that nodes name; these are counted then.
async fn busiest_rooms(node: &AnyNode, namespace: Option<String>, prefix: String, limit: usize) -> Answered {
    let mut patience = Patience::new(Instant::now() + ANSWER_BY, 2);
    // What is told may be a moment behind what is counted.
    let question = Question::BusiestRooms { namespace, prefix, limit: 2 * limit };
    let Answers { answer: Answer::BusiestRooms(found), partial: unheard } =
        patience.ask(node, question, Duration::ZERO).await
    else {
        return Err(mixed_up());
    };
    let names = found.into_iter().map(|room| (room.namespace, room.name)).collect();
    let Answers { answer: Answer::RoomCounts(mut items), mut partial } =
        patience.ask(node, Question::RoomCounts(names), Duration::ZERO).await
    else {
        return Err(mixed_up());
    };
    items.truncate(limit);
    partial.extend(unheard);
    partial.sort_unstable();
    partial.dedup_by(|one, other| one.node == other.node);
    Ok(page(items, false, partial))
}

/// Whose members are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MembersQuery {
    /// The room's namespace; default `/`.
    namespace: Option<String>,
    /// Begin behind this entry: what the page before gave as `next`.
    after: Option<String>,
    /// Most entries, 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The members of a room, with their profiles. A room that nobody is in has none.
#[utoipa::path(get, path = "/admin/v1/rooms/{room}/members", tag = "look", security(("token" = ["read"])),
    params(("room" = String, Path, description = "The room's name"), MembersQuery),
    responses((status = 200, description = "Members", body = Page<Member>)))]
pub(super) async fn members(
    state: Data<AdminState>,
    path: Path<String>,
    query: Query<MembersQuery>,
) -> Answered {
    let MembersQuery { namespace, after, limit } = query.0;
    let question = Question::Members {
        namespace: namespace.unwrap_or_else(|| "/".to_owned()),
        room: path.into_inner(),
        page: listing(after.as_deref(), limit)?,
    };
    let Answers { answer: Answer::Members(items, has_more), partial } =
        state.node.ask_cluster(question).await
    else {
        return Err(mixed_up());
    };
    Ok(page(items, has_more, partial))
}

/// Which sockets are asked for. Those that fit everything that is given.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SocketsQuery {
    /// Those of this namespace.
    namespace: Option<String>,
    /// Members of this room, in whichever namespace.
    room: Option<String>,
    /// Those that have shown a token of this subject.
    subject: Option<String>,
    /// Those of clients at this IP address.
    address: Option<String>,
    /// Those on this node, by its id or name.
    node: Option<String>,
    /// Begin behind this entry: what the page before gave as `next`.
    after: Option<String>,
    /// Most entries, 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The sockets of Socket.IO clients.
#[utoipa::path(get, path = "/admin/v1/sockets", tag = "look", security(("token" = ["read"])), params(SocketsQuery),
    responses((status = 200, description = "Sockets", body = Page<Socket>)))]
pub(super) async fn sockets(state: Data<AdminState>, query: Query<SocketsQuery>) -> Answered {
    let SocketsQuery { namespace, room, subject, address, node, after, limit } = query.0;
    let wrong = |_| Refused::bad("address", "address is not an IP address");
    let address = address.map(|address| address.parse()).transpose().map_err(wrong)?;
    let filter = SocketFilter { namespace, room, subject, address };
    let question = Question::Sockets { filter, page: listing(after.as_deref(), limit)? };
    let answers = match node {
        None => state.node.ask_cluster(question).await,
        Some(node) => state
            .node
            .ask_node(&node, question)
            .await
            .ok_or_else(|| Refused::bad("node", "no node has this id or name"))?,
    };
    let Answers { answer: Answer::Sockets(items, has_more), partial } = answers else {
        return Err(mixed_up());
    };
    Ok(page(items, has_more, partial))
}

/// Everything about one socket: transport, rooms with profiles, who its client is, what waits for it, since when.
#[utoipa::path(get, path = "/admin/v1/sockets/{id}", tag = "look", security(("token" = ["read"])),
    params(("id" = String, Path, description = "The socket's id")),
    responses((status = 200, description = "The socket", body = SocketDetails)))]
pub(super) async fn socket(state: Data<AdminState>, path: Path<String>, _: Query<Nothing>) -> Answered {
    let (until, question) = (Instant::now() + ANSWER_BY, Question::Socket { id: path.into_inner() });
    // One that has moved from a node that was asked late to one that was asked early has arrived by the second time.
    for is_last in [false, true] {
        let answers = state.node.ask_cluster_until(until, question.clone()).await;
        let Answers { answer: Answer::Socket(found), partial } = answers else { return Err(mixed_up()) };
        // Of one that is just moving, its new node knows more.
        if let Some(details) = found.into_iter().min_by_key(|details| details.is_moving) {
            return Ok(json(&details));
        }
        if is_last || !partial.is_empty() {
            return Err(missing("socket", partial));
        }
    }
    Err(missing("socket", Vec::new()))
}

/// That something is nowhere, as far as nodes have answered.
fn missing(what: &str, partial: Vec<Partial>) -> Refused {
    if partial.is_empty() {
        return Refused::not_found(format!("no node has this {what}"));
    }
    let names: Vec<&str> = partial.iter().map(|missing| missing.name.as_str()).collect();
    let detail = format!("no node that has answered has this {what}; {} did not answer", names.join(", "));
    Refused::incomplete(detail, partial)
}

/// Which peers are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PeersQuery {
    /// Those of the realm with this key; default all.
    key: Option<String>,
    /// Those whose ids begin so.
    prefix: Option<String>,
    /// Begin behind this entry: what the page before gave as `next`.
    after: Option<String>,
    /// Most entries, 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The PeerServer clients that hold an id.
#[utoipa::path(get, path = "/admin/v1/peers", tag = "look", security(("token" = ["read"])), params(PeersQuery),
    responses((status = 200, description = "Peers", body = Page<Peer>)))]
pub(super) async fn peers(state: Data<AdminState>, query: Query<PeersQuery>) -> Answered {
    let PeersQuery { key, prefix, after, limit } = query.0;
    let question = Question::Peers {
        key,
        prefix: prefix.unwrap_or_default(),
        is_whole: false,
        page: listing(after.as_deref(), limit)?,
    };
    let Answers { answer: Answer::Peers(items, has_more), partial } = state.node.ask_cluster(question).await
    else {
        return Err(mixed_up());
    };
    Ok(page(items, has_more, partial))
}

/// Which realm a peer is in.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PeerQuery {
    /// The realm's key; default that of the first realm that has the id.
    key: Option<String>,
}

/// One PeerServer client.
#[utoipa::path(get, path = "/admin/v1/peers/{id}", tag = "look", security(("token" = ["read"])),
    params(("id" = String, Path, description = "The peer's id"), PeerQuery),
    responses((status = 200, description = "The peer", body = Peer)))]
pub(super) async fn peer(state: Data<AdminState>, path: Path<String>, query: Query<PeerQuery>) -> Answered {
    let id = path.into_inner();
    let keys = &state.node.config().peer.keys;
    // A node of a version before `is_whole` gives those that begin with the id; in each realm the id itself is the first of them.
    let page = listing(None, Some(MAX_LIMIT))?;
    let question = Question::Peers { key: query.0.key, prefix: id.clone(), is_whole: true, page };
    let Answers { answer: Answer::Peers(found, _), partial } = state.node.ask_cluster(question).await else {
        return Err(mixed_up());
    };
    let realm = |peer: &Peer| keys.iter().position(|key| *key == peer.key);
    match found.into_iter().filter(|peer| peer.id == id).min_by_key(realm) {
        Some(peer) => Ok(json(&peer)),
        None => Err(missing("peer", partial)),
    }
}

/// How much goes through the nodes: averages over the last ten seconds.
#[utoipa::path(get, path = "/admin/v1/rates", tag = "look", security(("token" = ["read"])),
    responses((status = 200, description = "Rates, in total and node by node", body = ClusterRates)))]
pub(super) async fn rates(state: Data<AdminState>, _: Query<Nothing>) -> Answered {
    let Answers { answer: Answer::Rates(mut nodes), partial } = state.node.ask_cluster(Question::Rates).await
    else {
        return Err(mixed_up());
    };
    nodes.sort_by(|one, other| one.node.cmp(&other.node));
    let total = nodes.iter().fold(Rates::default(), |total, node| total.plus(node.rates));
    Ok(json(&ClusterRates { total, nodes, partial }))
}
