//! The streams of other nodes, which outlive their connections: when one breaks, its stream waits for another.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

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
    Shared, Whereabouts,
    frame::Frame,
    resume::{Progress, Resume, Resumed, StreamId},
};

/// After which time it is looked whether the process is still there whose connection broke, and how long that may take. It comes back sooner
/// than that if it can.
const PROBE: Duration = Duration::from_millis(150);
/// How often it is looked after that.
const PROBE_AGAIN: Duration = Duration::from_secs(1);

/// What outlives a connection.
pub(super) struct StreamState {
    pub(super) progress: Progress,
    /// Whether anything has come.
    pub(super) is_used: Arc<AtomicBool>,
    /// Requests without a response, by number. Dropping the sender tells the responder that the response is not wanted any more.
    pub(super) in_flight: AHashMap<u64, oneshot::Sender<()>>,
    pub(super) responses: UnboundedSender<Frame>,
    pub(super) to_write: UnboundedReceiver<Frame>,
}

impl StreamState {
    fn new(progress: Progress, is_used: Arc<AtomicBool>) -> Arc<tokio::sync::Mutex<Self>> {
        let (responses, to_write) = unbounded_channel();
        let in_flight = AHashMap::new();
        Arc::new(tokio::sync::Mutex::new(Self { progress, is_used, in_flight, responses, to_write }))
    }
}

type Key = (NodeTag, StreamId);

struct Stream {
    state: Arc<tokio::sync::Mutex<StreamState>>,
    is_used: Arc<AtomicBool>,
    /// The number of its last connection.
    connections: watch::Sender<u64>,
}

/// The streams that may go on.
pub(super) struct Streams {
    all: Mutex<AHashMap<Key, Arc<Stream>>>,
    shared: Arc<Shared>,
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
    pub(super) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { all: Mutex::default(), shared })
    }

    /// Gives a connection its stream, and what is said of it to the node; nothing where that is gone.
    pub(super) async fn hold(
        self: &Arc<Self>,
        from: NodeTag,
        resume: Option<Resume>,
    ) -> (Option<Hold>, Resumed) {
        let Some(Resume { id, received }) = resume else {
            let state = StreamState::new(Progress::default(), Arc::default()).lock_owned().await;
            return (Some(Hold { state, registered: None }), Resumed::Unsupported);
        };
        let key = (from, id);
        if received.is_none() {
            self.end_older(key);
        }
        let Some((state, registered)) = self.register(key, received.is_none()) else {
            return (None, Resumed::Gone);
        };
        // Until the connection before it has let go.
        let mut state = state.lock_owned().await;
        if state.progress.acknowledged(received.unwrap_or_default()).is_err() {
            return (None, Resumed::Gone);
        }
        let resumed = Resumed::Has(state.progress.report_received());
        (Some(Hold { state, registered: Some(registered) }), resumed)
    }

    fn register(
        self: &Arc<Self>,
        key: Key,
        begins: bool,
    ) -> Option<(Arc<tokio::sync::Mutex<StreamState>>, Registered)> {
        let all = &mut *self.all.lock();
        if begins && !all.contains_key(&key) {
            let is_used = Arc::<AtomicBool>::default();
            let state = StreamState::new(Progress::resumable(), is_used.clone());
            let stream = Stream { state, is_used, connections: watch::Sender::new(0) };
            all.insert(key, Arc::new(stream));
        }
        let stream = all.get(&key).filter(|stream| !begins || *stream.connections.borrow() == 0)?;
        stream.connections.send_modify(|number| *number += 1);
        let newest = stream.connections.subscribe();
        let number = *newest.borrow();
        Some((stream.state.clone(), Registered { streams: self.clone(), key, number, newest }))
    }

    /// A node that begins a stream has given up those before it. What they carried is lost, and that is known before anything new comes.
    fn end_older(&self, (node, id): Key) {
        let older: Vec<Arc<Stream>> = {
            let all = &mut *self.all.lock();
            let keys: Vec<Key> = all.keys().filter(|key| key.0 == node && key.1 != id).copied().collect();
            keys.iter().filter_map(|key| all.remove(key)).collect()
        };
        let mut was_used = false;
        for stream in older {
            // Its connection, if it has one still, ends.
            stream.connections.send_modify(|number| *number += 1);
            was_used |= stream.is_used.load(Ordering::Relaxed);
        }
        if was_used {
            self.shared.handler.node_lost(node);
        }
    }

    /// The stream ends, unless there is a newer connection. Whether something that came over it may be lost.
    fn remove(&self, key: Key, number: u64) -> bool {
        let all = &mut *self.all.lock();
        let is_last = all.get(&key).is_some_and(|stream| *stream.connections.borrow() == number);
        let removed = if is_last { all.remove(&key) } else { None };
        removed.is_some_and(|stream| stream.is_used.load(Ordering::Relaxed))
    }

    fn is_waiting(&self, key: Key, number: u64) -> bool {
        self.all.lock().get(&key).is_some_and(|stream| *stream.connections.borrow() == number)
    }

    /// Waits for a newer connection for as long as the node may try; less where it is known to be gone.
    async fn expire(self: Arc<Self>, key: Key, number: u64) {
        let limits = &self.shared.limits;
        let until = Instant::now() + limits.silence + 2 * limits.connect;
        let mut pause = PROBE;
        loop {
            sleep(pause).await;
            if !self.is_waiting(key, number) {
                return;
            }
            if Instant::now() >= until || self.has_gone(key.0).await {
                break;
            }
            pause = PROBE_AGAIN;
        }
        if self.remove(key, number) {
            self.shared.handler.node_lost(key.0);
        }
    }

    /// Whether a node has left the cluster, or nobody listens any more where its link was.
    async fn has_gone(&self, node: NodeTag) -> bool {
        let addr = match self.shared.handler.whereabouts(node) {
            Whereabouts::At(addr) => addr,
            Whereabouts::Gone => return true,
            Whereabouts::Unknown => return false,
        };
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

    /// The stream ends here: nothing goes on with it.
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
