//! The node link of a node whose cluster shares Redis: where it listens, and the secret that nodes share.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use signalbox_cluster::{Cluster, NodeTag};
use signalbox_node_link::{Handler, Limits, Link, LinkHandle, LinkTls, Secret};

use super::{CannotConnect, OnSecret, RESPONSE, backend::Backend, calls::Context, commands::Commands};

/// How soon Redis is asked again for the cluster's secret.
const RETRY: Duration = Duration::from_millis(250);
/// How often a node looks whether Redis has the secret still.
const CHECK: Duration = Duration::from_secs(1);

/// Listens for other nodes; the socket, and the address at which they reach it.
pub(super) fn listen(
    backend: &Backend,
    at: Option<SocketAddr>,
) -> Result<(TcpListener, SocketAddr), CannotConnect> {
    let local = local_address(backend).unwrap_or_else(|| {
        if at.is_none_or(|at| at.ip().is_unspecified()) {
            // Nothing repairs it later: the others are told once.
            tracing::warn!(
                "no address of this machine reaches Redis yet: nodes on other machines cannot reach this one (set --cluster-addr, or start it when the name of Redis is known)"
            );
        }
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    });
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
    pub(super) on_secret: Option<OnSecret>,
    pub(super) tls: Option<Arc<LinkTls>>,
    pub(super) limits: Limits,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) handle: LinkHandle,
}

impl Service {
    /// Serves the link once the cluster's secret is known, until the node ends.
    pub(super) async fn run(self, backend: &Backend, context: &Arc<Context>, cluster: &Cluster) {
        let Self { listener, tag, secret, on_secret, tls, limits, handler, handle } = self;
        let mut shared = SharedSecret::new(backend, context);
        let text = match &secret {
            Some(secret) => secret.clone(),
            None => shared.first().await,
        };
        let known = |secret: &str| {
            cluster.set_token_secret(Instant::now(), secret);
            on_secret.iter().for_each(|told| told(secret));
        };
        known(&text);
        match Link::serve(listener, tag, Secret::new(&text), tls, limits, handler) {
            Ok(link) => {
                handle.set(link.clone());
                if secret.is_none() {
                    shared.keep(text, &link, known).await;
                }
            }
            Err(error) => tracing::error!(%error, "the node link cannot be served"),
        }
        std::future::pending().await
    }
}

/// The secret that nodes without one of their own share through Redis: the first node makes it.
struct SharedSecret {
    key: Bytes,
    commands: Commands,
}

impl SharedSecret {
    fn new(backend: &Backend, context: &Arc<Context>) -> Self {
        let commands = Commands::new(backend, context.clone(), RESPONSE);
        Self { key: context.keys.nodes("secret"), commands }
    }

    /// The secret; makes one if there is none.
    async fn first(&mut self) -> String {
        let proposal = Secret::random();
        loop {
            if let Some(secret) = self.agree(&proposal).await {
                return secret;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Writes the secret again where Redis has lost it. Where another node was faster with a new one, all nodes take that.
    async fn keep(&mut self, mut secret: String, link: &Link, known: impl Fn(&str)) {
        loop {
            tokio::time::sleep(CHECK).await;
            if let Some(agreed) = self.agree(&secret).await {
                if link.set_secret(Secret::new(&agreed)) {
                    tracing::info!("the nodes have agreed on another secret for the node link");
                    known(&agreed);
                }
                secret = agreed;
            }
        }
    }

    /// What Redis has, which is `proposal` if it had none; `None` if Redis is away.
    async fn agree(&mut self, proposal: &str) -> Option<String> {
        let (mut make, mut get) = (redis::cmd("SETNX"), redis::cmd("GET"));
        make.arg(&self.key[..]).arg(proposal);
        get.arg(&self.key[..]);
        match self.commands.send(vec![make, get]).await.into_iter().nth(1) {
            Some(Ok(redis::Value::BulkString(secret))) => String::from_utf8(secret).ok(),
            _ => None,
        }
    }
}
