//! Connections of other nodes: their requests are handed to the handler, and responses are written in the order in which they
//! come.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::{Bytes, BytesMut};
use signalbox_cluster::NodeTag;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{Instant, timeout, timeout_at},
};

use super::{
    Handler, Shared,
    frame::{Frame, FrameType},
    handshake,
    strangers::Strangers,
};

/// Requests of one node that may be without a response at once: each may be a client's poll.
const MAX_IN_FLIGHT: usize = 65_536;
/// Frames written at once.
const BATCH: usize = 64;

/// Requests without a response, by number. Dropping the sender tells the responder that the response is not wanted any more.
type InFlight = AHashMap<u64, oneshot::Sender<()>>;

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

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, handler: Arc<dyn Handler>) {
    let strangers = Strangers::default();
    loop {
        let Ok((mut stream, addr)) = listener.accept().await else {
            // The process has no file descriptors left; some may be closed meanwhile.
            tokio::time::sleep(shared.limits.connect).await;
            continue;
        };
        let mut stranger = strangers.enter(addr.ip());
        let (shared, handler) = (shared.clone(), handler.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let secret = shared.secret();
            let handshake = handshake::accept(&mut stream, &secret, shared.tag);
            let authenticated = tokio::select! {
                from = timeout(2 * shared.limits.connect, handshake) => from.ok().flatten(),
                () = stranger.gives_way() => None,
            };
            let Some(from) = authenticated else {
                shared
                    .log_refusal(addr, "a connection to the node link was refused: no node of this cluster");
                return;
            };
            stranger.authenticated();
            if !serve(stream, &shared, &*handler, from).await {
                handler.node_lost(from);
            }
        });
    }
}

/// Serves a connection to its end. Returns `true` when the other node closed it because it was idle: that says nothing about the
/// node, which may have opened another connection already.
async fn serve(mut stream: TcpStream, shared: &Shared, handler: &dyn Handler, from: NodeTag) -> bool {
    let (mut reader, mut writer) = stream.split();
    let (responses, mut to_write) = unbounded_channel();
    let mut in_flight = InFlight::new();
    let mut read = BytesMut::with_capacity(4096);
    let mut write = BytesMut::new();
    let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
    let (mut last_used, mut last_written) = (Instant::now(), Instant::now());
    // Reading goes on while something is written: two nodes that only wrote would wait for each other.
    loop {
        tokio::select! {
            _ = to_write.recv_many(&mut batch, BATCH), if write.is_empty() => {
                last_written = Instant::now();
                for frame in batch.drain(..) {
                    in_flight.remove(&frame.number);
                    // The other node would close the connection, with all other requests on it, for a frame that is too large.
                    match frame.fits(shared.limits.frame) {
                        true => frame.write(&mut write),
                        false => Frame::empty(FrameType::Refused, frame.number).write(&mut write),
                    }
                }
            }
            // A node that does not read its responses is not waited for.
            written = timeout_at(last_written + shared.limits.silence, writer.write_buf(&mut write)), if !write.is_empty() => {
                if !matches!(written, Ok(Ok(1..))) {
                    return false;
                }
                last_written = Instant::now();
            }
            count = reader.read_buf(&mut read) => {
                match count {
                    Ok(1..) => {}
                    Ok(0) => {
                        let was_idle = last_used.elapsed() + shared.limits.silence >= shared.limits.idle;
                        return in_flight.is_empty() && was_idle;
                    }
                    Err(_) => return false,
                }
                loop {
                    match Frame::read(&mut read, shared.limits.frame) {
                        Ok(Some(frame)) => {
                            if frame.frame_type != FrameType::Ping {
                                last_used = Instant::now();
                            }
                            if !take(frame, handler, from, &responses, &mut in_flight) {
                                return false;
                            }
                        }
                        Ok(None) => break,
                        Err(_) => return false,
                    }
                }
            }
        }
    }
}

/// Takes a frame; `false` for one that this end of a connection never receives.
fn take(
    frame: Frame,
    handler: &dyn Handler,
    from: NodeTag,
    responses: &UnboundedSender<Frame>,
    in_flight: &mut InFlight,
) -> bool {
    let Frame { frame_type, number, kind, body } = frame;
    match frame_type {
        FrameType::Request => {
            let (cancel, cancelled) = oneshot::channel();
            let responses = Some(responses.clone());
            let responder = Responder { number, responses, cancelled: Some(cancelled) };
            if in_flight.len() >= MAX_IN_FLIGHT {
                // The responder is dropped, which refuses the request.
                return true;
            }
            in_flight.insert(number, cancel);
            handler.request(from, kind, body, responder);
        }
        FrameType::Cancel => drop(in_flight.remove(&number)),
        FrameType::Notice => handler.notice(from, kind, body),
        FrameType::Ping => drop(responses.send(Frame::empty(FrameType::Pong, u64::MAX))),
        FrameType::Response | FrameType::Refused | FrameType::Pong => return false,
    }
    true
}
