//! One WebSocket: its outbox, which anybody on the shard may fill, and its byte stream, which only its task and the shard's runtime
//! touch.
//!
//! An idle connection owns no buffer: what is written waits in a queue of shared frames.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf, Bytes};
use signalbox_engineio::packet::as_text;
use signalbox_websocket::Frame;

use super::stream::{ByteStream, WRITTEN_AT_ONCE};
use crate::ledger::{Account, Charge, OVERHEAD};

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
    /// A PeerServer client that has lost its id to another connection. It is being closed, and whether it answers tells whether it
    /// was alive.
    Superseded(u32),
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

/// How far an outbox was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it, or as much as the socket takes: its task writes on when it takes more.
    AsFarAsItGoes,
    /// So much that it is the turn of others.
    Turn,
}

/// When a connection is written that has something to write; what comes later is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listed {
    /// It has nothing.
    No,
    /// So much waits for it that it takes several turns.
    Long,
    /// It has received what a crowd has.
    Crowd,
    First,
}

/// A frame in an outbox, or what of it was not written yet.
struct Queued {
    bytes: Bytes,
    is_shared: bool,
}

/// A WebSocket.
pub(crate) struct Conn {
    /// `None` until the handshake was answered.
    pub(super) stream: RefCell<Option<Box<dyn ByteStream>>>,
    outbox: RefCell<VecDeque<Queued>>,
    /// What waits in the outbox for this client alone, with what it costs to wait,
    private: Cell<usize>,
    /// and bytes there that other clients may share.
    shared: Cell<usize>,
    /// The first frame of the outbox was written in part.
    is_first_begun: Cell<bool>,
    /// The socket has not taken what was written last.
    is_blocked: Cell<bool>,
    /// Where in the outbox the answer to the latest ping is.
    pong_at: Cell<Option<usize>>,
    /// Bytes that may be in the outbox beyond its limit, until it is empty.
    allowance: Cell<usize>,
    /// Bytes of messages that have not arrived whole.
    pub(super) partial: Cell<usize>,
    /// The client's account with what of all this it was charged; `None` where nobody counts.
    charge: Option<Charge>,
    pub(super) waker: RefCell<Option<Waker>>,
    pub(super) phase: Cell<Phase>,
    /// Frames wait unread while an effect they must come after is under way.
    pub(super) paused: Cell<bool>,
    /// Its task has something to do that it does not know of: to read on, or to hang up.
    is_to_wake: Cell<bool>,
    /// Its client asked for binary as base64 text.
    pub(crate) is_text_only: Cell<bool>,
    /// On which of the shard's lists of connections to be written.
    listed: Cell<Listed>,
    pub(crate) role: Cell<Role>,
    address: Cell<Option<IpAddr>>,
}

impl Conn {
    /// A connection whose handshake is not answered yet, and whose client has this account.
    pub(crate) fn new(account: Arc<Account>) -> Rc<Self> {
        Self::with_charge(Some(Charge::new(account)))
    }

    /// One for which nobody counts.
    #[cfg(test)]
    pub(crate) fn pending() -> Rc<Self> {
        Self::with_charge(None)
    }

    fn with_charge(charge: Option<Charge>) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(None),
            outbox: RefCell::new(VecDeque::new()),
            private: Cell::new(0),
            shared: Cell::new(0),
            is_first_begun: Cell::new(false),
            is_blocked: Cell::new(false),
            pong_at: Cell::new(None),
            allowance: Cell::new(0),
            partial: Cell::new(0),
            charge,
            waker: RefCell::new(None),
            phase: Cell::new(Phase::Open),
            paused: Cell::new(false),
            is_to_wake: Cell::new(false),
            is_text_only: Cell::new(false),
            listed: Cell::new(Listed::No),
            role: Cell::new(Role::Nobody),
            address: Cell::new(None),
        })
    }

    /// Whose connection it is, for the log.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address.get()
    }

    pub(crate) fn set_address(&self, address: Option<IpAddr>) {
        self.address.set(address);
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
        let as_text = if self.is_text_only.get() { Some(as_text(frame)) } else { None };
        let frame = as_text.as_ref().unwrap_or(frame);
        let is_shared = frame.is_shared();
        let shared = if is_shared { frame.len() } else { 0 };
        self.private.set(self.private.get() + OVERHEAD + frame.len() - shared);
        self.shared.set(self.shared.get() + shared);
        self.outbox.borrow_mut().push_back(Queued { bytes: frame.bytes().clone(), is_shared });
        true
    }

    /// Queues the answer to a ping. Only the latest ping is answered (RFC 6455 §5.5.3): the answer takes the place of one that waits,
    /// unless that is being written. `false` once the connection closes.
    pub(crate) fn push_pong(&self, pong: &Frame) -> bool {
        if let Some(at) = self.pong_at.get().filter(|at| *at > 0 || !self.is_first_begun.get())
            && let Some(waiting) = self.outbox.borrow_mut().get_mut(at)
        {
            self.private.set(self.private.get() + pong.len() - waiting.bytes.len());
            waiting.bytes = pong.bytes().clone();
            return true;
        }
        let at = self.outbox.borrow().len();
        let is_queued = self.push(pong);
        if is_queued {
            self.pong_at.set(Some(at));
        }
        is_queued
    }

    /// Whether more than `limit` waits to be written. A single frame is always within the limit, whatever its size.
    pub(crate) fn exceeds(&self, limit: usize) -> bool {
        self.queued() > limit + self.allowance.get() && self.outbox.borrow().len() > 1
    }

    /// Lets so many bytes wait beyond the limit, until nothing waits any more: what it is not the client's fault to have waited for.
    pub(crate) fn allow(&self, bytes: usize) {
        self.allowance.set(self.allowance.get() + bytes);
    }

    /// Whether a frame would leave at once: nothing waits, or only until it is the crowd's turn.
    pub(crate) fn is_idle(&self) -> bool {
        let is_in_crowd = self.listed.get() == Listed::Crowd && !self.is_blocked.get();
        self.queued() == 0 || is_in_crowd && !self.has_long_queue()
    }

    /// What waits to be written, with what it costs to wait.
    pub(crate) fn queued(&self) -> usize {
        self.private.get() + self.shared.get()
    }

    /// Charges the client for what its connection holds by now: what waits to be written, and what has not arrived whole.
    pub(crate) fn update_charge(&self) {
        if let Some(charge) = &self.charge {
            charge.set(self.private.get() + self.partial.get(), self.shared.get());
        }
    }

    /// The client has taken something of what waits, or sent enough: it moves.
    pub(super) fn moves(&self) {
        if let Some(charge) = &self.charge {
            charge.account().moves(Instant::now());
        }
    }

    /// Whether the node holds more for its clients than it may.
    pub(super) fn lacks_room(&self) -> bool {
        self.charge.as_ref().is_some_and(|charge| charge.account().lacks_room())
    }

    /// From now on it is the node's doing, or not any more, that the client does not go on.
    pub(super) fn wait_for_room(&self, waits: bool) {
        if let Some(charge) = &self.charge {
            charge.account().wait(waits);
        }
    }

    /// The client's account.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.charge.as_ref().map(Charge::account)
    }

    /// Whether this account is the client's.
    pub(crate) fn is_of(&self, account: &Arc<Account>) -> bool {
        self.account().is_some_and(|own| Arc::ptr_eq(own, account))
    }

    /// Puts it on a list of connections to be written; `true` if it was not there, or on one that comes later.
    #[inline]
    pub(crate) fn list(&self, list: Listed) -> bool {
        let is_news = self.listed.get() < list;
        if is_news {
            self.listed.set(list);
        }
        is_news
    }

    #[inline]
    pub(crate) fn is_listed_first(&self) -> bool {
        self.listed.get() == Listed::First
    }

    /// Takes it off this list; `false` if it is not there any more.
    #[inline]
    pub(crate) fn unlist(&self, list: Listed) -> bool {
        let was_listed = self.listed.get() == list;
        if was_listed {
            self.listed.set(Listed::No);
        }
        was_listed
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    /// Has what is queued written, then the close frame, then hangs up. As with all that is queued, the caller lists the connection for
    /// writing.
    pub(crate) fn close(&self, frame: &Frame) {
        if self.push(frame) {
            self.phase.set(Phase::Closing);
            self.is_to_wake.set(true);
        }
        // Also of one that is dead: its task has yet to find that out, and the owner's key may be another's by then.
        self.role.set(Role::Nobody);
    }

    /// Hangs up at once, whatever is queued; its task does when the connection is written.
    pub(crate) fn abort(&self) {
        self.phase.set(Phase::Dead);
        self.role.set(Role::Nobody);
        self.outbox.take();
        self.nothing_waits();
        self.partial.set(0);
        self.update_charge();
        self.is_to_wake.set(true);
    }

    /// Stops reading until [`Conn::resume`]: at once, so that the next message of what was read already waits too.
    pub(crate) fn pause(&self) {
        self.paused.set(true);
    }

    /// Reads on, once the connection is written.
    pub(crate) fn resume(&self) {
        if self.paused.replace(false) {
            self.is_to_wake.set(true);
        }
    }

    /// Whether its task is to be woken by the next write.
    pub(crate) fn is_to_wake(&self) -> bool {
        self.is_to_wake.get()
    }

    fn nothing_waits(&self) {
        self.private.set(0);
        self.shared.set(0);
        self.is_first_begun.set(false);
        self.pong_at.set(None);
    }

    /// Writes what is queued, as much as the socket takes, and no more than what is one turn. Not within tokio's bound of what one task
    /// does at once: beyond it, it would look as if the socket took nothing. What the socket does not take, the
    /// connection's task writes when it can. Wakes the task if it has to read on, or to hang up.
    pub(crate) fn write(&self) -> Written {
        let waker = self.waker.borrow();
        // Before its first poll the task has left no waker, and will do it all by itself.
        let Some(waker) = waker.as_ref() else { return Written::AsFarAsItGoes };
        let written = self.poll_write(&mut Context::from_waker(waker));
        if matches!(written, Poll::Ready(Err(_))) {
            self.phase.set(Phase::Dead);
        }
        let is_turn = matches!(written, Poll::Ready(Ok(Written::Turn)));
        let is_over = written.is_ready() && !is_turn && self.phase.get() != Phase::Open;
        if self.is_to_wake.replace(false) || is_over {
            waker.wake_by_ref();
        }
        if is_turn { Written::Turn } else { Written::AsFarAsItGoes }
    }

    /// Whether more waits than is written in one turn: then it is the shard that writes it, turn by turn.
    #[inline]
    pub(crate) fn has_long_queue(&self) -> bool {
        self.queued() > WRITTEN_AT_ONCE
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<Written>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Pending };
        let mut outbox = self.outbox.borrow_mut();
        let mut left = WRITTEN_AT_ONCE;
        while let Some(first) = outbox.front() {
            if left == 0 {
                return Poll::Ready(Ok(Written::Turn));
            }
            let (mut count, mut offered) = (1, first.bytes.len());
            // Mostly there is one.
            let written = if outbox.len() == 1 {
                stream.poll_write(cx, &[IoSlice::new(&first.bytes)])
            } else {
                let mut slices = [IoSlice::new(&first.bytes); SLICES];
                for (slice, queued) in slices.iter_mut().zip(outbox.iter()).skip(1) {
                    if offered >= left {
                        break;
                    }
                    *slice = IoSlice::new(&queued.bytes);
                    offered += queued.bytes.len();
                    count += 1;
                }
                stream.poll_write(cx, &slices[..count])
            };
            self.is_blocked.set(written.is_pending());
            let mut written = match written {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => written,
            };
            if written == offered && count == outbox.len() {
                break;
            }
            left = left.saturating_sub(written);
            // More may have come for it meanwhile than it has taken.
            self.moves();
            while written > 0 {
                let Some(first) = outbox.front_mut() else { break };
                let is_whole = first.bytes.len() <= written;
                let taken = if is_whole { first.bytes.len() } else { written };
                let waiting = if first.is_shared { &self.shared } else { &self.private };
                waiting.set(waiting.get() - taken);
                written -= taken;
                self.is_first_begun.set(!is_whole);
                if !is_whole {
                    first.bytes.advance(taken);
                    break;
                }
                self.private.set(self.private.get() - OVERHEAD);
                outbox.pop_front();
                if let Some(at) = self.pong_at.get() {
                    self.pong_at.set(at.checked_sub(1));
                }
            }
        }
        // A queue that was once long keeps no memory.
        *outbox = VecDeque::new();
        self.nothing_waits();
        self.allowance.set(0);
        stream.poll_flush(cx).map_ok(|()| Written::AsFarAsItGoes)
    }

    /// Takes out what is queued, as if the socket had taken everything.
    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<Bytes> {
        self.nothing_waits();
        self.allowance.set(0);
        self.outbox.take().into_iter().map(|queued| queued.bytes).collect()
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

#[cfg(test)]
mod tests;
