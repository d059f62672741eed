//! The streams of other nodes, which outlive their connections: when one breaks, its stream waits for another.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use signalbox_cluster::NodeTag;
use tokio::{
    net::TcpStream,
    sync::{
        OwnedMutexGuard,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot, watch,
    },
    time::{Duration, Instant, sleep, timeout},
};

use crate::{
    Handler, Shared,
    frame::Frame,
    resume::{Progress, Resume, Resumed, StreamId},
};

/// How often it is looked whether the process is still there whose connection broke, and how long that may take. It comes back sooner than
/// that if it can.
const PROBE: Duration = Duration::from_millis(150);

/// What outlives a connection.
pub(super) struct StreamState {
    pub(super) progress: Progress,
    /// Requests without a response, by number. Dropping the sender tells the responder that the response is not wanted any more.
    pub(super) in_flight: AHashMap<u64, oneshot::Sender<()>>,
    pub(super) responses: UnboundedSender<Frame>,
    pub(super) to_write: UnboundedReceiver<Frame>,
}

impl StreamState {
    fn new(progress: Progress) -> Arc<tokio::sync::Mutex<Self>> {
        let (responses, to_write) = unbounded_channel();
        Arc::new(tokio::sync::Mutex::new(Self { progress, in_flight: AHashMap::new(), responses, to_write }))
    }
}

type Key = (NodeTag, StreamId);

struct Stream {
    state: Arc<tokio::sync::Mutex<StreamState>>,
    /// The number of its last connection.
    connections: watch::Sender<u64>,
}

/// The streams that may go on.
pub(super) struct Streams {
    all: Mutex<AHashMap<Key, Arc<Stream>>>,
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
}

/// A connection's hold on its stream, until another connection takes it.
pub(super) struct Hold {
    pub(super) state: OwnedMutexGuard<StreamState>,
    registered: Option<Registered>,
}

/// A connection of a stream. Once it is dropped, the stream waits for the next one, and ends if none comes.
struct Registered {
    streams: Arc<Streams>,
    key: Key,
    number: u64,
    newest: watch::Receiver<u64>,
}

impl Streams {
    pub(super) fn new(shared: Arc<Shared>, handler: Arc<dyn Handler>) -> Arc<Self> {
        Arc::new(Self { all: Mutex::default(), shared, handler })
    }

    /// Gives a connection its stream, and what is said of it to the node; nothing where that is gone.
    pub(super) async fn hold(
        self: &Arc<Self>,
        from: NodeTag,
        resume: Option<Resume>,
    ) -> (Option<Hold>, Resumed) {
        let Some(Resume { id, received }) = resume else {
            let state = StreamState::new(Progress::default()).lock_owned().await;
            return (Some(Hold { state, registered: None }), Resumed::Never);
        };
        let key = (from, id);
        let Some((state, registered)) = self.register(key, received.is_none()) else {
            return (None, Resumed::Gone);
        };
        // Until the connection before it has let go.
        let mut state = state.lock_owned().await;
        if state.progress.acknowledged(received.unwrap_or_default()).is_err() {
            return (None, Resumed::Gone);
        }
        let resumed = Resumed::Has(state.progress.tell());
        (Some(Hold { state, registered: Some(registered) }), resumed)
    }

    fn register(
        self: &Arc<Self>,
        key: Key,
        begins: bool,
    ) -> Option<(Arc<tokio::sync::Mutex<StreamState>>, Registered)> {
        let all = &mut *self.all.lock();
        if begins {
            let stream =
                Stream { state: StreamState::new(Progress::resumable()), connections: watch::Sender::new(0) };
            all.insert(key, Arc::new(stream));
        }
        let stream = all.get(&key)?;
        stream.connections.send_modify(|number| *number += 1);
        let newest = stream.connections.subscribe();
        let number = *newest.borrow();
        Some((stream.state.clone(), Registered { streams: self.clone(), key, number, newest }))
    }

    /// The stream ends, unless there is a newer connection. Whether it did.
    fn remove(&self, key: Key, number: u64) -> bool {
        let all = &mut *self.all.lock();
        let is_last = all.get(&key).is_some_and(|stream| *stream.connections.borrow() == number);
        is_last && all.remove(&key).is_some()
    }

    fn is_waiting(&self, key: Key, number: u64) -> bool {
        self.all.lock().get(&key).is_some_and(|stream| *stream.connections.borrow() == number)
    }

    /// Waits for a newer connection for as long as the node may try; less where it is known to be gone.
    async fn expire(self: Arc<Self>, key: Key, number: u64) {
        let limits = &self.shared.limits;
        let until = Instant::now() + limits.silence + 2 * limits.connect;
        loop {
            sleep(PROBE).await;
            if !self.is_waiting(key, number) {
                return;
            }
            if Instant::now() >= until || self.has_gone(key.0).await {
                break;
            }
        }
        if self.remove(key, number) {
            self.handler.node_lost(key.0);
        }
    }

    /// Whether nobody listens any more where a node's link was.
    async fn has_gone(&self, node: NodeTag) -> bool {
        let Some(addr) = self.handler.address(node) else { return false };
        let connected = timeout(PROBE, TcpStream::connect(addr)).await;
        matches!(connected, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

impl Hold {
    /// Resolves when another connection is to go on with the stream.
    pub(super) fn superseded(&self) -> impl Future<Output = ()> + Send + 'static {
        let newest =
            self.registered.as_ref().map(|registered| (registered.newest.clone(), registered.number));
        async move {
            let Some((mut newest, number)) = newest else { return std::future::pending().await };
            // The other end goes only with the stream.
            let _ = newest.wait_for(|newest| *newest != number).await;
        }
    }

    /// The stream ends here, and nobody is lost. Whether it might have gone on.
    pub(super) fn end(self) {
        if let Some(registered) = &self.registered {
            registered.streams.remove(registered.key, registered.number);
        }
    }

    /// Whether it waits for another connection, when it is dropped.
    pub(super) fn is_resumable(&self) -> bool {
        self.registered.is_some()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.streams.is_waiting(self.key, self.number) {
            let streams = self.streams.clone();
            self.streams.shared.runtime.spawn(streams.expire(self.key, self.number));
        }
    }
}
