//! Long operations: what begins them, how far they are, and what stops them.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use signalbox_admin::operations::{Operation, OperationList, RebalanceRequest};
use signalbox_node::admin::{CannotBegin, MAX_RATE, StoreAway};

use super::{
    order::Order,
    problem::Refused,
    request::{Nothing, Query, json},
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

/// All operations that are known: those that run first, then the latest.
#[utoipa::path(get, path = "/admin/v1/operations", tag = "act", security(("token" = ["read"])),
    responses((status = 200, description = "Operations", body = OperationList)))]
pub(super) async fn operations(state: Data<AdminState>, _: Query<Nothing>) -> Answered {
    let items = state.node.operations().await.map_err(away)?;
    Ok(json(&OperationList { items }))
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
