//! A connection between two nodes, in TLS or not.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, WriteHalf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::tls::TlsConfigs;

/// Bytes that both ends of a TLS connection export, and nobody else knows.
const BINDING: usize = 32;
/// What they are exported for (RFC 9266).
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// A TLS connection begins with a record of this type: a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// The connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls {
        stream: Box<TlsStream<TcpStream>>,
        /// What names this connection, and no other.
        binding: [u8; BINDING],
    },
}

impl Stream {
    /// Begins TLS as the end that has connected.
    pub(super) async fn connect(stream: TcpStream, configs: &TlsConfigs) -> io::Result<Self> {
        let connector = TlsConnector::from(configs.client.clone());
        // Nodes are known by their certificate's issuer and by the cluster's secret, so that the name stands for nothing.
        let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
        let stream = connector.connect(name, stream).await?;
        let exported = stream.get_ref().1.export_keying_material([0; BINDING], BINDING_LABEL, Some(b""));
        Ok(Self::Tls { binding: exported.map_err(io::Error::other)?, stream: Box::new(stream.into()) })
    }

    /// Begins TLS as the end that was connected to.
    pub(super) async fn accept(stream: TcpStream, configs: &TlsConfigs) -> io::Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::clone(&configs.server));
        let stream = acceptor.accept(stream).await?;
        let exported = stream.get_ref().1.export_keying_material([0; BINDING], BINDING_LABEL, Some(b""));
        Ok(Self::Tls { binding: exported.map_err(io::Error::other)?, stream: Box::new(stream.into()) })
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }

    /// What names the TLS connection; empty without TLS.
    pub(super) fn binding(&self) -> &[u8] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls { binding, .. } => binding,
        }
    }
}

/// Whether the other end begins with TLS. Waits for its first byte, and leaves it where it is.
pub(super) async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0] == TLS_HANDSHAKE),
    }
}

/// Writes some of what is in the buffer; when there is nothing, has TLS send what it holds back. Returns whether everything was sent.
/// Nothing is lost when it is dropped.
pub(super) async fn write_some(writer: &mut WriteHalf<Stream>, buffer: &mut BytesMut) -> io::Result<bool> {
    if buffer.is_empty() {
        return writer.flush().await.map(|()| true);
    }
    match writer.write_buf(buffer).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(false),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls { stream, .. } => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(context),
        }
    }
}
