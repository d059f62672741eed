//! A connection that speaks HTTP/1, whose requests pass through [`Requests`] on their way to the dispatcher.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{exchange::Exchange, requests::Requests};

/// Reads that lead to nothing before others have their turn.
const MOST_IDLE_READS: usize = 16;

/// A connection that speaks HTTP/1.
pub(crate) struct RequestStream<S> {
    io: S,
    requests: Requests,
    /// What the dispatcher is to read next.
    ready: BytesMut,
    exchange: Rc<Exchange>,
}

impl<S> RequestStream<S> {
    pub(crate) fn new(io: S, is_secure: bool) -> Self {
        let exchange = Rc::new(Exchange::new(is_secure));
        Self { io, requests: Requests::new(), ready: BytesMut::new(), exchange }
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

    fn take_ready(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..length]);
        self.ready.advance(length);
        if self.ready.is_empty() {
            self.ready = BytesMut::new();
        }
    }
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
            let start = buffer.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
            let read = &buffer.filled()[start..];
            if read.is_empty() || this.requests.is_transparent() {
                return Poll::Ready(Ok(()));
            }
            let exchange = &this.exchange;
            let passed = this.requests.pass(read, |head| exchange.head_passed(head));
            this.requests.push(&read[passed..], &mut this.ready, |head| exchange.head_passed(head));
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
