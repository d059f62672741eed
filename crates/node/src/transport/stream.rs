//! The byte stream under a WebSocket: TCP, or TLS over it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use actix_rt::net::TcpStream;
use actix_tls::accept::rustls_0_23::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one connection that are written before the others have their turn.
pub(crate) const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// A connection that left the HTTP dispatcher.
pub(crate) trait ByteStream {
    /// Reads; 0 bytes are the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes as much of the slices as the other side takes now. A large one need not be written at once.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
    /// Sends what the stream itself has kept.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends writing.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

fn read(
    stream: Pin<&mut impl AsyncRead>,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    stream.poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
}

/// Writes as much as it takes now, of slices that are no more than a turn together, or a turn of the first: the kernel would copy all of a
/// large one at once.
fn write(
    stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    // Mostly there is one, and small.
    if let [one] = slices
        && one.len() <= WRITTEN_AT_ONCE
    {
        return stream.poll_write(cx, one);
    }
    let mut length = 0;
    let fit = |slice: &&IoSlice<'_>| {
        length += slice.len();
        length <= WRITTEN_AT_ONCE
    };
    let count = slices.iter().take_while(fit).count();
    match slices.first() {
        Some(first) if count == 0 => stream.poll_write(cx, &first[..WRITTEN_AT_ONCE]),
        _ => stream.poll_write_vectored(cx, &slices[..count]),
    }
}

impl ByteStream for TcpStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        read(Pin::new(self), cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        write(Pin::new(self), cx, slices)
    }

    /// TCP keeps nothing.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }
}

impl ByteStream for TlsStream<TcpStream> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        read(Pin::new(self), cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        write(Pin::new(self), cx, slices)
    }

    /// TLS keeps what it could not send.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(self), cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn no_more_than_a_turn_is_given_to_the_kernel_at_once() {
        let large = vec![0; 3 * WRITTEN_AT_ONCE];
        let written = |lengths: &[usize]| {
            let slices: Vec<_> = lengths.iter().map(|length| IoSlice::new(&large[..*length])).collect();
            let mut taken = Vec::new();
            let result = write(Pin::new(&mut taken), &mut Context::from_waker(Waker::noop()), &slices);
            assert!(matches!(result, Poll::Ready(Ok(count)) if count == taken.len()));
            taken.len()
        };
        assert_eq!([written(&[10]), written(&[10, 20])], [10, 30]);
        assert_eq!(written(&[large.len()]), WRITTEN_AT_ONCE);
        // The head of a binary event, and its attachment.
        assert_eq!(written(&[10, large.len()]), 10);
        assert_eq!(written(&[large.len(), 10]), WRITTEN_AT_ONCE);
    }
}
