//! Datagrams or a stream to a TURN server.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use signalbox_turn::{RelayTransport, TurnUri, uri::Scheme};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, lookup_host},
};
use tokio_rustls::TlsConnector;

/// Largest datagram that is read.
const DATAGRAM: usize = 2048;

/// How the certificate of a server is checked.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// By this authority alone, or by those of the system.
    pub(super) fn new(authority: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        match authority {
            Some(path) => {
                for certificate in CertificateDer::pem_file_iter(path).context("cannot read the PEM file")? {
                    roots.add(certificate.context("the PEM file has something that is no certificate")?)?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

enum Kind {
    Datagrams(UdpSocket),
    Bytes(Box<dyn Stream>),
}

/// A connection.
pub(super) struct Wire {
    kind: Kind,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl Wire {
    /// Connects as the URI says.
    pub(super) async fn connect(uri: &TurnUri, tls: &Tls) -> io::Result<Self> {
        let found = lookup_host((uri.host(), uri.port())).await?.next();
        let remote = found.ok_or_else(|| io::Error::other("the host has no address"))?;
        let is_datagram =
            matches!((uri.scheme(), uri.relay()), (Scheme::Stun, _) | (_, Some(RelayTransport::Udp)));
        if is_datagram {
            let any: SocketAddr = match remote {
                SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                SocketAddr::V6(_) => ([0; 16], 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            // A port where nobody listens is an error at once, then.
            socket.connect(remote).await?;
            let local = socket.local_addr()?;
            return Ok(Self { kind: Kind::Datagrams(socket), local, remote });
        }
        let stream = TcpStream::connect(remote).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let stream: Box<dyn Stream> = match uri.scheme() {
            Scheme::Stuns | Scheme::Turns => {
                let name = ServerName::try_from(uri.host().to_owned()).map_err(io::Error::other)?;
                Box::new(tls.0.connect(name, stream).await?)
            }
            Scheme::Stun | Scheme::Turn => Box::new(stream),
        };
        Ok(Self { kind: Kind::Bytes(stream), local, remote })
    }

    pub(super) fn is_datagram(&self) -> bool {
        matches!(self.kind, Kind::Datagrams(_))
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            Kind::Datagrams(socket) => socket.send(bytes).await.map(|_| ()),
            Kind::Bytes(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// What comes next: a datagram, or some bytes. It may be given up and called again.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; DATAGRAM];
        let length = match &mut self.kind {
            Kind::Datagrams(socket) => socket.recv(&mut buffer).await?,
            Kind::Bytes(stream) => match stream.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => length,
            },
        };
        buffer.truncate(length);
        Ok(buffer)
    }
}
