//! The node link: TCP between the nodes of a cluster. It carries what cannot go through the shared store: requests for sessions
//! that live on another node, and sessions that move. It works while the store is away.
//!
//! - `stream`: a connection, in TLS or not; `tls`: the certificates for it.
//! - `handshake`: both ends prove that they know the cluster's secret, and say which node they are.
//! - `frame`: length-prefixed frames; `seal`: how they are encrypted.
//! - `outgoing`: a connection to another node, opened when it is needed: requests, notices, and the responses that come back.
//! - `incoming`: a connection of another node to this one. `strangers`: those that have not proved yet that they are.
//! - `resume`: a connection that breaks is opened again, and goes on where it was.
//!
//! There is one connection for each direction between two nodes; what is sent on it keeps its order. It is encrypted with keys that the
//! handshake makes from the cluster's secret, or by TLS; with nodes of the previous version it is authenticated only.
//!
//! | what happens | what becomes of requests without a response |
//! |---|---|
//! | the connection breaks, and can be opened again | nothing: what was on its way is sent again, everything arrives once and in order |
//! | nobody listens at the node's address any more, or the node has left the cluster | [`LinkError::Broken`], at once |
//! | another node listens there | [`LinkError::Broken`], after half a second |
//! | the node is not heard of for [`Limits::silence`] | [`LinkError::Broken`] |
//! | it is of a version that cannot resume, and the connection breaks | [`LinkError::Broken`], at once |

mod frame;
mod handshake;
mod incoming;
mod outgoing;
mod resume;
mod seal;
mod strangers;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    future::{self, Future},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ahash::AHashMap;
use bytes::Bytes;
use parking_lot::Mutex;
use signalbox_cluster::{Cluster, NodeTag, envelope::Format};
use tokio::{net::TcpListener, runtime::Handle, sync::oneshot};

pub use handshake::Secret;
pub use incoming::Responder;
pub use tls::{LinkTls, TlsError, TlsFiles};

use outgoing::{Outbound, Outgoing};

/// Sizes and times.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest frame in bytes; default 16 MiB: a POST, or a session with what waits for it.
    pub frame: usize,
    /// Most bytes that wait to be sent to one node; default 8 MiB.
    pub waiting: usize,
    /// How long a connection may take to open and to be authenticated; default 1 s.
    pub connect: Duration,
    /// How long an unused connection stays open; default 60 s.
    pub idle: Duration,
    /// A node that owes a response and sends nothing for this long counts as gone; default 4 s.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: 16 << 20,
            waiting: 8 << 20,
            connect: Duration::from_secs(1),
            idle: Duration::from_secs(60),
            silence: Duration::from_secs(4),
        }
    }
}

/// Another node, and how its link is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RemoteNode {
    /// The node; another one that answers at the address is refused.
    pub tag: NodeTag,
    /// The address.
    pub addr: SocketAddr,
    /// It is of the previous version, whose connections are not encrypted.
    pub is_previous: bool,
    /// It takes connections in TLS.
    pub takes_tls: bool,
}

impl RemoteNode {
    /// A node of this version, which does not use TLS.
    pub fn new(tag: NodeTag, addr: SocketAddr) -> Self {
        Self { tag, addr, is_previous: false, takes_tls: false }
    }

    /// A node that the cluster knows.
    pub fn find(cluster: &Cluster, tag: NodeTag) -> Option<Self> {
        let nodes = cluster.nodes();
        let node = nodes.get(&tag)?;
        let is_previous = !node.reads.contains(Format::V2);
        Some(Self { tag, addr: node.link?, is_previous, takes_tls: node.takes_tls })
    }
}

/// Why a request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens there, or nobody answers in time. The request was not sent.
    #[error("the node cannot be reached")]
    Unreachable,
    /// Another node listens there, or one of another cluster or version. The request was not sent.
    #[error("the node is not who it should be")]
    WrongNode,
    /// Too much waits for the node already. The request was not sent.
    #[error("too much waits for the node")]
    Full,
    /// The node refused to respond.
    #[error("the node refused")]
    Refused,
    /// The connection broke for good: the node may have done what it was asked.
    #[error("the connection to the node broke")]
    Broken,
}

/// Where a node's link listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// At this address.
    At(SocketAddr),
    /// Nobody knows.
    Unknown,
    /// The node has left the cluster.
    Gone,
}

/// Takes what other nodes send.
pub trait Handler: Send + Sync {
    /// A request. The response may be given later, from any thread; dropping the responder refuses the request.
    fn request(&self, from: NodeTag, kind: u8, body: Bytes, responder: Responder);
    /// A notice, which needs no response.
    fn notice(&self, from: NodeTag, kind: u8, body: Bytes);
    /// What a node has sent may be lost: its connection has broken, and it has not gone on over another one, or has begun anew. Mostly it
    /// has died.
    fn node_lost(&self, _: NodeTag) {}
    /// Where a node's link listens: where nobody does, the node has died.
    fn whereabouts(&self, _: NodeTag) -> Whereabouts {
        Whereabouts::Unknown
    }
    /// Whether a node is known to be of the previous version. It may be looked up meanwhile; one that is not known is not.
    fn is_previous(&self, _: NodeTag) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(future::ready(false))
    }
}

/// A node's link to all others. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    addr: SocketAddr,
}

/// A node's [`Link`], once there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LinkHandle(Arc<OnceLock<Link>>);

impl LinkHandle {
    /// The link, if it is there already.
    pub fn get(&self) -> Option<&Link> {
        self.0.get()
    }

    /// The link is there. Later ones are ignored.
    pub fn set(&self, link: Link) {
        let _ = self.0.set(link);
    }
}

struct Shared {
    tag: NodeTag,
    /// It changes when the nodes agree on another one.
    secret: Mutex<Secret>,
    /// The reasons of the refusals that were logged last, and when: a node that tries again and again does not fill the log.
    refusals_logged: Mutex<Vec<(String, Instant)>>,
    limits: Limits,
    /// Where TLS is on.
    tls: Option<Arc<LinkTls>>,
    runtime: Handle,
    handler: Arc<dyn Handler>,
    outgoing: Mutex<AHashMap<RemoteNode, Arc<Outgoing>>>,
    /// The number of the last request.
    numbers: AtomicU64,
}

/// How often a refusal for one reason is logged at most.
const REFUSAL_LOGGED: Duration = Duration::from_secs(10);
/// For how many reasons in that time.
const REASONS_LOGGED: usize = 8;

impl Shared {
    fn secret(&self) -> Secret {
        self.secret.lock().clone()
    }

    /// Logs that something failed, for each reason now and then.
    fn log_refusal(&self, addr: SocketAddr, what: &'static str, reason: &str) {
        let logged = &mut *self.refusals_logged.lock();
        logged.retain(|(_, at)| at.elapsed() < REFUSAL_LOGGED);
        if logged.len() < REASONS_LOGGED && logged.iter().all(|(known, _)| known != reason) {
            logged.push((reason.to_owned(), Instant::now()));
            tracing::warn!(%addr, reason, "{what}");
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Link {
    /// Serves a listening socket, on the runtime it is called in.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn serve(
        listener: std::net::TcpListener,
        tag: NodeTag,
        secret: Secret,
        tls: Option<Arc<LinkTls>>,
        limits: Limits,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            tag,
            secret: Mutex::new(secret),
            refusals_logged: Mutex::default(),
            limits,
            tls,
            runtime: Handle::current(),
            handler,
            outgoing: Mutex::default(),
            numbers: AtomicU64::new(0),
        });
        if let Some(tls) = shared.tls.clone() {
            tokio::spawn(tls.watch());
        }
        tokio::spawn(incoming::accept(listener, shared.clone()));
        Ok(Self { shared, addr })
    }

    /// The secret for connections from now on; those that are open stay. Returns whether it is another one.
    pub fn set_secret(&self, secret: Secret) -> bool {
        let known = &mut *self.shared.secret.lock();
        let is_new = *known != secret;
        *known = secret;
        is_new
    }

    /// Runs something that waits for a response, from wherever this is called: nobody but the link may have a runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.runtime.spawn(task);
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a request to a node. Dropping the future tells the node that the response is not wanted any more.
    pub fn request(
        &self,
        to: RemoteNode,
        kind: u8,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes, LinkError>> + Send + 'static {
        let (reply, response) = oneshot::channel();
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let sent = self.send(to, Outbound::Request { number, kind, body, reply });
        let link = self.clone();
        async move {
            sent?;
            let mut cancel = CancelOnDrop { link, to, number: Some(number) };
            let response = response.await.unwrap_or(Err(LinkError::Broken));
            cancel.number = None;
            response
        }
    }

    /// Sends a notice to a node, in order with the requests to it.
    ///
    /// # Errors
    /// Too much waits for the node already.
    pub fn notify(&self, to: RemoteNode, kind: u8, body: Bytes) -> Result<(), LinkError> {
        self.send(to, Outbound::Notice { kind, body })
    }

    fn send(&self, to: RemoteNode, outbound: Outbound) -> Result<(), LinkError> {
        let outgoing = &mut *self.shared.outgoing.lock();
        let outbound = match outgoing.get(&to) {
            Some(connection) => match connection.send(outbound) {
                Ok(sent) => return sent,
                // It has ended this very moment; a new one is opened.
                Err(outbound) => outbound,
            },
            None => outbound,
        };
        let connection = Outgoing::open(self.shared.clone(), to);
        let sent = connection.send(outbound).unwrap_or(Err(LinkError::Broken));
        outgoing.insert(to, connection);
        sent
    }
}

/// Tells the node when the future of a request is dropped.
struct CancelOnDrop {
    link: Link,
    to: RemoteNode,
    number: Option<u64>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            let connection = self.link.shared.outgoing.lock().get(&self.to).cloned();
            if let Some(connection) = connection {
                let _ = connection.send(Outbound::Cancel { number });
            }
        }
    }
}
