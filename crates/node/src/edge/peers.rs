//! The HTTP requests of PeerServer: `GET {path}/{key}/id`, `GET {path}/{key}/peers`, and `GET {path}`.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, http::Method, http::header};
use signalbox_peerserver::key_of_path;

use super::{client, not_found::not_found, polling::turned_away};
use crate::{
    policy::{AccessRequest, Decided},
    routing::Reply,
    shared::NodeShared,
};

/// What the reference answers to `GET {path}`; health checks compare it.
const INFO: &str = concat!(
    r#"{"name":"PeerJS Server","description":"A server side element to broker connections between "#,
    r#"PeerJS clients.","website":"https://peerjs.com/"}"#
);

/// Answers a request; `path` is the part below the mount.
pub(crate) async fn handle(node: &NodeShared, request: &HttpRequest, path: &str) -> HttpResponse {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_found(request);
    }
    // The reference's router tolerates more slashes behind a mount, but not at the root.
    let is_mounted = !node.config.peer.path.is_empty();
    if !is_mounted && path.starts_with("//") {
        return not_found(request);
    }
    let path = path.trim_start_matches('/');
    let path = path.strip_suffix('/').unwrap_or(path);
    let Some((key, resource)) = path.split_once('/') else {
        return if path.is_empty() {
            HttpResponse::Ok()
                .insert_header((header::CONTENT_TYPE, "application/json; charset=utf-8"))
                .body(INFO)
        } else {
            not_found(request)
        };
    };
    let resource = resource.trim_start_matches('/');
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.as_bytes());
    if !client::origin_allowed(origin, &node.config) {
        node.metrics.handshakes.with_label_values(&["peerserver", "forbidden"]).inc();
        return HttpResponse::Forbidden()
            .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
            .body("Forbidden");
    }
    if key.is_empty() {
        not_found(request)
    } else if resource.eq_ignore_ascii_case("id") {
        id(node, key)
    } else if resource.eq_ignore_ascii_case("peers") {
        peers(node, request, key).await
    } else {
        not_found(request)
    }
}

/// The realm of a key; the reference checks the key nowhere but in the WebSocket's URL, so a wrong one is no error here.
fn realm(node: &NodeShared, key: &str) -> Option<u16> {
    let key = key_of_path(key);
    node.config.peer.keys.iter().position(|known| *known == *key).map(|realm| realm as u16)
}

/// A fresh id. It is not reserved.
fn id(node: &NodeShared, key: &str) -> HttpResponse {
    let realm = realm(node, key);
    let id = loop {
        let id = node.policy.generate_id(&key_of_path(key));
        let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if !realm.is_some_and(|realm| node.cluster.is_held(Instant::now(), realm, &id)) {
            break id;
        }
    };
    // A cached id would be given to two clients.
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(id)
}

async fn peers(node: &NodeShared, request: &HttpRequest, key: &str) -> HttpResponse {
    if !node.config.peer.allow_discovery {
        return HttpResponse::Unauthorized()
            .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
            .body("Unauthorized");
    }
    let handshake =
        client::handshake(request.headers(), request.query_string(), request.peer_addr(), &node.config);
    let realm_key = key_of_path(key);
    let ask = AccessRequest::Discover { handshake: &handshake, key: &realm_key };
    let shows_token = node.policy.judges_token(None, &ask);
    if shows_token && let Err(away) = node.let_in_token(handshake.address) {
        return turned_away(&away);
    }
    if let Decided::Deny(denial) = node.policy.decide(None, ask).decided().await {
        if shows_token && !denial.is_unjudged() {
            node.gate.bad_token(Instant::now(), handshake.address);
        }
        node.metrics.refusals.with_label_values(&[denial.code]).inc();
        return HttpResponse::Unauthorized()
            .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
            .body(denial.message);
    }
    let ids = match (realm(node, key), node.shard()) {
        (Some(realm), Some(shard)) => {
            let (reply, ids) = Reply::channel();
            shard.with(|shard, _| shard.list_peers(realm, reply));
            ids.await.unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/json; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(serde_json::to_string(&ids).unwrap_or_default())
}
