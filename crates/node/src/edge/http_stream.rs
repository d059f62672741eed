//! The connection under the HTTP dispatcher.
//!
//! The dispatcher bounds little of what a connection may do, so it is bounded below it: an answer has to be read at a least rate, and a
//! connection can be closed from anywhere when the node holds more than its budget.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::accept::Slot;
use crate::{
    ledger::Hangup,
    shared::NodeShared,
    transport::{Alarm, Progress},
};

/// A connection that speaks HTTP.
pub(crate) struct HttpStream<S> {
    io: S,
    node: Arc<NodeShared>,
    slot: Slot,
    hangup: Arc<Hangup>,
    /// What of an answer its client has not taken yet.
    unread: Option<Progress>,
    alarm: Alarm,
}

impl<S> HttpStream<S> {
    pub(super) fn new(io: S, node: Arc<NodeShared>, slot: Slot) -> Self {
        Self { io, node, slot, hangup: Arc::default(), unread: None, alarm: Alarm::default() }
    }

    /// What has the connection closed.
    pub(super) fn hangup(&self) -> &Arc<Hangup> {
        &self.hangup
    }

    /// The connection leaves HTTP; its slot is kept for as long as it is open.
    pub(super) fn into_inner(self) -> (S, Slot) {
        (self.io, self.slot)
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        if self.hangup.poll_due(cx) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// A write has come back with this. A client in the midst of an answer can be told nothing but the connection's end.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let pace = self.node.pace();
        match written {
            Poll::Ready(Ok(written)) => {
                if let Some(unread) = &mut self.unread {
                    let now = Instant::now();
                    unread.advance(now, written, &pace);
                    self.node.ledger.observe(now);
                    self.hangup.moved(self.node.ledger.now());
                }
            }
            Poll::Pending => {
                let unread = self.unread.get_or_insert_with(|| Progress::begin(Instant::now(), &pace));
                if self.alarm.poll(unread.until(), cx) {
                    self.node.count_dropped("answer_timeout");
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.io).poll_write(cx, buffer);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// The dispatcher flushes when it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() {
            self.unread = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
