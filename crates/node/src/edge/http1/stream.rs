//! A connection that speaks HTTP/1, whose requests pass through [`Requests`] on their way to the dispatcher.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_http::StatusCode;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    deadline::{Deadline, Limits, Overdue},
    exchange::{Exchange, SMALL_BODY},
    requests::{Passed, Requests},
};
use crate::shared::NodeShared;

/// Reads that lead to nothing before others have their turn.
const MOST_IDLE_READS: usize = 16;
/// So much of a body is read before whoever reads it and other connections have their turn. The dispatcher would have its buffer grow
/// to four times of this, and keep it.
const BODY_TURN: u64 = 32 * 1024;

/// A connection that speaks HTTP/1.
pub(crate) struct RequestStream<S> {
    io: S,
    requests: Requests,
    /// What the dispatcher is to read next.
    ready: BytesMut,
    exchange: Rc<Exchange>,
    deadline: Deadline,
    /// Bytes of a body that were read in this turn.
    turn: u64,
    node: Arc<NodeShared>,
}

impl<S> RequestStream<S> {
    pub(crate) fn new(io: S, is_secure: bool, node: Arc<NodeShared>) -> Self {
        let limits = Limits { head_timeout: node.config.header_timeout, body_pace: node.pace() };
        Self {
            io,
            requests: Requests::new(node.config.max_header_size),
            ready: BytesMut::new(),
            exchange: Rc::new(Exchange::new(is_secure)),
            deadline: Deadline::new(limits),
            turn: 0,
            node,
        }
    }

    /// What is told those who answer the connection's requests.
    pub(crate) fn exchange(&self) -> &Rc<Exchange> {
        &self.exchange
    }

    /// The connection below.
    pub(crate) fn get_ref(&self) -> &S {
        &self.io
    }

    /// The connection leaves HTTP, with what the dispatcher has yet to read.
    pub(crate) fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.ready)
    }

    /// Whether something has had its time and there is something to say about it; else the task is woken then.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.deadline.poll(cx)) {
            Overdue::Head => {
                self.node.count_dropped("header_timeout");
                let exchange = &self.exchange;
                let on_head = |head| exchange.head_passed(head);
                self.requests.refuse(StatusCode::REQUEST_TIMEOUT, &mut self.ready, on_head);
                self.deadline.received(0, None);
                Poll::Ready(Ok(()))
            }
            Overdue::Body => {
                self.node.count_dropped("body_timeout");
                self.exchange.body_overdue();
                Poll::Pending
            }
            // Nobody has answered that.
            Overdue::Answer => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// How many bytes may be read: of a body no more than whoever reads it allows, so that what is not taken yet stays in the kernel. The
    /// dispatcher would take another 256 KiB of each before anybody counts them.
    fn poll_allowed(&mut self, cx: &Context<'_>) -> Poll<usize> {
        if self.requests.is_transparent() {
            return Poll::Ready(usize::MAX);
        }
        // The beginning of a body comes with its head.
        let Some(read) = self.requests.body_read() else { return Poll::Ready(SMALL_BODY as usize) };
        let allowed = self.exchange.poll_allowed(read, cx);
        if allowed.is_ready() && self.exchange.take_has_waited() {
            self.deadline.restart();
        }
        if allowed.is_ready() && self.turn >= BODY_TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let allowed = allowed.map(|allowed| allowed.min(BODY_TURN - self.turn));
        allowed.map(|allowed| usize::try_from(allowed).unwrap_or(usize::MAX))
    }

    fn take_ready(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..length]);
        self.ready.advance(length);
        if self.ready.is_empty() {
            self.ready = BytesMut::new();
        }
    }
}

/// Reads so many bytes at most.
fn poll_read_at_most<S: AsyncRead + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<io::Result<()>> {
    if most >= buffer.remaining() {
        return Pin::new(io).poll_read(cx, buffer);
    }
    let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
    ready!(Pin::new(io).poll_read(cx, &mut part))?;
    let read = part.filled().len();
    buffer.advance(read);
    Poll::Ready(Ok(()))
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        for _ in 0..MOST_IDLE_READS {
            if !this.ready.is_empty() {
                this.take_ready(buffer);
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(most) = this.poll_allowed(cx) else {
                if this.exchange.waits_for_room() {
                    // Which has a deadline of its own: it is not the client that is slow.
                    return Poll::Pending;
                }
                ready!(this.poll_overdue(cx))?;
                continue;
            };
            let start = buffer.filled().len();
            if poll_read_at_most(&mut this.io, cx, buffer, most)?.is_pending() {
                ready!(this.poll_overdue(cx))?;
                continue;
            }
            let read = &buffer.filled()[start..];
            if read.is_empty() || this.requests.is_transparent() {
                return Poll::Ready(Ok(()));
            }
            let (exchange, node) = (&this.exchange, &this.node);
            let on_head = |head: Passed| {
                if head == Passed::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) {
                    node.count_dropped("header_size");
                }
                exchange.head_passed(head);
            };
            let passed = this.requests.pass(read, on_head);
            this.requests.push(&read[passed..], &mut this.ready, on_head);
            let length = read.len();
            this.deadline.received(length, this.requests.unfinished());
            this.turn = if this.requests.body_read().is_some() { this.turn + length as u64 } else { 0 };
            buffer.set_filled(start + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
