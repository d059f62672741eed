//! Every HTTP request of both protocols.

use actix_web::{HttpRequest, HttpResponse, web};

pub use super::not_found::not_found;
use super::{
    http1::Exchange,
    peers, polling,
    protocol::{Protocol, protocol},
};
use crate::shared::NodeShared;

/// Answers a request of either protocol; anything else is not found. An `App`'s default service.
pub(crate) async fn handle(
    node: web::Data<NodeShared>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    // Before anything is waited for, so that no more of a body is read than somebody counts.
    Exchange::hold_back(&request);
    match protocol(request.path(), &node.config) {
        Protocol::SocketIo => polling::handle(&node, &request, payload).await,
        Protocol::Peer(path) => peers::handle(&node, &request, path).await,
        Protocol::Neither => not_found(&request),
    }
}
