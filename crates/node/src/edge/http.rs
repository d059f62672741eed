//! Every HTTP request of both protocols.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{ConnectionType, header},
    web,
};

use super::{peers, polling};
use crate::{config::Config, shared::NodeShared};

/// Which protocol a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol<'a> {
    SocketIo,
    /// The path below the PeerServer's mount.
    Peer(&'a str),
    Neither,
}

/// The protocol of a path. Socket.IO's path is a prefix; the PeerServer's mount is compared without regard to case, as the
/// reference's router does.
pub(crate) fn protocol<'a>(path: &'a str, config: &Config) -> Protocol<'a> {
    if path.starts_with(&config.socketio_path) {
        return Protocol::SocketIo;
    }
    let mount = &config.peer.path;
    match path.split_at_checked(mount.len()) {
        Some((start, rest))
            if start.eq_ignore_ascii_case(mount) && (rest.is_empty() || rest.starts_with('/')) =>
        {
            Protocol::Peer(rest)
        }
        _ => Protocol::Neither,
    }
}

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

/// 404, with a word on what was asked for.
pub fn not_found(request: &HttpRequest) -> HttpResponse {
    let path: String = request.path().chars().flat_map(|c| c.escape_default()).collect();
    let path = path.replace('&', "&amp;").replace('<', "&lt;");
    HttpResponse::NotFound()
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'"))
        .body(format!(
            "<!DOCTYPE html>\n<title>Error</title>\n<pre>Cannot {} {path}</pre>\n",
            request.method()
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_protocol() {
        let mut config = Config::default();
        assert_eq!(protocol("/socket.io/", &config), Protocol::SocketIo);
        assert_eq!(protocol("/socket.io/anything", &config), Protocol::SocketIo);
        assert_eq!(protocol("/socket.io", &config), Protocol::Peer("/socket.io"));
        assert_eq!(protocol("/peerjs/id", &config), Protocol::Peer("/peerjs/id"));
        config.peer.path = "/myapp".to_owned();
        assert_eq!(protocol("/MyApp/peerjs/id", &config), Protocol::Peer("/peerjs/id"));
        assert_eq!(protocol("/myapp", &config), Protocol::Peer(""));
        assert_eq!(protocol("/myapplication", &config), Protocol::Neither);
        assert_eq!(protocol("/peerjs/id", &config), Protocol::Neither);
    }
}
