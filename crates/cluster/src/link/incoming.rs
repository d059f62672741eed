//! Connections of other nodes: their questions are handed on, and the answers written in the order they come.

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
    hello,
};
use crate::address::NodeTag;

/// Connections that may be saying hello at once.
const STRANGERS: usize = 64;
/// Questions of one node that may be unanswered at once: each may be a client's poll.
const QUESTIONS: usize = 65_536;
/// Frames written at once.
const BATCH: usize = 64;

/// The way back for one answer. Dropping it refuses.
#[derive(Debug)]
pub struct Answer {
    number: u64,
    answers: Option<UnboundedSender<Frame>>,
    cancelled: Option<oneshot::Receiver<()>>,
}

impl Answer {
    /// Answers.
    pub fn send(mut self, body: Bytes) {
        self.give(Frame { of: Type::Answer, number: self.number, kind: 0, body });
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
        if let Some(answers) = self.answers.take() {
            // A connection that is gone needs none.
            let _ = answers.send(frame);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(Frame::bare(Type::Refused, self.number));
    }
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, handler: Arc<dyn Handler>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of files: others may be closed meanwhile.
            tokio::time::sleep(shared.limits.connect).await;
            continue;
        };
        let Ok(stranger) = strangers.clone().try_acquire_owned() else { continue };
        let (shared, handler) = (shared.clone(), handler.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let hello = hello::answer(&mut stream, &shared.secret, shared.tag);
            let Ok(Some(from)) = timeout(2 * shared.limits.connect, hello).await else { return };
            drop(stranger);
            if !serve(stream, &shared, &*handler, from).await {
                handler.lost(from);
            }
        });
    }
}

/// Serves a connection to its end; `true` if it was closed because nobody needed it: then it says nothing about its node, which may
/// have opened another one already.
async fn serve(mut stream: TcpStream, shared: &Shared, handler: &dyn Handler, from: NodeTag) -> bool {
    let (mut reader, mut writer) = stream.split();
    let (answers, mut answered) = unbounded_channel();
    let mut questions: AHashMap<u64, oneshot::Sender<()>> = AHashMap::new();
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
                    questions.remove(&frame.number);
                    // One that the other end would take for nonsense would cost all others their connection.
                    match frame.fits(shared.limits.frame) {
                        true => frame.write(&mut write),
                        false => Frame::bare(Type::Refused, frame.number).write(&mut write),
                    }
                }
            }
            // Who does not read its answers is not waited for.
            written = timeout_at(wrote + shared.limits.silence, writer.write_buf(&mut write)), if !write.is_empty() => {
                if !matches!(written, Ok(Ok(1..))) {
                    return false;
                }
                wrote = Instant::now();
            }
            count = reader.read_buf(&mut read) => {
                match count {
                    Ok(1..) => {}
                    Ok(0) => return questions.is_empty() && used.elapsed() + shared.limits.silence >= shared.limits.idle,
                    Err(_) => return false,
                }
                loop {
                    match Frame::read(&mut read, shared.limits.frame) {
                        Ok(Some(frame)) => {
                            if frame.of != Type::Ping {
                                used = Instant::now();
                            }
                            if !take(frame, handler, from, &answers, &mut questions) {
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
    answers: &UnboundedSender<Frame>,
    questions: &mut AHashMap<u64, oneshot::Sender<()>>,
) -> bool {
    let Frame { of, number, kind, body } = frame;
    match of {
        Type::Request => {
            let (cancel, cancelled) = oneshot::channel();
            let answers = Some(answers.clone());
            let answer = Answer { number, answers, cancelled: Some(cancelled) };
            if questions.len() >= QUESTIONS {
                // Dropped, and so refused.
                return true;
            }
            questions.insert(number, cancel);
            handler.request(from, kind, body, answer);
        }
        Type::Cancel => drop(questions.remove(&number)),
        Type::Tell => handler.told(from, kind, body),
        Type::Ping => drop(answers.send(Frame::bare(Type::Pong, u64::MAX))),
        Type::Answer | Type::Refused | Type::Pong => return false,
    }
    true
}
