//! Which protocol a path belongs to.

use crate::config::Config;

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
