//! The address of a server, and the requests that open a session there.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::{Endpoint, Protocol};

/// A server, such as `http://127.0.0.1:9000`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Host and port as they were given, for `Host`.
    host: String,
    address: SocketAddr,
    /// What goes before `/socket.io/` and `/peerjs`; no slash at its end.
    path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!(
                "{url:?} is not an http:// address (TLS is not spoken: aim behind what ends it)"
            ));
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let with_port = if port.is_some() { host.to_owned() } else { format!("{host}:80") };
        let mut addresses =
            with_port.to_socket_addrs().map_err(|error| format!("{host:?} has no address: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{host:?} has no address"))?;
        Ok(Self { host: host.to_owned(), address, path: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

impl Target {
    /// Socket.IO over a WebSocket from the first request on.
    pub(crate) fn socketio(&self) -> Endpoint {
        self.socketio_with("")
    }

    /// The same with a token in its header.
    pub(crate) fn socketio_as(&self, token: &str) -> Endpoint {
        self.socketio_with(&format!("Authorization: Bearer {token}\r\n"))
    }

    fn socketio_with(&self, headers: &str) -> Endpoint {
        let path = format!("{}/socket.io/?EIO=4&transport=websocket", self.path);
        self.endpoint(Protocol::SocketIo, self.upgrade(&path, headers))
    }

    /// A PeerServer client with this id.
    pub(crate) fn peerserver(&self, id: &str) -> Endpoint {
        self.peerserver_as(id, id)
    }

    /// The same with this token.
    pub(crate) fn peerserver_as(&self, id: &str, token: &str) -> Endpoint {
        let path = format!("{}/peerjs?key=peerjs&id={id}&token={token}&version=1.5.5", self.path);
        self.endpoint(Protocol::PeerServer, self.upgrade(&path, ""))
    }

    /// The handshake of long-polling, on a connection that goes on polling.
    pub(crate) fn polling(&self) -> Endpoint {
        self.endpoint(Protocol::Http, self.get(None))
    }

    /// A second connection of a polling client, for what it sends.
    pub(crate) fn posting(&self, sid: &str, payload: &[u8]) -> Endpoint {
        self.endpoint(Protocol::Http, self.post(sid, payload))
    }

    /// The WebSocket to which a polling session is upgraded.
    pub(crate) fn upgrading(&self, sid: &str) -> Endpoint {
        let path = format!("{}/socket.io/?EIO=4&transport=websocket&sid={sid}", self.path);
        self.endpoint(Protocol::WebSocket, self.upgrade(&path, ""))
    }

    /// A poll; without a session, its handshake.
    pub(crate) fn get(&self, sid: Option<&str>) -> Vec<u8> {
        let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let Self { host, path, .. } = self;
        format!("GET {path}/socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n")
            .into_bytes()
    }

    /// What a polling client sends.
    pub(crate) fn post(&self, sid: &str, payload: &[u8]) -> Vec<u8> {
        let Self { host, path, .. } = self;
        let length = payload.len();
        let head = format!(
            "POST {path}/socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), payload].concat()
    }

    /// A GET of a program, with these further headers, each with its line ending.
    pub(crate) fn request(&self, path: &str, headers: &str) -> Vec<u8> {
        let host = &self.host;
        format!("GET {}{path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{headers}\r\n", self.path)
            .into_bytes()
    }

    /// A connection for such requests, which begins with this one.
    pub(crate) fn http(&self, request: &[u8]) -> Endpoint {
        self.endpoint(Protocol::Http, request.to_vec())
    }

    /// About the size of a browser's request, since servers keep parts of it, with these further headers, each with its line ending.
    /// Compression is not offered.
    fn upgrade(&self, path: &str, headers: &str) -> Vec<u8> {
        let host = &self.host;
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
             Upgrade: websocket\r\nOrigin: http://{host}\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
             Accept-Language: en-US,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
        .into_bytes()
    }

    fn endpoint(&self, protocol: Protocol, request: Vec<u8>) -> Endpoint {
        Endpoint { server: self.address, protocol, request: Rc::from(request) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path_and_no_port() {
        let target: Target = "http://127.0.0.1/app/".parse().unwrap();
        assert_eq!(target.to_string(), "http://127.0.0.1/app");
        assert_eq!(target.address.port(), 80);
        assert!(String::from_utf8(target.get(None)).unwrap().starts_with("GET /app/socket.io/?EIO=4"));
    }

    #[test]
    fn tls_is_refused_with_its_remedy() {
        assert!("https://a.example".parse::<Target>().unwrap_err().contains("aim behind what ends it"));
    }
}
