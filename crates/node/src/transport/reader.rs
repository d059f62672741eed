//! The task of one WebSocket: it reads, and writes on where the socket did not take everything.
//!
//! Reading goes through a scratch buffer that the thread's connections share. Whoever has put frames into outboxes lets the shard
//! write them.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use signalbox_engineio::CloseReason;
use signalbox_websocket::{Frame, Message, Parser};

use super::{Alarm, Conn, ConnectionEvents, Pace, Progress, Role, Wait, Written, conn::Phase};
use crate::ledger::{MOVE, OVERHEAD};

/// Bytes read at once, into a buffer that all connections of a thread share.
const SCRATCH: usize = 64 * 1024;
/// Reads of one connection before the others have their turn.
const READS_A_TURN: usize = 4;
/// Messages of one connection before the others have their turn,
const MESSAGES_A_TURN: usize = 16;
/// how many while a queue is crowded that they may be for,
const MESSAGES_A_SHORT_TURN: usize = 8;
/// and how many deliveries these may have caused.
pub(crate) const DELIVERIES_A_TURN: u64 = 2_000;
/// So much of a message is read in any case; the rest of it only while the node keeps its budget.
const SMALL: usize = 16 * 1024;
/// How often it is looked whether it does again.
const LOOK: Duration = Duration::from_millis(20);
/// How long a connection that was closed from this side may take to hang up.
const LINGER: Duration = Duration::from_secs(5);

/// The code of the close frame for a message that does not arrive in its time.
const POLICY_VIOLATION: u16 = 1008;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// What a client may send, and how slowly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReaderLimits {
    /// Largest message in bytes.
    pub(crate) max_payload: usize,
    pub(crate) pace: Pace,
}

/// The task of one connection.
pub(crate) struct Reader {
    conn: Rc<Conn>,
    events: Rc<dyn ConnectionEvents>,
    parser: Parser,
    /// Bytes that were read and wait for their turn, from `rest_at` on.
    rest: Vec<u8>,
    rest_at: usize,
    pace: Pace,
    /// A message that has not arrived whole.
    partial: Option<Progress>,
    /// Bytes that were taken since the client has moved.
    unmoved: usize,
    alarm: Alarm,
    /// What it waits for before it reads on.
    wait: Option<Arc<dyn Wait>>,
    /// Since when there is no room for the rest of a message,
    waits_since: Option<Instant>,
    /// and when it is looked again whether there is.
    look: Option<Pin<Box<tokio::time::Sleep>>>,
    linger: Option<Pin<Box<tokio::time::Sleep>>>,
    has_shut_down: bool,
}

impl Reader {
    /// `rest` is what arrived with the handshake.
    pub(crate) fn new(
        conn: Rc<Conn>,
        events: Rc<dyn ConnectionEvents>,
        limits: ReaderLimits,
        rest: Vec<u8>,
    ) -> Self {
        let parser = Parser::new(limits.max_payload);
        Self {
            conn,
            events,
            parser,
            rest,
            rest_at: 0,
            pace: limits.pace,
            partial: None,
            unmoved: 0,
            alarm: Alarm::default(),
            wait: None,
            waits_since: None,
            look: None,
            linger: None,
            has_shut_down: false,
        }
    }

    /// Serves the connection until it is over.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        self.conn.wait_for_room(false);
        // Whoever found the connection dead, its owner has to hear of it.
        self.events.lost(&self.conn, CloseReason::TransportClose);
        self.conn.abort();
        self.events.ended(&self.conn);
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
            // One that is not read on has no turn among those who wait to be, which others would wait for.
            let has_turn = self.wait.as_ref().is_some_and(|wait| wait.is_over());
            if self.conn.phase.get() != Phase::Open || self.conn.paused.get() && has_turn {
                self.wait = None;
            }
            let written = if self.conn.has_long_queue() {
                self.events.list_for_writing(&self.conn);
                Poll::Pending
            } else {
                self.conn.poll_write(cx)
            };
            match written {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(Written::AsFarAsItGoes)) if self.conn.phase.get() == Phase::Closing => {
                    return match self.poll_close_answer(cx) {
                        Poll::Ready(true) => self.poll_hang_up(cx),
                        Poll::Ready(false) => Poll::Ready(()),
                        Poll::Pending => Poll::Pending,
                    };
                }
                _ => {}
            }
            self.conn.update_charge();
            if self.conn.paused.get() || self.wait.as_ref().is_some_and(|wait| !wait.is_over()) {
                return Poll::Pending;
            }
            // Its turn among those who waited, if it did, is over at the end of this one.
            let _turn = self.wait.take();
            self.events.begin_turn();
            if !self.rest.is_empty() {
                let (mut rest, at) = (std::mem::take(&mut self.rest), self.rest_at);
                let taken = at + self.process(&mut rest[at..]);
                self.wait = self.events.wait_after_turn(cx);
                if taken < rest.len() {
                    (self.rest, self.rest_at) = (rest, taken);
                    break;
                }
                continue;
            }
            if self.waits_for_room(cx) {
                return Poll::Pending;
            }
            let read = READ_BUFFER.with_borrow_mut(|scratch| match self.conn.poll_read(cx, scratch) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(false),
                Poll::Ready(Ok(read)) => {
                    self.events.received_bytes(read);
                    let taken = self.process(&mut scratch[..read]);
                    if taken < read {
                        (self.rest, self.rest_at) = (scratch[taken..read].to_vec(), 0);
                    }
                    Poll::Ready(true)
                }
            });
            match read {
                Poll::Pending if self.is_overdue(cx) => {
                    self.events.message_overdue();
                    let close = Frame::close(Some(POLICY_VIOLATION));
                    self.events.closing(&self.conn, CloseReason::TransportError, &close);
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Ready(true) => self.wait = self.events.wait_after_turn(cx),
            }
        }
        yield_to_reactor(cx);
        Poll::Pending
    }

    /// Takes messages out of `input` for as long as the connection is open and not paused, and it is its turn. Returns how many
    /// bytes were taken.
    fn process(&mut self, mut input: &mut [u8]) -> usize {
        let len = input.len();
        let sent = self.events.deliveries();
        let mut has_ended = false;
        let turn = if self.events.is_crowded() { MESSAGES_A_SHORT_TURN } else { MESSAGES_A_TURN };
        for _ in 0..turn {
            if self.conn.phase.get() != Phase::Open {
                // Nothing that follows counts any more.
                input = &mut [];
            }
            if self.conn.paused.get() || self.events.deliveries() - sent > DELIVERIES_A_TURN {
                break;
            }
            match self.parser.next(&mut input) {
                Ok(Some(ping @ Message::Ping(payload))) => {
                    self.events.push_pong(&self.conn, &Frame::pong(payload));
                    self.events.message(&self.conn, ping);
                }
                Ok(Some(Message::Close(code))) => {
                    let echo = Frame::close(code);
                    self.events.closing(&self.conn, CloseReason::TransportClose, &echo);
                }
                Ok(Some(message)) => {
                    has_ended = true;
                    self.events.message(&self.conn, message);
                }
                Ok(None) => break,
                Err(error) => {
                    let close = Frame::close(Some(error.close_code()));
                    self.events.closing(&self.conn, CloseReason::TransportError, &close);
                }
            }
        }
        if self.conn.phase.get() == Phase::Open {
            self.hold(input.len());
            self.note_partial(len - input.len(), has_ended);
            self.note_move(len - input.len());
        }
        self.events.flush();
        len - input.len()
    }

    /// Whether the rest of a large message stays in the kernel for now, since the node holds more than its budget: messages that arrive
    /// together would come faster than clients are cut off for them. The time is not counted as its.
    fn waits_for_room(&mut self, cx: &mut Context<'_>) -> bool {
        let is_large = self.parser.buffered() >= SMALL && !self.parser.is_between_messages();
        while is_large && self.conn.is_open() && self.conn.lacks_room() {
            if self.waits_since.is_none() {
                self.waits_since = Some(Instant::now());
                self.conn.wait_for_room(true);
            }
            let look = self.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
            if look.as_mut().poll(cx).is_pending() {
                return true;
            }
            self.look = None;
            // Has the next one cut off, which may be this one.
            self.events.flush();
        }
        if let Some(since) = self.waits_since.take() {
            self.look = None;
            self.conn.wait_for_room(false);
            if let Some(partial) = &mut self.partial {
                partial.postpone(since.elapsed());
            }
        }
        false
    }

    /// Whether a message has been on its way for too long.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let is_open = self.conn.phase.get() == Phase::Open;
        let Some(partial) = self.partial.filter(|_| is_open) else { return false };
        self.alarm.poll(partial.until(), cx)
    }

    /// Notes how much of a message has arrived; `has_ended` if another one has ended meanwhile.
    fn note_partial(&mut self, bytes: usize, has_ended: bool) {
        if self.parser.is_between_messages() {
            self.partial = None;
            return;
        }
        match &mut self.partial {
            Some(partial) if !has_ended => partial.advance(Instant::now(), bytes, &self.pace),
            partial => *partial = Some(Progress::begin(Instant::now(), &self.pace)),
        }
    }

    /// Notes that so much was taken of what the client sends.
    fn note_move(&mut self, bytes: usize) {
        self.unmoved += bytes;
        if self.unmoved >= MOVE {
            self.unmoved = 0;
            self.conn.moves();
        }
    }

    /// Charges the client for what has not arrived whole, and for what waits for its turn.
    fn hold(&self, rest: usize) {
        let parts = self.parser.buffered() + rest;
        self.conn.partial.set(if parts > 0 { parts + OVERHEAD } else { 0 });
        self.conn.update_charge();
    }

    /// Whether a connection that closes has had its time, even if it does not take what is queued.
    fn has_lingered(&mut self, cx: &mut Context<'_>) -> bool {
        if self.conn.phase.get() != Phase::Closing {
            return false;
        }
        let linger = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        linger.as_mut().poll(cx).is_ready()
    }

    /// Waits for the answer to the close frame where somebody wants to know of it. A proxy would not pass it on once the socket is
    /// shut down. `false`: the connection is lost.
    fn poll_close_answer(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        for _ in 0..READS_A_TURN {
            if !matches!(self.conn.role.get(), Role::Superseded(_)) {
                return Poll::Ready(true);
            }
            if self.rest.is_empty() {
                self.rest_at = 0;
                let read = READ_BUFFER.with_borrow_mut(|scratch| {
                    self.conn
                        .poll_read(cx, scratch)
                        .map_ok(|read| self.rest.extend_from_slice(&scratch[..read]))
                });
                match read {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(())) if self.rest.is_empty() => return Poll::Ready(false),
                    Poll::Ready(Ok(())) => {}
                }
            }
            let mut rest = std::mem::take(&mut self.rest);
            let mut input = &mut rest[self.rest_at..];
            loop {
                match self.parser.next(&mut input) {
                    Ok(Some(close @ Message::Close(_))) => {
                        self.events.message(&self.conn, close);
                        self.events.flush();
                        return Poll::Ready(true);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return Poll::Ready(true),
                }
            }
        }
        yield_to_reactor(cx);
        Poll::Pending
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
