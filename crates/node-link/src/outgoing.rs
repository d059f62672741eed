//! A connection to another node: what is sent on it, and the responses that come back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ahash::AHashMap;
use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{Instant, interval, timeout, timeout_at},
};

use super::{
    LinkError, RemoteNode, Shared,
    frame::{Frame, FrameReader, FrameType, FrameWriter},
    handshake::{self, Seals},
    stream::{Stream, write_some},
};

type Reply = oneshot::Sender<Result<Bytes, LinkError>>;

/// Frames written at once.
const BATCH: usize = 64;

/// Something to send.
pub(super) enum Outbound {
    Request { number: u64, kind: u8, body: Bytes, reply: Reply },
    Cancel { number: u64 },
    Notice { kind: u8, body: Bytes },
}

impl Outbound {
    fn size(&self) -> usize {
        match self {
            Self::Request { body, .. } | Self::Notice { body, .. } => body.len(),
            Self::Cancel { .. } => 0,
        }
    }

    fn refuse(self, error: LinkError) {
        if let Self::Request { reply, .. } = self {
            let _ = reply.send(Err(error));
        }
    }
}

pub(super) struct Outgoing {
    sender: UnboundedSender<Outbound>,
    /// Bytes that wait to be written.
    waiting: Arc<AtomicUsize>,
    limit: usize,
    largest: usize,
}

impl Outgoing {
    /// Opens a connection in the background; it ends by itself.
    pub(super) fn open(shared: Arc<Shared>, to: RemoteNode) -> Arc<Self> {
        let (sender, receiver) = unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (limit, largest) = (shared.limits.waiting, shared.limits.frame);
        let connection = Arc::new(Self { sender, waiting: waiting.clone(), limit, largest });
        let weak = Arc::downgrade(&connection);
        let runtime = shared.runtime.clone();
        runtime.spawn(async move {
            let mut connection = Connection { shared: shared.clone(), to, receiver, waiting };
            let error = connection.run().await;
            // First the connection is removed, so that nothing more is sent on it; then what was sent meanwhile is refused.
            {
                let outgoing = &mut *shared.outgoing.lock();
                if outgoing.get(&to).is_some_and(|other| Arc::as_ptr(other) == weak.as_ptr()) {
                    outgoing.remove(&to);
                }
            }
            connection.receiver.close();
            while let Ok(outbound) = connection.receiver.try_recv() {
                outbound.refuse(error);
            }
        });
        connection
    }

    /// Queues something to send. Gives it back if the connection has ended.
    pub(super) fn send(&self, outbound: Outbound) -> Result<Result<(), LinkError>, Outbound> {
        let size = outbound.size();
        // Whatever fits into a frame fits into an empty queue.
        let waiting = self.waiting.load(Ordering::Relaxed);
        if size + 64 > self.largest || waiting > 0 && waiting + size > self.limit {
            outbound.refuse(LinkError::Full);
            return Ok(Err(LinkError::Full));
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        match self.sender.send(outbound) {
            Ok(()) => Ok(Ok(())),
            Err(refused) => {
                self.waiting.fetch_sub(size, Ordering::Relaxed);
                Err(refused.0)
            }
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    to: RemoteNode,
    receiver: UnboundedReceiver<Outbound>,
    waiting: Arc<AtomicUsize>,
}

impl Connection {
    /// Runs to the end; returns the error for what was not sent.
    async fn run(&mut self) -> LinkError {
        let (stream, seals) = match timeout(self.shared.limits.connect, self.connect()).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return error,
            Err(_) => return LinkError::Unreachable,
        };
        let mut pending: AHashMap<u64, Reply> = AHashMap::new();
        self.serve(stream, seals, &mut pending).await;
        for reply in pending.into_values() {
            let _ = reply.send(Err(LinkError::Broken));
        }
        LinkError::Unreachable
    }

    async fn connect(&self) -> Result<(Stream, Seals), LinkError> {
        let refused = |what: &str| {
            self.shared.log_refusal(self.to.addr, "a node cannot be spoken to over the node link", what);
            LinkError::WrongNode
        };
        let tls = self.shared.tls.as_ref().filter(|tls| tls.is_required() || self.to.takes_tls);
        if tls.is_some() && !self.to.takes_tls {
            return Err(refused("it does not use TLS, and --cluster-tls is required here"));
        }
        let stream = TcpStream::connect(self.to.addr).await.map_err(|_| LinkError::Unreachable)?;
        let _ = stream.set_nodelay(true);
        let mut stream = match tls {
            Some(tls) => match Stream::connect(stream, &tls.configs()).await {
                Ok(stream) => stream,
                Err(error) => return Err(refused(&error.to_string())),
            },
            None => Stream::Plain(stream),
        };
        let secret = self.shared.secret();
        match handshake::initiate(&mut stream, &secret, self.shared.tag, self.to).await {
            Ok(seals) => Ok((stream, seals)),
            Err(LinkError::WrongNode) if self.to.takes_tls && tls.is_none() => Err(refused(
                "it refuses this node, or has another secret; it uses TLS, and --cluster-tls is off here",
            )),
            Err(LinkError::WrongNode) => Err(refused("it refuses this node, or has another secret")),
            Err(error) => Err(error),
        }
    }

    async fn serve(&mut self, stream: Stream, seals: Seals, pending: &mut AHashMap<u64, Reply>) {
        let limits = self.shared.limits.clone();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (send, receive) = seals.unzip();
        let (mut to_wire, mut from_wire) = (FrameWriter::new(send), FrameReader::new(receive, limits.frame));
        let mut read = BytesMut::with_capacity(4096);
        let mut write = BytesMut::new();
        let mut is_sent = true;
        let mut batch = Vec::with_capacity(BATCH);
        // A node that owes a response is pinged twice in the time for which it may be silent.
        let mut beat = interval(limits.silence / 2);
        let (mut last_used, mut last_received) = (Instant::now(), Instant::now());
        // The size of what is being written, and when the socket last took some of it. Reading goes on meanwhile: two nodes that
        // only wrote would wait for each other.
        let (mut writing, mut last_written) = (0, Instant::now());
        loop {
            tokio::select! {
                count = self.receiver.recv_many(&mut batch, BATCH), if is_sent => {
                    if count == 0 {
                        return;
                    }
                    last_used = Instant::now();
                    last_written = last_used;
                    writing = batch.iter().map(Outbound::size).sum();
                    for outbound in batch.drain(..) {
                        if let Some(frame) = frame(outbound, pending) {
                            to_wire.write(&frame, &mut write);
                        }
                    }
                    is_sent = false;
                }
                written = timeout_at(last_written + limits.silence, write_some(&mut writer, &mut write)), if !is_sent => {
                    match written {
                        Ok(Ok(all)) => (last_written, is_sent) = (Instant::now(), all),
                        _ => return,
                    }
                    if is_sent {
                        self.waiting.fetch_sub(std::mem::take(&mut writing), Ordering::Relaxed);
                    }
                }
                count = reader.read_buf(&mut read) => {
                    if !matches!(count, Ok(1..)) {
                        return;
                    }
                    last_received = Instant::now();
                    loop {
                        match from_wire.read(&mut read) {
                            Ok(Some(frame)) => complete(frame, pending),
                            Ok(None) => break,
                            Err(_) => return,
                        }
                    }
                }
                _ = beat.tick() => {
                    if pending.is_empty() {
                        last_received = Instant::now();
                        if last_used.elapsed() > limits.idle {
                            return;
                        }
                    } else if last_received.elapsed() > limits.silence {
                        return;
                    } else if is_sent {
                        (last_written, is_sent) = (Instant::now(), false);
                        to_wire.write(&Frame::empty(FrameType::Ping, 0), &mut write);
                    }
                }
            }
        }
    }
}

fn frame(outbound: Outbound, pending: &mut AHashMap<u64, Reply>) -> Option<Frame> {
    match outbound {
        Outbound::Request { number, kind, body, reply } => {
            pending.insert(number, reply);
            Some(Frame { frame_type: FrameType::Request, number, kind, body })
        }
        // A request that is not pending has been answered meanwhile, or was never sent.
        Outbound::Cancel { number } => {
            pending.remove(&number).map(|_| Frame::empty(FrameType::Cancel, number))
        }
        Outbound::Notice { kind, body } => {
            Some(Frame { frame_type: FrameType::Notice, number: 0, kind, body })
        }
    }
}

fn complete(frame: Frame, pending: &mut AHashMap<u64, Reply>) {
    let response = match frame.frame_type {
        FrameType::Response => Ok(frame.body),
        FrameType::Refused => Err(LinkError::Refused),
        _ => return,
    };
    if let Some(reply) = pending.remove(&frame.number) {
        let _ = reply.send(response);
    }
}
