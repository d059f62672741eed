//! The connection under the HTTP dispatcher.
//!
//! The dispatcher bounds little of what a connection may do, so it is bounded before it: a connection can be closed from anywhere,
//! when the node holds more than its budget.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ledger::Hangup;

/// A connection that speaks HTTP.
pub(crate) struct HttpStream<S> {
    io: S,
    hangup: Arc<Hangup>,
}

impl<S> HttpStream<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, hangup: Arc::default() }
    }

    /// What has the connection closed.
    pub(super) fn hangup(&self) -> &Arc<Hangup> {
        &self.hangup
    }

    /// The connection leaves HTTP.
    pub(super) fn into_inner(self) -> S {
        self.io
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        if self.hangup.poll_due(cx) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
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
        Pin::new(&mut self.io).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
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
