//! What is sent to another node, and the responses that come back: a stream that goes on over another connection when one breaks.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
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
    time::{Instant, interval, sleep_until, timeout, timeout_at},
};

use super::{
    LinkError, RemoteNode, Shared, Whereabouts,
    frame::{Frame, FrameReader, FrameType, FrameWriter},
    handshake::{self, Seals},
    resume::{Impossible, Progress, Resume, Resumed, StreamId},
    stream::{Stream, write_some},
};

type Reply = oneshot::Sender<Result<Bytes, LinkError>>;

/// Frames written at once.
const BATCH: usize = 64;
/// How long after it could not be reached the other node is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How often a connection is opened that breaks, or whose other end hangs up, in the handshake.
const FIRST_ATTEMPTS: usize = 3;
/// How often in a row whoever listens there may hang up in the handshake, as a node does that is not the one that is meant.
const HANG_UPS: usize = 10;

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
            let id = rand::random();
            let progress = Progress::default();
            let mut connection = Connection {
                shared: shared.clone(),
                to,
                receiver,
                waiting,
                id,
                progress,
                pending: AHashMap::new(),
                writing: 0,
            };
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

    /// Bytes that wait to be written.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
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
    id: StreamId,
    progress: Progress,
    /// Requests without a response.
    pending: AHashMap<u64, Reply>,
    /// The size of what is being written.
    writing: usize,
}

/// Why nothing goes over a connection any more.
enum End {
    /// Nobody needs it.
    Idle,
    /// It broke, or has been silent: another one may go on.
    Broken,
    /// The other node takes nothing, or sends what cannot be read: so it would over another one.
    Final,
}

impl Connection {
    /// Runs to the end; returns the error for what was not sent.
    async fn run(&mut self) -> LinkError {
        let first = match self.connect_first().await {
            Ok(connected) => connected,
            Err(error) => return error,
        };
        let (mut stream, mut seals, resumed) = first;
        if resumed != Resumed::Unsupported {
            self.progress = Progress::resumable();
        }
        let mut in_vain = 0;
        loop {
            let (began, position) = (Instant::now(), self.progress.position());
            let mut last_received = began;
            let end = self.serve(stream, seals, &mut last_received).await;
            self.written();
            if !self.progress.is_resumable() || !matches!(end, End::Broken) {
                break;
            }
            // Something may break every connection as soon as this frame is sent.
            let was_in_vain = self.progress.position() == position && began.elapsed() < self.beat();
            in_vain = if was_in_vain { in_vain + 1 } else { 0 };
            if in_vain > HANG_UPS {
                break;
            }
            if was_in_vain {
                sleep_until(Instant::now() + RETRY).await;
            }
            let Some(next) = self.reconnect(last_received).await else { break };
            (stream, seals) = next;
        }
        for (_, reply) in self.pending.drain() {
            let _ = reply.send(Err(LinkError::Broken));
        }
        LinkError::Unreachable
    }

    /// How often the other end is pinged that owes something. It is taken for silent after three times that, which leaves the fourth for
    /// another connection.
    fn beat(&self) -> Duration {
        self.shared.limits.silence / 4
    }

    /// What was being written waits no longer: it is written, or kept.
    fn written(&mut self) {
        self.waiting.fetch_sub(std::mem::take(&mut self.writing), Ordering::Relaxed);
    }

    /// Connects to the node, also where a connection breaks while it is opened.
    async fn connect_first(&mut self) -> Result<(Stream, Seals, Resumed), LinkError> {
        let until = Instant::now() + self.shared.limits.connect;
        let mut error = LinkError::Unreachable;
        for _ in 0..FIRST_ATTEMPTS {
            match timeout_at(until, self.connect(None)).await {
                Ok(Err(LinkError::WrongNode)) => error = LinkError::WrongNode,
                Ok(Ok(connected)) => return Ok(connected),
                // What was said first counts.
                Ok(Err(other)) if error == LinkError::Unreachable => return Err(other),
                Ok(Err(_)) | Err(_) => break,
            }
            sleep_until(Instant::now() + RETRY).await;
            // The other node may have a stream of this id by now.
            self.id = rand::random();
        }
        Err(error)
    }

    /// Connects again to the node, which has the stream still, and may be silent for so long as while it is connected. What it does not
    /// have is to be sent again.
    async fn reconnect(&mut self, last_received: Instant) -> Option<(Stream, Seals)> {
        let silence = self.shared.limits.silence;
        let mut hung_up = 0;
        let until = (last_received + silence).max(Instant::now() + silence / 2);
        loop {
            if self.shared.handler.whereabouts(self.to.tag) == Whereabouts::Gone {
                return None;
            }
            let received = self.progress.report_received();
            let attempt = timeout(self.shared.limits.connect, self.connect(Some(received)));
            match timeout_at(until, attempt).await.ok()? {
                Ok(Ok((stream, seals, Resumed::Has(received)))) => {
                    self.progress.acknowledged(received).ok()?;
                    self.shared.log_refusal(
                        self.to.addr,
                        "a connection of the node link broke; what was on its way is sent again",
                        "nothing is lost",
                    );
                    return Some((stream, seals));
                }
                // Nobody listens there any more, or it has given the stream up: there is nothing to wait for.
                Ok(Ok(_) | Err(LinkError::Refused)) => return None,
                // Another node listens there and hangs up, or this connection broke, too.
                Ok(Err(LinkError::WrongNode)) if hung_up == HANG_UPS => return None,
                Ok(Err(LinkError::WrongNode)) => hung_up += 1,
                Ok(Err(_)) | Err(_) => hung_up = 0,
            }
            sleep_until(Instant::now() + RETRY).await;
        }
    }

    async fn connect(&self, goes_on: Option<u64>) -> Result<(Stream, Seals, Resumed), LinkError> {
        let refused = |what: &str| {
            self.shared.log_refusal(self.to.addr, "a node cannot be spoken to over the node link", what);
            LinkError::WrongNode
        };
        let tls = self.shared.tls.as_ref().filter(|tls| tls.is_required() || self.to.takes_tls);
        if tls.is_some() && !self.to.takes_tls {
            return Err(refused("it does not use TLS, and --cluster-tls is required here"));
        }
        let stream = TcpStream::connect(self.to.addr).await.map_err(|error| match error.kind() {
            // No process has the port.
            io::ErrorKind::ConnectionRefused if goes_on.is_some() => LinkError::Refused,
            _ => LinkError::Unreachable,
        })?;
        let _ = stream.set_nodelay(true);
        let mut stream = match tls {
            Some(tls) => match Stream::connect(stream, &tls.configs()).await {
                Ok(stream) => stream,
                Err(error) => return Err(refused(&error.to_string())),
            },
            None => Stream::Plain(stream),
        };
        let secret = self.shared.secret();
        let extension = Resume { id: self.id, received: goes_on }.metadata();
        match handshake::initiate(&mut stream, &secret, self.shared.tag, self.to, &extension).await {
            Ok((seals, extension)) => Ok((stream, seals, Resumed::of(&extension))),
            Err(LinkError::WrongNode) if self.to.takes_tls && tls.is_none() => Err(refused(
                "it refuses this node, or has another secret; it uses TLS, and --cluster-tls is off here",
            )),
            Err(LinkError::WrongNode) => Err(refused("it refuses this node, or has another secret")),
            Err(error) => Err(error),
        }
    }

    /// What is kept is sent again, then what is to be sent.
    async fn serve(&mut self, stream: Stream, seals: Seals, last_received: &mut Instant) -> End {
        let limits = self.shared.limits.clone();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (send, receive) = seals.unzip();
        let (mut to_wire, mut from_wire) = (FrameWriter::new(send), FrameReader::new(receive, limits.frame));
        let mut read = BytesMut::with_capacity(4096);
        let mut write = BytesMut::new();
        for frame in self.progress.kept() {
            to_wire.write(frame, &mut write);
        }
        let mut is_sent = write.is_empty();
        let mut batch = Vec::with_capacity(BATCH);
        let mut beat = interval(self.beat());
        let silence = if self.progress.is_resumable() { 3 * self.beat() } else { limits.silence };
        let mut last_used = Instant::now();
        *last_received = last_used;
        // When the socket last took some of what is being written. Reading goes on meanwhile: two nodes that only wrote would wait for each
        // other.
        let mut last_written = Instant::now();
        loop {
            if is_sent
                && self.progress.is_acknowledgement_due()
                && let Some(acknowledgement) = self.progress.acknowledgement()
            {
                (last_written, is_sent) = (Instant::now(), false);
                to_wire.write(&acknowledgement, &mut write);
            }
            tokio::select! {
                // A node that has not what it was sent is not sent more.
                count = self.receiver.recv_many(&mut batch, BATCH), if is_sent && self.progress.kept_bytes() <= limits.waiting => {
                    if count == 0 {
                        return End::Idle;
                    }
                    last_used = Instant::now();
                    last_written = last_used;
                    self.writing = batch.iter().map(Outbound::size).sum();
                    if let Some(acknowledgement) = self.progress.acknowledgement() {
                        to_wire.write(&acknowledgement, &mut write);
                    }
                    for outbound in batch.drain(..) {
                        if let Some(frame) = frame(outbound, &mut self.pending) {
                            to_wire.write(&frame, &mut write);
                            self.progress.keep(frame);
                        }
                    }
                    is_sent = false;
                }
                written = timeout_at(last_written + limits.silence, write_some(&mut writer, &mut write)), if !is_sent => {
                    match written {
                        Ok(Ok(all)) => (last_written, is_sent) = (Instant::now(), all),
                        Ok(Err(_)) => return End::Broken,
                        Err(_) => return End::Final,
                    }
                    if is_sent {
                        self.written();
                    }
                }
                count = reader.read_buf(&mut read) => {
                    if !matches!(count, Ok(1..)) {
                        return End::Broken;
                    }
                    *last_received = Instant::now();
                    loop {
                        match from_wire.read(&mut read) {
                            Ok(Some(frame)) => {
                                if self.take(frame).is_err() {
                                    return End::Final;
                                }
                            }
                            Ok(None) => break,
                            Err(_) => return End::Final,
                        }
                    }
                }
                _ = beat.tick() => {
                    let owes_nothing = self.pending.is_empty() && !self.progress.has_kept();
                    if owes_nothing {
                        *last_received = Instant::now();
                        if last_used.elapsed() > limits.idle {
                            return End::Idle;
                        }
                    } else if last_received.elapsed() > silence {
                        return if self.progress.is_resumable() { End::Broken } else { End::Final };
                    }
                    if is_sent {
                        let acknowledgement = self.progress.acknowledgement();
                        let ping = (!owes_nothing).then(|| Frame::empty(FrameType::Ping, 0));
                        for frame in acknowledgement.iter().chain(&ping) {
                            (last_written, is_sent) = (Instant::now(), false);
                            to_wire.write(frame, &mut write);
                        }
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Takes a frame of the other node.
    fn take(&mut self, frame: Frame) -> Result<(), Impossible> {
        self.progress.received(&frame);
        let response = match frame.frame_type {
            FrameType::Acknowledge => return self.progress.acknowledged(frame.number),
            FrameType::Response => Ok(frame.body),
            FrameType::Refused => Err(LinkError::Refused),
            _ => return Ok(()),
        };
        if let Some(reply) = self.pending.remove(&frame.number) {
            let _ = reply.send(response);
        }
        Ok(())
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
