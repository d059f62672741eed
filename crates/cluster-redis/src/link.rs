//! The node link of a node whose cluster shares Redis: where it listens, and the secret that nodes share.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
    time::Duration,
};

use signalbox_cluster::NodeTag;
use signalbox_node_link::{Handler, Limits, Link, LinkHandle, Secret};

use super::{CannotConnect, RESPONSE, backend::Backend, calls::Context, commands::Commands};

/// How soon Redis is asked again for the cluster's secret.
const RETRY: Duration = Duration::from_millis(250);

/// Listens for other nodes; the socket, and the address at which they reach it.
pub(super) fn listen(
    backend: &Backend,
    at: Option<SocketAddr>,
) -> Result<(TcpListener, SocketAddr), CannotConnect> {
    let local = local_address(backend).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let at = at.unwrap_or(SocketAddr::new(local, 0));
    let failed = |error| CannotConnect::Listen(at, error);
    let listener = TcpListener::bind(at).map_err(failed)?;
    let mut reached = listener.local_addr().map_err(failed)?;
    if reached.ip().is_unspecified() {
        reached.set_ip(local);
    }
    Ok((listener, reached))
}

/// The address of this machine from which it reaches Redis. Connecting a datagram socket tells it, and sends nothing.
fn local_address(backend: &Backend) -> Option<IpAddr> {
    let (host, port) = backend.address()?;
    let to = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A link that is to be served.
pub(super) struct Service {
    pub(super) listener: TcpListener,
    pub(super) tag: NodeTag,
    pub(super) secret: Option<String>,
    pub(super) limits: Limits,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) handle: LinkHandle,
}

impl Service {
    /// Serves the link once the cluster's secret is known, until the node ends.
    pub(super) async fn run(self, backend: &Backend, context: &Arc<Context>) {
        let Self { listener, tag, secret, limits, handler, handle } = self;
        let secret = match secret {
            Some(secret) => secret,
            None => shared_secret(backend, context).await,
        };
        match Link::serve(listener, tag, Secret::new(&secret), limits, handler) {
            Ok(link) => handle.set(link),
            Err(error) => tracing::error!(%error, "the node link cannot be served"),
        }
        std::future::pending().await
    }
}

/// The secret that nodes without one of their own share through Redis: the first node makes it.
async fn shared_secret(backend: &Backend, context: &Arc<Context>) -> String {
    let key = context.keys.nodes("secret");
    let mut commands = Commands::new(backend, context.clone(), RESPONSE);
    loop {
        let (mut make, mut get) = (redis::cmd("SETNX"), redis::cmd("GET"));
        make.arg(&key[..]).arg(Secret::random());
        get.arg(&key[..]);
        let answers = commands.send(vec![make, get]).await;
        if let Some(Ok(redis::Value::BulkString(secret))) = answers.into_iter().nth(1)
            && let Ok(secret) = String::from_utf8(secret)
        {
            return secret;
        }
        tokio::time::sleep(RETRY).await;
    }
}
