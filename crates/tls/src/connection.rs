//! A connection to another program, in the clear or over TLS. It blocks, and each wait has an end.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

/// The shortest time that an address gets, however little is left.
const SHORTEST: Duration = Duration::from_millis(10);

/// A connection that is open. What takes longer than it may fails with [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Connection {
    layer: Layer,
}

#[derive(Debug)]
enum Layer {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Connection {
    /// Connects to a host, which is a name or an IP address, over TLS if a configuration for that is given. It, and all that is read and
    /// written before [`Self::wait_for_each`], may take so long together. The system alone decides how long the look-up of a name takes.
    ///
    /// # Errors
    /// The name has no address, none of its addresses answers, or TLS has no use for the name. TLS shakes hands when something is written or
    /// read, which then fails if the other side's certificate is not trusted.
    pub fn open(host: &str, port: u16, tls: Option<Arc<ClientConfig>>, within: Duration) -> io::Result<Self> {
        let until = Instant::now() + within;
        let tcp = connect(host, port, until)?;
        tcp.set_nodelay(true)?;
        let socket = Socket { tcp, limit: Limit::Until(until) };
        let Some(config) = tls else { return Ok(Self { layer: Layer::Plain(socket) }) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let client = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self { layer: Layer::Tls(Box::new(StreamOwned::new(client, socket))) })
    }

    /// From now on each read, and each write, may take so long.
    pub fn wait_for_each(&mut self, time: Duration) {
        let socket = match &mut self.layer {
            Layer::Plain(socket) => socket,
            Layer::Tls(stream) => &mut stream.sock,
        };
        socket.limit = Limit::Each(time);
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain(socket) => socket.read(buffer),
            Layer::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain(socket) => socket.write(bytes),
            Layer::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain(socket) => socket.flush(),
            Layer::Tls(stream) => stream.flush(),
        }
    }
}

/// Connects to the first address that answers. One that does not leaves the others their share of the time.
fn connect(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (address, others) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(others).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, share.max(SHORTEST)) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// TCP, with limits.
#[derive(Debug)]
struct Socket {
    tcp: TcpStream,
    limit: Limit,
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    Until(Instant),
    Each(Duration),
}

impl Socket {
    /// How long the next read or write may take.
    fn time(&self) -> io::Result<Duration> {
        let time = match self.limit {
            Limit::Until(until) => until.saturating_duration_since(Instant::now()),
            Limit::Each(time) => time,
        };
        if time.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(time) }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(Some(self.time()?))?;
        self.tcp.read(buffer).map_err(named)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(self.time()?))?;
        self.tcp.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// Where the time is over, Unix says that it would block, which others would take for an order to try again.
fn named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, path::PathBuf, thread};

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::{ServerConfig, ServerConnection, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

    use super::*;
    use crate::client;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A server that says once what it is told, over TLS; its port, and the file of its authority.
    fn echo(name: &str) -> (u16, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file =
            std::env::temp_dir().join(format!("signalbox-connection-{}-{name}.pem", std::process::id()));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (tcp, _) = listener.accept().unwrap();
            let tls = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(tls, tcp);
            let mut buffer = [0; 5];
            if stream.read_exact(&mut buffer).is_ok() {
                stream.write_all(&buffer).unwrap();
                stream.flush().unwrap();
                let _ = stream.read(&mut buffer);
            }
        });
        (port, file)
    }

    fn say(connection: &mut Connection) -> io::Result<[u8; 5]> {
        connection.write_all(b"hello")?;
        connection.flush()?;
        let mut heard = [0; 5];
        connection.read_exact(&mut heard)?;
        Ok(heard)
    }

    #[test]
    fn over_tls_only_the_authority_that_is_named_counts() {
        for host in ["127.0.0.1", "localhost"] {
            let (port, file) = echo(host);
            let tls = client::tls(Some(&file)).unwrap();
            let mut connection = Connection::open(host, port, Some(tls), PATIENCE).unwrap();
            assert_eq!(&say(&mut connection).unwrap(), b"hello");
            std::fs::remove_file(file).unwrap();
        }
        let (port, file) = echo("stranger");
        let tls = client::tls(None).unwrap();
        let mut connection = Connection::open("localhost", port, Some(tls), PATIENCE).unwrap();
        let error = say(&mut connection).unwrap_err();
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn nothing_is_waited_for_without_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut connection = Connection::open("127.0.0.1", port, None, Duration::from_millis(50)).unwrap();
        assert_eq!(connection.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(connection.write(b"x").unwrap_err().kind(), io::ErrorKind::TimedOut);
        connection.wait_for_each(Duration::from_millis(50));
        assert_eq!(connection.write(b"x").unwrap(), 1);
        assert_eq!(connection.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(listener);
        let refused = Connection::open("127.0.0.1", port, None, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
