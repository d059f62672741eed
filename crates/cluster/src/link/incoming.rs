//! Connections of other nodes: their in_flight are handed on, and the responses written in the order they come.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{
        Semaphore,
        mpsc::{UnboundedSender, unbounded_channel},
        oneshot,
    },
    time::{Instant, timeout, timeout_at},
};

use super::{
    Handler, Shared,
    frame::{Frame, Type},
    handshake,
};
use crate::address::NodeTag;

/// Connections that may be saying hello at once.
const MAX_UNAUTHENTICATED: usize = 64;
/// Questions of one node that may be unanswered at once: each may be a client's poll.
const MAX_IN_FLIGHT: usize = 65_536;
/// Frames written at once.
const BATCH: usize = 64;

/// The way back for one answer. Dropping it refuses.
#[derive(Debug)]
pub struct Responder {
    number: u64,
    responses: Option<UnboundedSender<Frame>>,
    cancelled: Option<oneshot::Receiver<()>>,
}

impl Responder {
    /// Answers.
    pub fn send(mut self, body: Bytes) {
        self.give(Frame { frame_type: Type::Response, number: self.number, kind: 0, body });
    }

    /// Resolves when whoever asked has given up, or its connection is gone. May be taken once.
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

    fn give(&mut self, frame: Frame) {
        if let Some(responses) = self.responses.take() {
            // A connection that is gone needs none.
            let _ = responses.send(frame);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.give(Frame::bare(Type::Refused, self.number));
    }
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, handler: Arc<dyn Handler>) {
    let unauthenticated = Arc::new(Semaphore::new(MAX_UNAUTHENTICATED));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of files: others may be closed meanwhile.
            tokio::time::sleep(shared.limits.connect).await;
            continue;
        };
        let Ok(permit) = unauthenticated.clone().try_acquire_owned() else { continue };
        let (shared, handler) = (shared.clone(), handler.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let handshake = handshake::accept(&mut stream, &shared.secret, shared.tag);
            let Ok(Some(from)) = timeout(2 * shared.limits.connect, handshake).await else { return };
            drop(permit);
            if !serve(stream, &shared, &*handler, from).await {
                handler.node_lost(from);
            }
        });
    }
}

/// Serves a connection to its end; `true` if it was closed because nobody needed it: then it says nothing about its node, which may
/// have opened another one already.
async fn serve(mut stream: TcpStream, shared: &Shared, handler: &dyn Handler, from: NodeTag) -> bool {
    let (mut reader, mut writer) = stream.split();
    let (responses, mut answered) = unbounded_channel();
    let mut in_flight: AHashMap<u64, oneshot::Sender<()>> = AHashMap::new();
    let mut read = BytesMut::with_capacity(4096);
    let mut write = BytesMut::new();
    let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
    let (mut used, mut wrote) = (Instant::now(), Instant::now());
    // Reading goes on while something is written: two nodes that both only wrote would wait for each other.
    loop {
        tokio::select! {
            _ = answered.recv_many(&mut batch, BATCH), if write.is_empty() => {
                wrote = Instant::now();
                for frame in batch.drain(..) {
                    in_flight.remove(&frame.number);
                    // One that the other end would take for nonsense would cost all others their connection.
                    match frame.fits(shared.limits.frame) {
                        true => frame.write(&mut write),
                        false => Frame::bare(Type::Refused, frame.number).write(&mut write),
                    }
                }
            }
            // Who does not read its responses is not waited for.
            written = timeout_at(wrote + shared.limits.silence, writer.write_buf(&mut write)), if !write.is_empty() => {
                if !matches!(written, Ok(Ok(1..))) {
                    return false;
                }
                wrote = Instant::now();
            }
            count = reader.read_buf(&mut read) => {
                match count {
                    Ok(1..) => {}
                    Ok(0) => return in_flight.is_empty() && used.elapsed() + shared.limits.silence >= shared.limits.idle,
                    Err(_) => return false,
                }
                loop {
                    match Frame::read(&mut read, shared.limits.frame) {
                        Ok(Some(frame)) => {
                            if frame.frame_type != Type::Ping {
                                used = Instant::now();
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

/// Takes a frame; `false` for one that makes no sense.
fn take(
    frame: Frame,
    handler: &dyn Handler,
    from: NodeTag,
    responses: &UnboundedSender<Frame>,
    in_flight: &mut AHashMap<u64, oneshot::Sender<()>>,
) -> bool {
    let Frame { frame_type, number, kind, body } = frame;
    match frame_type {
        Type::Request => {
            let (cancel, cancelled) = oneshot::channel();
            let responses = Some(responses.clone());
            let answer = Responder { number, responses, cancelled: Some(cancelled) };
            if in_flight.len() >= MAX_IN_FLIGHT {
                // Dropped, and so refused.
                return true;
            }
            in_flight.insert(number, cancel);
            handler.request(from, kind, body, answer);
        }
        Type::Cancel => drop(in_flight.remove(&number)),
        Type::Notice => handler.notice(from, kind, body),
        Type::Ping => drop(responses.send(Frame::bare(Type::Pong, u64::MAX))),
        Type::Response | Type::Refused | Type::Pong => return false,
    }
    true
}
