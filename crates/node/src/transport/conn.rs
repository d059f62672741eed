//! One WebSocket: its outbox, which anybody on the shard may fill, and its byte stream, which only its task and the shard's runtime
//! touch.
//!
//! An idle connection owns no buffer: what is written waits in a queue of shared frames.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use signalbox_websocket::Frame;

use super::ByteStream;

/// Frames written with one system call.
const SLICES: usize = 32;

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
pub(super) enum Phase {
    Open,
    /// Write what is queued, then hang up.
    Closing,
    /// Unusable.
    Dead,
}

/// A WebSocket.
pub(crate) struct Conn {
    /// `None` until the handshake was answered.
    pub(super) stream: RefCell<Option<Box<dyn ByteStream>>>,
    outbox: RefCell<VecDeque<Bytes>>,
    /// Bytes in the outbox.
    queued: Cell<usize>,
    /// Bytes that may be in the outbox beyond its limit, until it is empty.
    allowance: Cell<usize>,
    /// Bytes of messages that have not arrived whole.
    pub(super) partial: Cell<usize>,
    /// Of both, bytes that the node's budget knows of.
    accounted: Cell<usize>,
    pub(super) waker: RefCell<Option<Waker>>,
    pub(super) phase: Cell<Phase>,
    /// Frames wait unread while an effect they must come after is under way.
    pub(super) paused: Cell<bool>,
    /// On the shard's list of connections to be written.
    is_dirty: Cell<bool>,
    pub(crate) role: Cell<Role>,
}

impl Conn {
    /// A connection whose handshake is not answered yet.
    pub(crate) fn pending() -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(None),
            outbox: RefCell::new(VecDeque::new()),
            queued: Cell::new(0),
            allowance: Cell::new(0),
            partial: Cell::new(0),
            accounted: Cell::new(0),
            waker: RefCell::new(None),
            phase: Cell::new(Phase::Open),
            paused: Cell::new(false),
            is_dirty: Cell::new(false),
            role: Cell::new(Role::Nobody),
        })
    }

    /// The handshake was answered: from now on frames may be written.
    pub(crate) fn connect(&self, stream: Box<dyn ByteStream>) {
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

    /// Whether more than `limit` waits to be written. A single frame is always within the limit, whatever its size.
    pub(crate) fn exceeds(&self, limit: usize) -> bool {
        self.queued.get() > limit + self.allowance.get() && self.outbox.borrow().len() > 1
    }

    /// Lets so many bytes wait beyond the limit, until nothing waits any more: what it is not the client's fault to have waited for.
    pub(crate) fn allow(&self, bytes: usize) {
        self.allowance.set(self.allowance.get() + bytes);
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
    pub(crate) fn mark_dirty(&self) -> bool {
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
        self.role.set(Role::Nobody);
    }

    /// Hangs up at once, whatever is queued.
    pub(crate) fn abort(&self) {
        self.phase.set(Phase::Dead);
        self.role.set(Role::Nobody);
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

    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        self.allowance.set(0);
        stream.poll_flush(cx)
    }

    /// Takes out what is queued, as if the socket had taken everything.
    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<Bytes> {
        self.queued.set(0);
        self.allowance.set(0);
        self.outbox.take().into()
    }

    /// Whether reading waits for [`Conn::resume`].
    #[cfg(test)]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Reads once into the scratch buffer.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Pending };
        stream.poll_read(cx, scratch)
    }
}
