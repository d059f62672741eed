//! A node in an `HttpServer` and an `App` of one's own, beside other routes: its WebSockets are those of `actix-ws`.

use std::sync::Arc;

use actix_http::{StatusCode, header};
use actix_web::{
    HttpRequest, HttpResponse,
    dev::RequestHead,
    guard::fn_guard,
    middleware::from_fn,
    web::{self, Payload, ServiceConfig},
};
use signalbox_telemetry::CLIENT_EVENTS;

use super::{
    accept::Slot,
    cors::{self, Cors},
    http,
    message_stream::WebSocketStream,
    protocol::{Protocol, protocol},
    upgrade_request::{Refused, UpgradeRequest, begin},
};
use crate::{config::Config, shared::NodeShared};

/// Adds the routes of both protocols.
pub(crate) fn routes(node: Arc<NodeShared>, cors: Cors, routes: &mut ServiceConfig) {
    let guarded = node.clone();
    let is_ours = fn_guard(move |context| is_ours(context.head().uri.path(), &guarded.config));
    let handle = move |request: HttpRequest, payload: Payload| {
        let node = node.clone();
        async move {
            if asks_for_websocket(request.head()) {
                websocket(&node, &request, payload).await
            } else {
                http::handle(web::Data::from(node), request, payload).await
            }
        }
    };
    let scope = web::scope("").guard(is_ours).default_service(web::to(handle));
    routes.service(scope.wrap(from_fn(move |request, next| cors::middleware(cors.clone(), request, next))));
}

/// Whether a path is one of the protocols' own: where the PeerServer is mounted at the root, everything else there is somebody else's.
fn is_ours(path: &str, config: &Config) -> bool {
    match protocol(path, config) {
        Protocol::SocketIo => true,
        Protocol::Neither => false,
        Protocol::Peer(_) if !config.peer.path.is_empty() => true,
        Protocol::Peer(path) => match path.trim_matches('/').split_once('/') {
            None => path == "/peerjs",
            Some((key, resource)) => {
                let is_known = config.peer.keys.iter().any(|known| known == key);
                is_known && ["id", "peers"].iter().any(|known| resource.eq_ignore_ascii_case(known))
            }
        },
    }
}

fn asks_for_websocket(head: &RequestHead) -> bool {
    let upgrade = head.headers.get(header::UPGRADE).and_then(|upgrade| upgrade.to_str().ok());
    head.upgrade() && upgrade.is_some_and(|upgrade| upgrade.trim().eq_ignore_ascii_case("websocket"))
}

/// Answers a request for a WebSocket.
async fn websocket(node: &Arc<NodeShared>, request: &HttpRequest, payload: Payload) -> HttpResponse {
    let crowded = || HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, "1")).finish();
    let Some(mut slot) = Slot::take(&node.connection_slots, node.config.max_connections) else {
        node.count_dropped("max_connections");
        return crowded();
    };
    let Some(shard) = node.shard() else { return crowded() };
    let head = request.head();
    let mut asked = UpgradeRequest { node, head, of_address: None };
    let accepted = match asked.judge().await {
        Ok(accepted) => accepted.unless_stopping(node),
        Err(refused) => return refuse(&asked, refused),
    };
    slot.of_address = asked.of_address.take();
    let limits = asked.limits(&accepted);
    let Ok((mut response, session, messages)) = actix_ws::handle(request, payload) else {
        // Nothing that was judged good is refused there.
        return HttpResponse::BadRequest().finish();
    };
    if let Some(value) = asked.subprotocol().and_then(|name| name.parse().ok()) {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    let conn = accepted.conn(&asked, &shard);
    conn.connect(Box::new(WebSocketStream::new(session, messages, limits.max_payload)));
    begin(node, &shard, &conn, accepted, asked.address());
    shard.serve(conn, limits, Vec::new(), Box::new(slot));
    response
}

fn refuse(asked: &UpgradeRequest<'_>, Refused { status, message, header }: Refused) -> HttpResponse {
    let address = asked.address().map(tracing::field::display);
    tracing::debug!(target: CLIENT_EVENTS, address, status, message, "upgrade refused");
    let status = status.split(' ').next().and_then(|code| code.parse().ok());
    let mut response = HttpResponse::build(status.unwrap_or(StatusCode::BAD_REQUEST));
    response.force_close().insert_header((header::CONTENT_TYPE, "text/html"));
    for (name, value) in header.lines().filter_map(|line| line.split_once(": ")) {
        response.insert_header((name, value));
    }
    response.body(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_protocols_are_taken() {
        let mut config = Config::default();
        for path in ["/socket.io/", "/socket.io/x", "/peerjs", "/peerjs/id", "/peerjs/peers", "/peerjs/id/"] {
            assert!(is_ours(path, &config), "{path}");
        }
        for path in ["/", "/hello", "/peerjs/x", "/users/id", "/peerjs.js", "/socket.io", "/peerjs/id/x"] {
            assert!(!is_ours(path, &config), "{path}");
        }
        config.peer.path = "/calls".to_owned();
        assert!(is_ours("/calls", &config) && is_ours("/calls/peerjs/id", &config));
        assert!(!is_ours("/peerjs/id", &config) && !is_ours("/callsign", &config));
    }
}
