//! Listeners and workers: an `App` for HTTP, and the upgrade service beside it, on the same port.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_codec::Framed;
use actix_http::{HttpService, Protocol, Request, error::DispatchError, h1};
use actix_rt::net::TcpStream;
use actix_server::{Server, ServerBuilder};
use actix_service::{
    IntoServiceFactory, Service as _, ServiceFactoryExt, apply_fn_factory, fn_service, map_config,
};
use actix_tls::accept::{
    max_concurrent_tls_connect,
    rustls_0_23::{Acceptor, TlsStream},
};
use actix_web::{
    App,
    dev::AppConfig,
    middleware::from_fn,
    web::{self, ServiceConfig},
};

use super::{
    accept::{self, Admitted, Handshakes},
    answers,
    cors::{self, Cors},
    http,
    http_stream::HttpStream,
    http1::RequestStream,
    upgrade,
};
use crate::shared::NodeShared;

/// How long a connection may be idle between requests; longer than a load balancer's usual minute.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may read nothing of what waits for it before the kernel gives the connection up. WebSockets have pings that
/// notice; the answer to a request has none.
#[cfg(target_os = "linux")]
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
/// So many bytes are in the kernel of what a client has not been sent yet: what it does not read waits in the node, where it is shared,
/// counted and bounded, and is not copied before it can leave. The kernel alone would take 4 MB.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 256 * 1024;
/// Connections that wait to be accepted; the usual limit of the system.
const BACKLOG: u32 = 4096;

/// Connections that a worker may have accepted beyond its part, to refuse them.
const MAX_UNADMITTED: usize = 16;

/// How a node is served.
pub struct Serve {
    /// The listening socket.
    pub listener: TcpListener,
    /// Who may read answers from other origins.
    pub cors: Cors,
    /// TLS, if the node terminates it itself.
    pub tls: Option<rustls::ServerConfig>,
}

impl std::fmt::Debug for Serve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// Binds an address with a backlog that survives a storm of reconnects. `::` is all addresses of both families, and without IPv6 all of
/// IPv4.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    use std::net::ToSocketAddrs;
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    let without_ipv6 = (host == "::").then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    for address in (host, port).to_socket_addrs()?.chain(without_ipv6) {
        let bound = || -> io::Result<TcpListener> {
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
            if address.ip() == Ipv6Addr::UNSPECIFIED {
                socket.set_only_v6(false)?;
            }
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            // Its connections inherit them.
            #[cfg(target_os = "linux")]
            socket.set_tcp_user_timeout(Some(UNREAD_TIMEOUT))?;
            // A kernel that does not know it takes more.
            #[cfg(target_os = "linux")]
            let _ = socket.set_tcp_notsent_lowat(UNSENT);
            socket.bind(&address.into())?;
            socket.listen(BACKLOG as i32)?;
            Ok(TcpListener::from(socket))
        };
        match bound() {
            Ok(listener) => return Ok(listener),
            // Somebody listens there, which is no reason to listen elsewhere.
            Err(error) if host == "::" && error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One worker's service: the `App`, and the upgrade service beside it. A macro, since the type of an `App` cannot be named, and
/// differs with the stream's.
macro_rules! http_service {
    ($node:expr, $enter:expr, $cors:expr, $configure:expr, $stream:ty) => {{
        $enter();
        let node = $node.clone();
        let upgrade_node = node.clone();
        let cors = $cors.clone();
        let app = App::new()
            .app_data(web::Data::from(node))
            .wrap(from_fn(move |request, next| cors::middleware(cors.clone(), request, next)))
            .configure($configure.clone())
            .default_service(web::to(http::handle))
            .wrap(from_fn(answers::middleware));
        HttpService::build()
            .keep_alive(KEEP_ALIVE)
            // It would bound the first head alone; `RequestStream` bounds each.
            .client_request_timeout(Duration::ZERO)
            .h1_allow_half_closed(false)
            .on_connect_ext(|stream: &RequestStream<HttpStream<$stream>>, data| {
                data.insert(stream.exchange().clone());
                data.insert(stream.get_ref().hangup().clone());
            })
            .upgrade(fn_service(
                move |(request, framed): (Request, Framed<RequestStream<HttpStream<$stream>>, h1::Codec>)| {
                    let node = upgrade_node.clone();
                    async move {
                        upgrade::serve(node, request, framed).await;
                        Ok::<_, Infallible>(())
                    }
                },
            ))
            .finish(map_config(app.into_factory(), |()| AppConfig::default()))
    }};
}

/// Serves a node, with `configure`'s routes before its own, on as many workers as it has shards; `enter` makes a worker's thread one
/// of these.
pub(crate) fn serve<E, F>(node: Arc<NodeShared>, enter: E, serve: Serve, configure: F) -> io::Result<Server>
where
    E: Fn() + Clone + Send + 'static,
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let Serve { listener, cors, tls } = serve;
    // Handshakes are bounded by whoever begins them. With a bound of its own the acceptor would keep everybody out.
    max_concurrent_tls_connect(usize::MAX / 2);
    let builder = Server::build()
        .workers(node.mailboxes.len())
        .backlog(BACKLOG)
        .max_concurrent_connections(max_http_connections(&node))
        .shutdown_timeout(1)
        .disable_signals();
    Ok(match tls {
        None => listen_tcp(builder, listener, node, enter, cors, configure)?.run(),
        Some(tls) => listen_tls(builder, listener, node, enter, cors, tls, configure)?.run(),
    })
}

/// How many connections one worker has accepted that are no WebSockets. Slots bound what there may be; this bounds those that have
/// yet to be admitted or refused, since each is an open file.
fn max_http_connections(node: &NodeShared) -> usize {
    let part = node.config.max_connections.div_ceil(node.mailboxes.len());
    part.saturating_add(MAX_UNADMITTED).min(usize::MAX / 2)
}

fn listen_tcp<E, F>(
    builder: ServerBuilder,
    listener: TcpListener,
    node: Arc<NodeShared>,
    enter: E,
    cors: Cors,
    configure: F,
) -> io::Result<ServerBuilder>
where
    E: Fn() + Clone + Send + 'static,
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    builder.listen("public", listener, move || {
        let service = http_service!(node, enter, cors, configure, TcpStream);
        let node = node.clone();
        let accept = move |stream: TcpStream| {
            let node = node.clone();
            async move {
                let Admitted { stream, slot, peer } =
                    accept::admit(&node, stream, false).await.map_err(DispatchError::Io)?;
                let stream = HttpStream::new(stream, node.clone(), slot);
                Ok::<_, DispatchError>((RequestStream::new(stream, false, node), Protocol::Http1, peer))
            }
        };
        fn_service(accept).and_then(service)
    })
}

fn listen_tls<E, F>(
    builder: ServerBuilder,
    listener: TcpListener,
    node: Arc<NodeShared>,
    enter: E,
    cors: Cors,
    mut tls: rustls::ServerConfig,
    configure: F,
) -> io::Result<ServerBuilder>
where
    E: Fn() + Clone + Send + 'static,
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    // One connection of HTTP/2 has any number of streams, each with a window of its own; nothing here needs it.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    builder.listen("public", listener, move || {
        let service = http_service!(node, enter, cors, configure, TlsStream<TcpStream>);
        let mut acceptor = Acceptor::new(tls.clone());
        acceptor.set_handshake_timeout(node.config.header_timeout);
        let acceptor = acceptor.map_init_err(drop).map_err(drop);
        let (node, handshakes) = (node.clone(), Handshakes::default());
        let admitting = node.clone();
        let admit = fn_service(move |stream: TcpStream| {
            let node = admitting.clone();
            async move { accept::admit(&node, stream, true).await.map_err(drop) }
        });
        let accept = apply_fn_factory(acceptor, move |admitted: Admitted, acceptor| {
            let Admitted { stream, slot, peer } = admitted;
            let (node, mut handshake) = (node.clone(), handshakes.begin(peer.map(|peer| peer.ip())));
            let accepted = acceptor.call(stream);
            async move {
                let stream: TlsStream<TcpStream> = tokio::select! {
                    accepted = accepted => accepted.map_err(|()| node.count_dropped("tls_handshake"))?,
                    Ok(()) = &mut handshake.gives_way => {
                        node.count_dropped("tls_crowded");
                        return Err(());
                    }
                };
                let stream = HttpStream::new(stream, node.clone(), slot);
                Ok((RequestStream::new(stream, true, node), Protocol::Http1, peer))
            }
        });
        admit.and_then(accept).and_then(service.map_err(drop))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A connection, and its client.
    fn connection() -> (std::net::TcpStream, std::net::TcpStream) {
        let listener = bind("127.0.0.1", 0).unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn connections_of_those_who_read_nothing_are_given_up() {
        let (connection, _client) = connection();
        let timeout = socket2::SockRef::from(&connection).tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(UNREAD_TIMEOUT));
    }

    #[test]
    fn the_kernel_takes_little_that_is_not_read() {
        use std::io::Write as _;
        let (mut connection, _client) = connection();
        connection.set_nonblocking(true).unwrap();
        let (mut taken, part) = (0, vec![0; 64 * 1024]);
        while let Ok(written) = connection.write(&part) {
            taken += written;
            assert!(taken <= 1024 * 1024, "{taken} bytes and more");
        }
        assert!(taken >= UNSENT as usize, "{taken} bytes");
    }
}
