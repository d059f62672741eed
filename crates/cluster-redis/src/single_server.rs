//! A Redis that is one server at a time: always the same, or whichever Sentinel says is the master.

use std::ops::{Deref, DerefMut};

use deadpool_redis::{Manager, Pool, Runtime, sentinel};
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, aio::MultiplexedConnection, sentinel::SentinelClient,
};
use tokio::sync::Mutex;

use super::{CONNECT, CannotConnect, RESPONSE};

/// Connections for commands: the ordered ones, the heartbeat, listings.
const CONNECTIONS: usize = 8;

/// A way to connections.
pub(super) enum SingleServer {
    Server { pool: Pool, client: Box<Client> },
    Sentinel { pool: sentinel::Pool, client: Box<Mutex<SentinelClient>>, first: String },
}

/// A connection out of a pool. What is wrong with it is not given back: [`Connection::discard`].
pub(super) enum Connection {
    Server(deadpool_redis::Connection),
    Sentinel(sentinel::Connection),
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
            Self::Sentinel(connection) => drop(sentinel::Connection::take(connection)),
        }
    }
}

/// Connections to one server.
pub(super) fn pool(server: impl IntoConnectionInfo) -> Result<Pool, String> {
    let connection = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(RESPONSE));
    let manager = Manager::new_with_config(server, connection).map_err(|error| error.to_string())?;
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
    pub(super) fn new(url: &str) -> Result<Self, CannotConnect> {
        match SentinelUrl::parse(url) {
            Some(url) => Self::sentinel(&url?),
            None => Self::server(url),
        }
    }

    fn server(url: &str) -> Result<Self, CannotConnect> {
        let client = Client::open(url).map_err(|error| CannotConnect::Url(error.to_string()))?;
        let pool = pool(url).map_err(CannotConnect::Url)?;
        Ok(Self::Server { pool, client: Box::new(client) })
    }

    fn sentinel(url: &SentinelUrl<'_>) -> Result<Self, CannotConnect> {
        let bad = |error: redis::RedisError| CannotConnect::Url(error.to_string());
        let sentinels: Vec<String> =
            url.hosts.iter().map(|host| format!("{}://{host}", url.scheme)).collect();
        let node = sentinel::SentinelNodeConnectionInfo {
            tls_mode: (url.scheme == "rediss").then_some(sentinel::TlsMode::Secure),
            redis_connection_info: Some(deadpool_redis::RedisConnectionInfo {
                db: url.db,
                username: url.username.clone(),
                password: url.password.clone(),
                ..deadpool_redis::RedisConnectionInfo::default()
            }),
        };
        let kind = sentinel::SentinelServerType::Master;
        let manager =
            sentinel::Manager::new(sentinels.clone(), url.name.to_owned(), Some(node.clone()), kind)
                .map_err(bad)?;
        let pool = sentinel::Pool::builder(manager)
            .max_size(CONNECTIONS)
            .wait_timeout(Some(CONNECT))
            // The sentinels are asked first, one after the other.
            .create_timeout(Some(3 * CONNECT))
            .recycle_timeout(Some(CONNECT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| CannotConnect::Url(error.to_string()))?;
        let kind = redis::sentinel::SentinelServerType::Master;
        let client = SentinelClient::build(sentinels, url.name, Some(node.into()), kind).map_err(bad)?;
        let first = url.hosts.first().copied().unwrap_or_default().to_owned();
        Ok(Self::Sentinel { pool, client: Box::new(Mutex::new(client)), first })
    }

    /// A connection for commands.
    pub(super) async fn connection(&self) -> Result<Connection, String> {
        let mut connection = match self {
            Self::Server { pool, .. } => {
                Connection::Server(pool.get().await.map_err(|error| error.to_string())?)
            }
            Self::Sentinel { pool, .. } => {
                Connection::Sentinel(pool.get().await.map_err(|error| error.to_string())?)
            }
        };
        connection.set_response_timeout(RESPONSE);
        Ok(connection)
    }

    /// A client of the server to subscribe at.
    pub(super) async fn client(&self) -> Option<Client> {
        match self {
            Self::Server { client, .. } => Some((**client).clone()),
            Self::Sentinel { client, .. } => client.lock().await.async_get_client().await.ok(),
        }
    }

    /// Host and port of a server of it, to find out from which address of this machine it is reached.
    pub(super) fn address(&self) -> Option<(String, u16)> {
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
