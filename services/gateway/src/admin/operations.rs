//! Long operations: what begins them, how far they are, and what stops them.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use serde::Deserialize;
use signalbox_admin::{
    Page, Row as _,
    operations::{Operation, OperationKind, OperationStatus, RebalanceRequest},
};
use signalbox_node::admin::{CannotBegin, Listing, MAX_RATE, StoreAway};
use utoipa::IntoParams;

use super::{
    look::page,
    order::Order,
    problem::Refused,
    request::{Nothing, Query, json, listing},
    state::AdminState,
};

type Answered = Result<HttpResponse, Refused>;

fn refused(why: &CannotBegin) -> Refused {
    match why {
        CannotBegin::Busy(_) => Refused::conflict_with("operation-runs", why.to_string()),
        CannotBegin::NoSuchNode => Refused::not_found(why.to_string()),
        CannotBegin::OlderNode => Refused::conflict_with("older-node", why.to_string()),
        CannotBegin::Away | CannotBegin::Full | CannotBegin::Unknown => Refused::busy(why.to_string()),
    }
}

/// What the log calls it.
fn name(operation: &Operation) -> Option<&str> {
    Some(&operation.id)
}

fn away(_: StoreAway) -> Refused {
    Refused::busy("Redis is away, and operations are kept there (try again when it is back)")
}

fn unknown() -> Refused {
    Refused::not_found(
        "there is no such operation (those that are over are kept for a week, the latest hundred of them)",
    )
}

/// Which operations are asked for. Those that fit everything that is given.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OperationsQuery {
    /// Those that do this.
    #[param(inline)]
    kind: Option<OperationKind>,
    /// Those that are so far.
    #[param(inline)]
    status: Option<OperationStatus>,
    /// Those that this node runs, by its id or name: a drain is run by the node that drains.
    node: Option<String>,
    /// Begin behind this entry: what the page before gave as `next`.
    after: Option<String>,
    /// Most entries, 1 to 1,000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The operations that are known, the latest first: those that run, and a hundred of those that are over, for a week.
///
/// They are kept in Redis, so no node is asked for them, and `partial` is empty.
#[utoipa::path(get, path = "/admin/v1/operations", tag = "act", security(("token" = ["read"])), params(OperationsQuery),
    responses((status = 200, description = "Operations", body = Page<Operation>)))]
pub(super) async fn operations(state: Data<AdminState>, query: Query<OperationsQuery>) -> Answered {
    let OperationsQuery { kind, status, node, after, limit } = query.0;
    let Listing { after, limit } = listing(after.as_deref(), limit)?;
    let is_meant = |operation: &Operation| {
        let is_run_by = |node: &String| [&operation.runner, &operation.runner_name].contains(&node);
        kind.is_none_or(|kind| operation.kind == kind)
            && status.is_none_or(|status| operation.status == status)
            && node.as_ref().is_none_or(is_run_by)
            && after.as_ref().is_none_or(|after| operation.cursor() > *after)
    };
    let all = state.node.operations().await.map_err(away)?;
    let mut items: Vec<Operation> = all.into_iter().filter(is_meant).collect();
    let has_more = items.len() > limit;
    items.truncate(limit);
    Ok(page(items, has_more, Vec::new()))
}

/// How far an operation is.
#[utoipa::path(get, path = "/admin/v1/operations/{id}", tag = "act", security(("token" = ["read"])),
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The operation", body = Operation)))]
pub(super) async fn operation(state: Data<AdminState>, path: Path<String>, _: Query<Nothing>) -> Answered {
    let all = state.node.operations().await.map_err(away)?;
    let found = all.into_iter().find(|operation| operation.id == *path);
    found.map(|operation| json(&operation)).ok_or_else(unknown)
}

/// Stops an operation. What it has done stays done; a node whose drain is stopped takes clients again.
///
/// The answer has the status `stopping`, and `stopped` follows within seconds. One that is over stays as it is.
#[utoipa::path(delete, path = "/admin/v1/operations/{id}", tag = "act", security(("token" = ["control"])),
    params(("id" = String, Path, description = "Its id"),
        ("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "The operation", body = Operation)))]
pub(super) async fn stop_operation(order: Order, path: Path<String>) -> Answered {
    let (id, node, until) = (path.into_inner(), order.state.node.clone(), order.until());
    let about = id.clone();
    let stop = async move { node.stop_operation(&id, until).await.map_err(away)?.ok_or_else(unknown) };
    order.run(about, stop).await
}

/// Rebalances the cluster: the nodes with the most Socket.IO clients send some away, until all nodes have equally many.
///
/// Those are told nothing but that their transport is closed, so that they connect again, through the load balancer. PeerServer clients are
/// left alone. It goes on when the node that runs it ends.
#[utoipa::path(post, path = "/admin/v1/rebalance", tag = "act", security(("token" = ["control"])), request_body = RebalanceRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "The operation that has begun", body = Operation)))]
pub(super) async fn rebalance(order: Order) -> Answered {
    let RebalanceRequest { rate } = order.read()?;
    if !(1..=MAX_RATE).contains(&rate) {
        return Err(Refused::bad("rate", format!("rate is not between 1 and {MAX_RATE}")));
    }
    let (new, node) = (order.new_operation(), order.state.node.clone());
    let begin = async move { node.begin_rebalance(rate, &new).await.map_err(|why| refused(&why)) };
    order.run_named(format!("{rate} clients a second"), begin, name).await
}

/// Drains a node, as a signal does: it is not ready any more, disconnects its clients one after the other, and ends.
#[utoipa::path(post, path = "/admin/v1/nodes/{node}/drain", tag = "act", security(("token" = ["control"])),
    params(("node" = String, Path, description = "Its id, or its name"),
        ("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "The operation that has begun", body = Operation)))]
pub(super) async fn drain(order: Order, path: Path<String>) -> Answered {
    let (drained, node, new) = (path.into_inner(), order.state.node.clone(), order.new_operation());
    let about = drained.clone();
    let begin = async move { node.begin_drain(&drained, &new).await.map_err(|why| refused(&why)) };
    order.run_named(about, begin, name).await
}
