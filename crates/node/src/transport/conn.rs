//! One WebSocket: its outbox, which anybody on the shard may fill, and the task that reads it.
//!
//! An idle connection owns no buffer. Reading goes through a scratch buffer that the thread's connections share; writing goes
//! through a queue of shared frames. Whoever has put frames into outboxes lets the shard write them; the connection's own task
//! goes on only where the socket did not take everything.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use signalbox_engineio::CloseReason;
use signalbox_websocket::{Frame, Message, Parser};
use tokio::io::ReadBuf;

use super::Stream;
use crate::shard::Shard;

/// Bytes read at once, into a buffer that all connections of a thread share.
const SCRATCH: usize = 64 * 1024;
/// Frames written with one system call.
const SLICES: usize = 32;
/// Reads of one connection before the others have their turn.
const READS_A_TURN: usize = 4;
/// Messages of one connection before the others have their turn,
const MESSAGES_A_TURN: usize = 256;
/// and how many deliveries these may have caused.
pub(crate) const DELIVERIES_A_TURN: u64 = 2_000;
/// How long a connection that was closed from this side may take to hang up.
const LINGER: Duration = Duration::from_secs(5);

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// What a WebSocket belongs to; keys are the shard's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The transport of a session.
    Session(u32),
    /// Wants to become one.
    Probe(u32),
    /// A PeerServer client.
    Peer(u32),
    /// Nobody's: being closed.
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Write what is queued, then hang up.
    Closing,
    /// Unusable.
    Dead,
}

/// A WebSocket.
pub(crate) struct Conn {
    /// `None` until the handshake was answered.
    stream: RefCell<Option<Stream>>,
    outbox: RefCell<VecDeque<Bytes>>,
    /// Bytes in the outbox.
    queued: Cell<usize>,
    /// Bytes of messages that have not arrived whole.
    partial: Cell<usize>,
    /// Of both, bytes that the node's budget knows of.
    accounted: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    phase: Cell<Phase>,
    /// Frames wait unread while an effect they must come after is under way.
    paused: Cell<bool>,
    /// On the shard's list of connections to be written.
    is_dirty: Cell<bool>,
    pub(crate) owner: Cell<Role>,
}

impl Conn {
    /// A connection whose handshake is not answered yet.
    pub(crate) fn pending() -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(None),
            outbox: RefCell::new(VecDeque::new()),
            queued: Cell::new(0),
            partial: Cell::new(0),
            accounted: Cell::new(0),
            waker: RefCell::new(None),
            phase: Cell::new(Phase::Open),
            paused: Cell::new(false),
            is_dirty: Cell::new(false),
            owner: Cell::new(Role::Nobody),
        })
    }

    /// The handshake was answered: from now on frames may be written.
    pub(crate) fn connect(&self, stream: Stream) {
        *self.stream.borrow_mut() = Some(stream);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stream.borrow().is_some()
    }

    /// Queues a frame; `false` once the connection closes. The caller lists the connection for writing.
    pub(crate) fn push(&self, frame: &Frame) -> bool {
        if self.phase.get() != Phase::Open {
            return false;
        }
        self.queued.set(self.queued.get() + frame.len());
        self.outbox.borrow_mut().push_back(frame.bytes().clone());
        true
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.queued.get()
    }

    /// Whether nothing waits, so that a frame would leave at once.
    pub(crate) fn is_idle(&self) -> bool {
        self.queued.get() == 0
    }

    /// Bytes that it holds: what waits to be written, and what has not arrived whole.
    pub(crate) fn held(&self) -> usize {
        self.queued.get() + self.partial.get()
    }

    /// How the bytes it holds have changed since the last call, for the node's budget.
    pub(crate) fn account(&self) -> isize {
        let held = self.held();
        held as isize - self.accounted.replace(held) as isize
    }

    /// Puts it on the list of connections to be written; `true` if it was not there.
    pub(crate) fn list(&self) -> bool {
        !self.is_dirty.replace(true)
    }

    pub(crate) fn clear_dirty(&self) {
        self.is_dirty.set(false);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    /// Writes what is queued, then the close frame, then hangs up.
    pub(crate) fn close(&self, frame: &Frame) {
        if self.push(frame) {
            self.phase.set(Phase::Closing);
            self.wake();
        }
        // Also of one that is dead: its task has yet to find that out, and the owner's key may be another's by then.
        self.owner.set(Role::Nobody);
    }

    /// Hangs up at once, whatever is queued.
    pub(crate) fn abort(&self) {
        self.phase.set(Phase::Dead);
        self.owner.set(Role::Nobody);
        self.outbox.take();
        self.queued.set(0);
        self.partial.set(0);
        self.wake();
    }

    /// Stops reading until [`Conn::resume`].
    pub(crate) fn pause(&self) {
        self.paused.set(true);
    }

    pub(crate) fn resume(&self) {
        if self.paused.replace(false) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Writes what is queued, as much as the socket takes. What it does not take, the connection's task writes when it can.
    pub(crate) fn write(&self) {
        let waker = self.waker.borrow();
        // Before its first poll the task has left no waker, and will write by itself.
        if let Some(waker) = waker.as_ref()
            && let Poll::Ready(Err(_)) = self.poll_write(&mut Context::from_waker(waker))
        {
            self.phase.set(Phase::Dead);
            waker.wake_by_ref();
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Pending };
        let mut outbox = self.outbox.borrow_mut();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(outbox.iter()) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            let mut written = match stream.poll_write(cx, &slices[..count]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => written,
            };
            self.queued.set(self.queued.get() - written);
            while written > 0 {
                let Some(first) = outbox.front_mut() else { break };
                if first.len() > written {
                    first.advance(written);
                    break;
                }
                written -= first.len();
                outbox.pop_front();
            }
        }
        // A queue that was once long keeps no memory.
        *outbox = VecDeque::new();
        stream.poll_flush(cx)
    }

    /// Reads once into the scratch buffer.
    fn poll_read(&self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Pending };
        match stream.poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

/// The task of one connection.
pub(crate) struct Reader {
    conn: Rc<Conn>,
    shard: Rc<Shard>,
    parser: Parser,
    /// Bytes that were read and wait for their turn, from `rest_at` on.
    rest: Vec<u8>,
    rest_at: usize,
    linger: Option<Pin<Box<tokio::time::Sleep>>>,
    has_shut_down: bool,
}

impl Reader {
    /// `rest` is what arrived with the handshake.
    pub(crate) fn new(conn: Rc<Conn>, shard: Rc<Shard>, max_payload: usize, rest: Vec<u8>) -> Self {
        let parser = Parser::new(max_payload);
        Self { conn, shard, parser, rest, rest_at: 0, linger: None, has_shut_down: false }
    }

    /// Serves the connection until it is over.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        // Whoever found the connection dead, its owner has to hear of it.
        self.shard.conn_lost(&self.conn, CloseReason::TransportClose);
        self.conn.abort();
        self.shard.conn_gone(&self.conn);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let same = self.conn.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !same {
            *self.conn.waker.borrow_mut() = Some(cx.waker().clone());
        }
        for _ in 0..READS_A_TURN {
            if self.conn.phase.get() == Phase::Dead || self.has_lingered(cx) {
                return Poll::Ready(());
            }
            match self.conn.poll_write(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if self.conn.phase.get() == Phase::Closing => {
                    return self.poll_hang_up(cx);
                }
                _ => {}
            }
            self.shard.account(&self.conn);
            if self.conn.paused.get() {
                return Poll::Pending;
            }
            if !self.rest.is_empty() {
                let (mut rest, at) = (std::mem::take(&mut self.rest), self.rest_at);
                let taken = at + self.process(&mut rest[at..]);
                if taken < rest.len() {
                    (self.rest, self.rest_at) = (rest, taken);
                    break;
                }
                continue;
            }
            let read = READ_BUFFER.with_borrow_mut(|scratch| match self.conn.poll_read(cx, scratch) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(false),
                Poll::Ready(Ok(read)) => {
                    self.shard.received_bytes(read);
                    let taken = self.process(&mut scratch[..read]);
                    if taken < read {
                        (self.rest, self.rest_at) = (scratch[taken..read].to_vec(), 0);
                    }
                    Poll::Ready(true)
                }
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Ready(true) => {}
            }
        }
        yield_to_reactor(cx);
        Poll::Pending
    }

    /// Takes messages out of `input` for as long as the connection is open and not paused, and it is its turn. Returns how many
    /// bytes were taken.
    fn process(&mut self, mut input: &mut [u8]) -> usize {
        let len = input.len();
        let sent = self.shard.sent_ever();
        for _ in 0..MESSAGES_A_TURN {
            if self.conn.phase.get() != Phase::Open {
                // Nothing that follows counts any more.
                input = &mut [];
            }
            if self.conn.paused.get() || self.shard.sent_ever() - sent > DELIVERIES_A_TURN {
                break;
            }
            match self.parser.next(&mut input) {
                Ok(Some(ping @ Message::Ping(payload))) => {
                    self.shard.conn_push(&self.conn, &Frame::pong(payload));
                    self.shard.conn_message(&self.conn, ping);
                }
                Ok(Some(Message::Close(code))) => {
                    let echo = Frame::close(code);
                    self.shard.conn_closes(&self.conn, CloseReason::TransportClose, &echo);
                }
                Ok(Some(message)) => self.shard.conn_message(&self.conn, message),
                Ok(None) => break,
                Err(error) => {
                    let close = Frame::close(Some(error.close_code()));
                    self.shard.conn_closes(&self.conn, CloseReason::TransportError, &close);
                }
            }
        }
        if self.conn.phase.get() == Phase::Open {
            self.conn.partial.set(self.parser.buffered());
            self.shard.account(&self.conn);
        }
        self.shard.settle();
        len - input.len()
    }

    /// Whether a connection that closes has had its time, even if it does not take what is queued.
    fn has_lingered(&mut self, cx: &mut Context<'_>) -> bool {
        if self.conn.phase.get() != Phase::Closing {
            return false;
        }
        let linger = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        linger.as_mut().poll(cx).is_ready()
    }

    /// Says goodbye to the socket and waits a little for the other side, so that what was written last is not lost to a reset.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_shut_down {
            let mut stream = self.conn.stream.borrow_mut();
            let Some(stream) = stream.as_mut() else { return Poll::Ready(()) };
            match stream.poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => self.has_shut_down = true,
            }
        }
        READ_BUFFER.with_borrow_mut(|scratch| {
            for _ in 0..READS_A_TURN {
                match self.conn.poll_read(cx, scratch) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                }
            }
            yield_to_reactor(cx);
            Poll::Pending
        })
    }
}

/// Asks to be polled again, but only after the sockets were looked at. A task that wakes itself plainly may have dozens of turns
/// before that.
fn yield_to_reactor(cx: &mut Context<'_>) {
    let yielded = std::pin::pin!(tokio::task::yield_now());
    let _ = yielded.poll(cx);
}
