//! Connections of other nodes: their requests are handed to the handler, and responses are written in the order in which they
//! come.

mod streams;

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
};

use bytes::{Bytes, BytesMut};
use signalbox_cluster::NodeTag;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::{mpsc::UnboundedSender, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Handler, Shared,
    frame::{Frame, FrameReader, FrameType, FrameWriter},
    handshake::{Acceptor, Seals},
    resume::Resume,
    strangers::Strangers,
    stream::{Stream, begins_with_tls, write_some},
};
use streams::{Hold, StreamState, Streams};

/// Requests of one node that may be without a response at once: each may be a client's poll.
const MAX_IN_FLIGHT: usize = 65_536;
/// Frames written at once.
const BATCH: usize = 64;

/// The way back for one response. Dropping it refuses the request.
#[derive(Debug)]
pub struct Responder {
    number: u64,
    responses: Option<UnboundedSender<Frame>>,
    cancelled: Option<oneshot::Receiver<()>>,
}

impl Responder {
    /// Responds.
    pub fn send(mut self, body: Bytes) {
        self.respond(Frame { frame_type: FrameType::Response, number: self.number, kind: 0, body });
    }

    /// Resolves when the other node has cancelled the request, or its connection is gone. May be taken once.
    pub fn cancelled(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let cancelled = self.cancelled.take();
        async move {
            match cancelled {
                // Its other end is dropped when the connection ends.
                Some(cancelled) => drop(cancelled.await),
                None => std::future::pending().await,
            }
        }
    }

    fn respond(&mut self, frame: Frame) {
        if let Some(responses) = self.responses.take() {
            // A connection that is gone needs no response.
            let _ = responses.send(frame);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.respond(Frame::empty(FrameType::Refused, self.number));
    }
}

/// Why a connection is none of a node.
enum NotAdmitted {
    /// It was closed before it began.
    SaidNothing,
    /// It was refused for this reason, as it is logged.
    Refused(Cow<'static, str>),
}

impl<T: Into<Cow<'static, str>>> From<T> for NotAdmitted {
    fn from(reason: T) -> Self {
        Self::Refused(reason.into())
    }
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let strangers = Strangers::default();
    let streams = Streams::new(shared.clone());
    let acceptor = Arc::new(Acceptor::new(shared.tag));
    loop {
        let Ok((stream, addr)) = listener.accept().await else {
            // The process has no file descriptors left; some may be closed meanwhile.
            tokio::time::sleep(shared.limits.connect).await;
            continue;
        };
        let mut stranger = strangers.enter(addr.ip());
        let (shared, acceptor) = (shared.clone(), acceptor.clone());
        let streams = streams.clone();
        tokio::spawn(async move {
            let admitted = admit(stream, &shared, &acceptor, &streams);
            let authenticated = tokio::select! {
                admitted = timeout(2 * shared.limits.connect, admitted) => {
                    admitted.unwrap_or(Err("it did not say in time which node it is".into()))
                }
                () = stranger.gives_way() => Err("too many connections that have not said which node they are".into()),
            };
            let Admitted { stream, from, seals, mut hold } = match authenticated {
                Ok(admitted) => admitted,
                // It looks only whether somebody is there.
                Err(NotAdmitted::SaidNothing) => return,
                Err(NotAdmitted::Refused(refused)) => {
                    shared.log_refusal(addr, "a connection to the node link was refused", &refused);
                    return;
                }
            };
            stranger.authenticated();
            match serve(stream, seals, &shared, from, &mut hold).await {
                End::Idle => hold.end(),
                // It is not lost until nothing has come instead for a while.
                End::Broken if hold.is_resumable() => {}
                End::Broken | End::Final => {
                    hold.end();
                    shared.handler.node_lost(from);
                }
            }
        });
    }
}

/// A connection of a node that has proved itself.
struct Admitted {
    stream: Stream,
    from: NodeTag,
    seals: Seals,
    hold: Hold,
}

/// Finds out which node a connection is from, and gives it its stream.
async fn admit(
    stream: TcpStream,
    shared: &Shared,
    acceptor: &Acceptor,
    streams: &Arc<Streams>,
) -> Result<Admitted, NotAdmitted> {
    let _ = stream.set_nodelay(true);
    let begins_with_tls = match begins_with_tls(&stream).await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(NotAdmitted::SaidNothing);
        }
        begins => begins.map_err(|error| error.to_string())?,
    };
    let mut stream = match (begins_with_tls, &shared.tls) {
        (false, Some(tls)) if tls.is_required() => {
            return Err("it does not use TLS, and --cluster-tls is required here".into());
        }
        (false, _) => Stream::Plain(stream),
        (true, Some(tls)) => {
            Stream::accept(stream, &tls.configs()).await.map_err(|error| error.to_string())?
        }
        (true, None) => return Err("it uses TLS, and --cluster-tls is off here".into()),
    };
    let secret = shared.secret();
    let initiator = acceptor
        .accept(&mut stream, &secret, &*shared.handler)
        .await
        .ok_or("no node of this cluster, or one with another secret")?;
    let from = initiator.tag;
    let (hold, resumed) = streams.hold(from, Resume::of(&initiator.extension)).await;
    let seals = initiator.answer(&mut stream, &resumed.metadata()).await;
    match (hold, seals) {
        (Some(hold), Some(seals)) => Ok(Admitted { stream, from, seals, hold }),
        (None, _) => Err("it was away for too long to go on where it was".into()),
        (_, None) => Err("it has gone before it was answered".into()),
    }
}

/// Why nothing comes over a connection any more.
enum End {
    /// The other node closed it because nobody needed it: that says nothing about the node, which may have opened another one already.
    Idle,
    /// It broke, or another one goes on in its place.
    Broken,
    /// The other node sends what cannot be read: so it would over another one.
    Final,
}

/// Serves a connection to its end. What is kept is sent again, then what is to be sent.
async fn serve(stream: Stream, seals: Seals, shared: &Shared, from: NodeTag, hold: &mut Hold) -> End {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (send, receive) = seals.unzip();
    let (mut to_wire, mut from_wire) =
        (FrameWriter::new(send), FrameReader::new(receive, shared.limits.frame));
    let mut superseded = std::pin::pin!(hold.superseded());
    let state = &mut *hold.state;
    let mut read = BytesMut::with_capacity(4096);
    let mut write = BytesMut::new();
    for frame in state.progress.kept() {
        to_wire.write(frame, &mut write);
    }
    let mut is_sent = write.is_empty();
    let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
    let (mut last_used, mut last_written) = (Instant::now(), Instant::now());
    let mut is_pinged = false;
    // Reading goes on while something is written: two nodes that only wrote would wait for each other.
    loop {
        if is_sent && (is_pinged || state.progress.is_acknowledgement_due()) {
            (last_written, is_sent) = (Instant::now(), false);
            if let Some(acknowledgement) = state.progress.acknowledgement() {
                to_wire.write(&acknowledgement, &mut write);
            }
            if std::mem::take(&mut is_pinged) {
                to_wire.write(&Frame::empty(FrameType::Pong, u64::MAX), &mut write);
            }
        }
        tokio::select! {
            // A node that has not what it was sent is not sent more.
            _ = state.to_write.recv_many(&mut batch, BATCH), if is_sent && state.progress.kept_bytes() <= shared.limits.waiting => {
                (last_written, is_sent) = (Instant::now(), false);
                if let Some(acknowledgement) = state.progress.acknowledgement() {
                    to_wire.write(&acknowledgement, &mut write);
                }
                for frame in batch.drain(..) {
                    state.in_flight.remove(&frame.number);
                    // The other node would close the connection, with all other requests on it, for a frame that is too large.
                    let frame = match frame.fits(shared.limits.frame) {
                        true => frame,
                        false => Frame::empty(FrameType::Refused, frame.number),
                    };
                    to_wire.write(&frame, &mut write);
                    state.progress.keep(frame);
                }
            }
            // A node that does not read its responses is not waited for.
            written = timeout_at(last_written + shared.limits.silence, write_some(&mut writer, &mut write)), if !is_sent => {
                match written {
                    Ok(Ok(all)) => (last_written, is_sent) = (Instant::now(), all),
                    _ => return End::Broken,
                }
            }
            count = reader.read_buf(&mut read) => {
                match count {
                    Ok(1..) => {}
                    Ok(0) => {
                        let was_idle = last_used.elapsed() + shared.limits.silence >= shared.limits.idle;
                        return if state.in_flight.is_empty() && was_idle { End::Idle } else { End::Broken };
                    }
                    Err(_) => return End::Broken,
                }
                loop {
                    match from_wire.read(&mut read) {
                        Ok(Some(frame)) => {
                            match frame.frame_type {
                                FrameType::Ping => is_pinged = true,
                                FrameType::Acknowledge => {}
                                _ => {
                                    last_used = Instant::now();
                                    state.is_used.store(true, Ordering::Relaxed);
                                }
                            }
                            if !take(frame, &*shared.handler, from, state) {
                                return End::Final;
                            }
                        }
                        Ok(None) => break,
                        Err(_) => return End::Final,
                    }
                }
            }
            () = &mut superseded => return End::Broken,
        }
    }
}

/// Takes a frame; `false` for one that this end of a connection never receives.
fn take(frame: Frame, handler: &dyn Handler, from: NodeTag, state: &mut StreamState) -> bool {
    state.progress.received(&frame);
    let Frame { frame_type, number, kind, body } = frame;
    match frame_type {
        FrameType::Request => {
            let (cancel, cancelled) = oneshot::channel();
            let responses = Some(state.responses.clone());
            let responder = Responder { number, responses, cancelled: Some(cancelled) };
            if state.in_flight.len() >= MAX_IN_FLIGHT {
                // The responder is dropped, which refuses the request.
                return true;
            }
            state.in_flight.insert(number, cancel);
            handler.request(from, kind, body, responder);
        }
        FrameType::Cancel => drop(state.in_flight.remove(&number)),
        FrameType::Notice => handler.notice(from, kind, body),
        // It is answered as soon as something may be written.
        FrameType::Ping => {}
        FrameType::Acknowledge => return state.progress.acknowledged(number).is_ok(),
        FrameType::Response | FrameType::Refused | FrameType::Pong => return false,
    }
    true
}
