//! What holds for every answer: heads that were refused before the dispatcher are answered here, refusals are logged with whom they concern, and a
//! node that ends says so on each connection.

use std::rc::Rc;

use actix_http::ConnectionType;
use actix_web::{
    Error, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};
use signalbox_telemetry::CLIENT_EVENTS;

use super::{client, http1::Exchange};
use crate::shared::NodeShared;

/// The outermost middleware.
pub(crate) async fn middleware<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let exchange = request.conn_data::<Rc<Exchange>>().cloned();
    if let Some(exchange) = &exchange {
        exchange.begun();
    }
    let node = request.app_data::<web::Data<NodeShared>>().cloned();
    let response = match exchange.as_ref().and_then(|exchange| exchange.refusal()) {
        Some(status) => {
            if let Some(node) = &node {
                node.metrics.http_errors.inc();
            }
            let response = HttpResponse::build(status).force_close().finish();
            Ok(request.into_response(response).map_into_right_body())
        }
        None => next.call(request).await.map(ServiceResponse::map_into_left_body),
    };
    if let Some(exchange) = exchange {
        exchange.answered();
    }
    let mut response = response?;
    let Some(node) = node else { return Ok(response) };
    if node.client_log.is_on() {
        let request = response.request();
        let address = client::address_of(request.headers(), request.peer_addr(), &node.config);
        node.tell_story(address, "request", response.status().as_str());
    }
    if response.status().is_client_error() || response.status().is_server_error() {
        let (request, status) = (response.request(), response.status().as_u16());
        let address = client::address_of(request.headers(), request.peer_addr(), &node.config);
        tracing::debug!(target: CLIENT_EVENTS, address = address.map(tracing::field::display), status, "request refused");
    }
    if node.lifecycle.is_stopping() {
        // A proxy that keeps its connections would send the next request to nobody.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}
