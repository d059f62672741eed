//! A Redis that is one server at a time: always the same, or whichever Sentinel says is the master.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use deadpool_redis::{Manager, Pool, Runtime};
use parking_lot::RwLock;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult,
    TlsCertificates, TlsMode,
    aio::MultiplexedConnection,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::{sync::Mutex, time::timeout};

use super::{CONNECT, CannotConnect, RESPONSE};

/// Most connections for commands. Whoever has one keeps it, so there have to be more than those who need one, or one of them would wait for
/// ever: ordered calls, the heartbeat, reads, reaps, revocations, rules, operations, the link's secret, and webhooks (two).
const CONNECTIONS: usize = 32;

/// A Redis that is one server at a time. With which user and password new connections introduce themselves may change.
pub(super) struct SingleServer {
    way: RwLock<Arc<Way>>,
    /// How many connections to it were lost so far.
    lost: AtomicU64,
}

/// A way to connections.
enum Way {
    Server {
        pool: Pool,
        client: Box<Client>,
    },
    /// `master` is where the master was when it was asked for last.
    Sentinel {
        client: Box<Mutex<SentinelClient>>,
        first: String,
        master: parking_lot::Mutex<Option<String>>,
    },
}

/// A connection, out of a pool where there is one. What is wrong with it is not given back: [`Connection::discard`].
pub(super) enum Connection {
    Server(deadpool_redis::Connection),
    Sentinel(MultiplexedConnection),
}

impl Deref for Connection {
    type Target = MultiplexedConnection;
    fn deref(&self) -> &MultiplexedConnection {
        match self {
            Self::Server(connection) => connection,
            Self::Sentinel(connection) => connection,
        }
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        match self {
            Self::Server(connection) => connection,
            Self::Sentinel(connection) => connection,
        }
    }
}

impl Connection {
    /// Takes it out of its pool for good.
    pub(super) fn discard(self) {
        match self {
            Self::Server(connection) => drop(deadpool_redis::Connection::take(connection)),
            Self::Sentinel(connection) => drop(connection),
        }
    }
}

/// Small packets are not held back: a command would wait for the acknowledgement of the one before.
fn without_delay() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// How to connect to a server.
pub(super) fn connection_info(server: impl IntoConnectionInfo) -> RedisResult<ConnectionInfo> {
    Ok(server.into_connection_info()?.set_tcp_settings(without_delay()))
}

/// With these authorities, in PEM, instead of those that browsers trust. They do not matter without TLS.
pub(super) fn trusting(info: ConnectionInfo, authorities: Option<&[u8]>) -> RedisResult<ConnectionInfo> {
    match (authorities, info.addr()) {
        (Some(authorities), ConnectionAddr::TcpTls { .. }) => {
            let client = Client::build_with_tls(info, certificates(authorities))?;
            Ok(client.get_connection_info().clone())
        }
        _ => Ok(info),
    }
}

fn certificates(authorities: &[u8]) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: Some(authorities.to_vec()) }
}

fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(RESPONSE))
}

/// Connections to one server.
pub(super) fn pool(server: impl IntoConnectionInfo) -> Result<Pool, String> {
    let info = connection_info(server).map_err(|error| error.to_string())?;
    let manager = Manager::new_with_config(info, connection_config()).map_err(|error| error.to_string())?;
    Pool::builder(manager)
        .max_size(CONNECTIONS)
        .wait_timeout(Some(CONNECT))
        .create_timeout(Some(2 * CONNECT))
        .recycle_timeout(Some(CONNECT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| error.to_string())
}

/// `redis+sentinel://[user:password@]host:port,host:port/NAME[/db]`, taken apart.
struct SentinelUrl<'a> {
    scheme: &'a str,
    hosts: Vec<&'a str>,
    name: &'a str,
    username: Option<String>,
    password: Option<String>,
    db: i64,
}

impl<'a> SentinelUrl<'a> {
    /// `None` if the URL means no Sentinel.
    fn parse(url: &'a str) -> Option<Result<Self, CannotConnect>> {
        let (scheme, rest) = url.split_once("+sentinel://")?;
        let wrong = |what: &str| {
            let form = "as in redis+sentinel://user:password@127.0.0.1:26379,127.0.0.2:26379/mymaster/0";
            CannotConnect::Url(format!("{what} ({form})"))
        };
        let (user, rest) = credentials(rest);
        let mut parts = rest.splitn(3, '/');
        let hosts: Vec<&str> =
            parts.next().unwrap_or_default().split(',').filter(|host| !host.is_empty()).collect();
        let name = parts.next().unwrap_or_default();
        let db = parts.next().filter(|db| !db.is_empty()).map_or(Ok(0), str::parse);
        if hosts.is_empty() || name.is_empty() {
            return Some(Err(wrong("the sentinels or the name of the master are missing")));
        }
        let Ok(db) = db else { return Some(Err(wrong("the database is no number"))) };
        let [username, password] = user;
        Some(Ok(Self { scheme, hosts, name, username, password, db }))
    }
}

/// User and password before the hosts of a URL, and what comes behind them.
pub(super) fn credentials(rest: &str) -> ([Option<String>; 2], &str) {
    let Some((user, rest)) = rest.rsplit_once('@') else { return ([None, None], rest) };
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    (([username, password]).map(|text| (!text.is_empty()).then(|| text.to_owned())), rest)
}

impl SingleServer {
    pub(super) fn new(url: &str, authorities: Option<&[u8]>) -> Result<Self, CannotConnect> {
        Ok(Self { way: RwLock::new(Arc::new(Way::new(url, authorities)?)), lost: AtomicU64::new(0) })
    }

    /// New connections are made as this URL says. Those that are open stay.
    pub(super) fn replace(&self, url: &str, authorities: Option<&[u8]>) -> Result<(), CannotConnect> {
        let way = Arc::new(Way::new(url, authorities)?);
        *self.way.write() = way;
        Ok(())
    }

    /// A connection to it was lost, or answered as a replica does.
    pub(super) fn connection_lost(&self) {
        self.lost.fetch_add(1, Ordering::AcqRel);
    }

    /// How many were so far. A connection from before the last one may be broken as well, or lead to a server that is the master no more:
    /// to one that is used seldom nobody else would notice, and a replica takes a PUBLISH that nobody hears.
    pub(super) fn lost_connections(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    fn way(&self) -> Arc<Way> {
        self.way.read().clone()
    }

    /// A connection for commands.
    pub(super) async fn connection(&self) -> Result<Connection, String> {
        self.way().connection().await
    }

    /// A client of the server to subscribe at.
    pub(super) async fn client(&self) -> Option<Client> {
        self.way().client().await
    }

    /// Host and port of a server of it, to find out from which address of this machine it is reached.
    pub(super) fn address(&self) -> Option<(String, u16)> {
        self.way().address()
    }
}

impl Way {
    fn new(url: &str, authorities: Option<&[u8]>) -> Result<Self, CannotConnect> {
        match SentinelUrl::parse(url) {
            Some(url) => Self::sentinel(&url?, authorities),
            None => Self::server(url, authorities),
        }
    }

    fn server(url: &str, authorities: Option<&[u8]>) -> Result<Self, CannotConnect> {
        let bad = |error: redis::RedisError| CannotConnect::Url(error.to_string());
        let info = trusting(connection_info(url).map_err(bad)?, authorities).map_err(bad)?;
        let client = Client::open(info.clone()).map_err(bad)?;
        let pool = pool(info).map_err(CannotConnect::Url)?;
        Ok(Self::Server { pool, client: Box::new(client) })
    }

    fn sentinel(url: &SentinelUrl<'_>, authorities: Option<&[u8]>) -> Result<Self, CannotConnect> {
        let bad = |error: redis::RedisError| CannotConnect::Url(error.to_string());
        let sentinels = url.hosts.iter().map(|host| {
            let info = format!("{}://{host}", url.scheme).into_connection_info()?;
            Ok(info.addr().clone())
        });
        let sentinels = sentinels.collect::<RedisResult<Vec<_>>>().map_err(bad)?;
        let mut builder = SentinelClientBuilder::new(sentinels, url.name, SentinelServerType::Master)
            .map_err(bad)?
            .set_client_to_redis_db(url.db)
            .set_client_to_redis_tcp_settings(without_delay());
        if let Some(username) = &url.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &url.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if url.scheme == "rediss" {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            if let Some(authorities) = authorities {
                builder = builder
                    .set_client_to_redis_certificates(certificates(authorities))
                    .set_client_to_sentinel_certificates(certificates(authorities));
            }
        }
        let client = builder.build().map_err(bad)?;
        let first = url.hosts.first().copied().unwrap_or_default().to_owned();
        let master = parking_lot::Mutex::default();
        Ok(Self::Sentinel { client: Box::new(Mutex::new(client)), first, master })
    }

    async fn connection(&self) -> Result<Connection, String> {
        let mut connection = match self {
            Self::Server { pool, .. } => {
                Connection::Server(pool.get().await.map_err(|error| error.to_string())?)
            }
            Self::Sentinel { .. } => {
                // The sentinels are asked first, one after the other.
                let connect = async {
                    let client = self.client().await.ok_or("no sentinel knows the master")?;
                    let config = connection_config();
                    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
                    connected.map_err(|error| error.to_string())
                };
                let connected = timeout(3 * CONNECT, connect).await;
                Connection::Sentinel(connected.map_err(|_| "no sentinel answers in time")??)
            }
        };
        connection.set_response_timeout(RESPONSE);
        Ok(connection)
    }

    async fn client(&self) -> Option<Client> {
        match self {
            Self::Server { client, .. } => Some((**client).clone()),
            Self::Sentinel { client, master, .. } => {
                let found = client.lock().await.async_get_client().await.ok()?;
                let address = found.get_connection_info().addr().to_string();
                let before = master.lock().replace(address.clone());
                if before.is_some_and(|before| before != address) {
                    tracing::info!(
                        master = address,
                        "the failover is followed: the master is another server"
                    );
                }
                Some(found)
            }
        }
    }

    fn address(&self) -> Option<(String, u16)> {
        match self {
            Self::Server { client, .. } => match client.get_connection_info().addr() {
                redis::ConnectionAddr::Tcp(host, port) | redis::ConnectionAddr::TcpTls { host, port, .. } => {
                    Some((host.clone(), *port))
                }
                _ => None,
            },
            Self::Sentinel { first, .. } => {
                let (host, port) = first.rsplit_once(':').unwrap_or((first, "26379"));
                Some((host.to_owned(), port.parse().ok()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_sentinels_are_taken_apart() {
        let url = "redis+sentinel://ann:p:w@h1:1,h2:2/main/3";
        let Some(Ok(url)) = SentinelUrl::parse(url) else { panic!() };
        assert_eq!(
            (url.scheme, &url.hosts[..], url.name, url.db),
            ("redis", &["h1:1", "h2:2"][..], "main", 3)
        );
        assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("ann"), Some("p:w")));
        assert!(SentinelUrl::parse("redis://h1:1/3").is_none());
        for wrong in ["redis+sentinel://h1:1", "redis+sentinel:///main", "redis+sentinel://h1:1/main/x"] {
            assert!(matches!(SentinelUrl::parse(wrong), Some(Err(_))), "{wrong}");
        }
    }
}
