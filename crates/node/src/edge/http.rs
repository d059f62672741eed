//! Every HTTP request of both protocols.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{ConnectionType, header},
    web,
};

pub use super::not_found::not_found;
use super::{
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
    let mut response = match protocol(request.path(), &node.config) {
        Protocol::SocketIo => polling::handle(&node, &request, payload).await,
        Protocol::Peer(path) => peers::handle(&node, &request, path).await,
        Protocol::Neither => not_found(&request),
    };
    if request.headers().contains_key(header::UPGRADE) {
        // The upgrade was not taken; the connection is not what the client wanted it to become.
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}
