//! The configuration of a node, of its cluster, and of the PeerServer protocol.

use std::{net::IpAddr, time::Duration};

pub use actix_web::cookie::SameSite;
use ipnet::IpNet;
use signalbox_auth::{Origins, grants::Limit};
use signalbox_node_link::LinkTls;

use crate::client_log::ClientSelector;

/// Largest profile of a member in bytes, unless its grants say otherwise.
pub(crate) const MAX_PROFILE: usize = 4096;

/// The configuration of a node. [`Config::default`] is what the gateway starts with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Shards, that is worker threads; at most 256. Default: 1.
    pub shards: usize,
    /// Timings and limits of Engine.IO.
    pub engine: signalbox_engineio::Config,
    /// How long a Socket.IO client may stay in no namespace before it is disconnected; default 45 s.
    pub connect_timeout: Duration,
    /// Path prefix of Socket.IO, with a trailing slash unless `addTrailingSlash` is off. Default `/socket.io/`.
    pub socketio_path: String,
    /// The cookie that carries the sid on polling handshakes; default none.
    pub cookie: Option<SidCookie>,
    /// The PeerServer protocol.
    pub peer: PeerConfig,
    /// Origins whose pages are served, by both protocols; `None`: all, `null` too. Requests without the header always are.
    pub origins: Option<Origins>,
    /// Address ranges of the proxies whose `X-Forwarded-For` header is trusted; empty: the header is ignored. An IPv4 address that a
    /// dual-stack listener reports as IPv6 (`::ffff:10.0.0.1`) is compared as IPv4.
    pub trusted_proxies: Vec<IpNet>,
    /// Address ranges of the proxies whose connections begin with a header of the PROXY protocol (1 or 2), which says whose they are;
    /// one that does not is closed. Empty: no such header is read.
    pub proxy_protocol: Vec<IpNet>,
    /// How long the head of a request, a TLS handshake, or a proxy's header may take; default 20 s.
    pub header_timeout: Duration,
    /// How long a body, a message in several pieces, or the reading of an answer may take, unless it goes on at `min_body_rate`;
    /// default 20 s.
    pub body_timeout: Duration,
    /// Bytes a second that are expected of them, on average over each `body_timeout`; default 1,000.
    pub min_body_rate: usize,
    /// Most bytes in the head of a request; default 16 KiB.
    pub max_header_size: usize,
    /// Most connections to the public listener; default any number.
    pub max_connections: usize,
    /// How much clients may do.
    pub limits: ClientLimits,
    /// Whether clients may list the users of a namespace, if their grants allow it; default yes.
    pub list_users: bool,
    /// Most bytes that are buffered for one client; default 4,000,000.
    pub outbox_limit: usize,
    /// Most bytes that are buffered for all clients together; default 256 MiB.
    pub memory_budget: usize,
    /// Bytes of memory that there are for the process: above 80 % of them new clients are refused, until there are less than 70 %.
    /// Default: nobody looks.
    pub memory_limit: Option<usize>,
    /// Most messages in a shard's mailbox; beyond it broadcasts are dropped and requests are refused. Default 65,536.
    pub mailbox_limit: usize,
    /// Namespaces whose sockets the metrics count by name, at most [`MAX_METRIC_NAMESPACES`]; the rest are `other`. Default `/`.
    pub metric_namespaces: Vec<String>,
    /// Clients whose stories the log tells for as long as the node runs, at most [`crate::MAX_FOLLOWED`]; default none.
    pub log_clients: Vec<ClientSelector>,
}

/// Most namespaces that have a series of their own.
pub const MAX_METRIC_NAMESPACES: usize = 32;

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 1,
            engine: signalbox_engineio::Config::default(),
            connect_timeout: Duration::from_secs(45),
            socketio_path: "/socket.io/".to_owned(),
            cookie: None,
            peer: PeerConfig::default(),
            origins: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: Vec::new(),
            header_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(20),
            min_body_rate: 1_000,
            max_header_size: 16 * 1024,
            max_connections: usize::MAX,
            limits: ClientLimits::default(),
            list_users: true,
            outbox_limit: 4_000_000,
            memory_budget: 256 << 20,
            memory_limit: None,
            mailbox_limit: 65_536,
            metric_namespaces: vec!["/".to_owned()],
            log_clients: Vec::new(),
        }
    }
}

impl Config {
    /// The node's own limit, for those whose grants set none; `None`: any amount.
    pub fn default_of(&self, limit: Limit) -> Option<u64> {
        let limits = &self.limits;
        match limit {
            Limit::Connections => None,
            Limit::Namespaces => Some(limits.namespaces as u64),
            Limit::Rooms => Some(limits.rooms as u64),
            Limit::EventsPerSecond => limits.events_per_second.map(u64::from),
            Limit::BytesPerSecond => limits.bytes_per_second.map(u64::from),
            Limit::JoinsPerSecond => limits.joins_per_second.map(u64::from),
            Limit::MessageBytes => Some(self.engine.max_payload as u64),
            Limit::ProfileBytes => Some(MAX_PROFILE as u64),
        }
    }

    /// Whether an address is that of a proxy that is trusted.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|range| range.contains(&address))
    }

    /// Whether connections from an address begin with a header that says whose they are.
    pub(crate) fn announces_clients(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxy_protocol.iter().any(|range| range.contains(&address))
    }
}

/// How much clients may do; `None` is no limit. The grants of a client may say otherwise for it. Ten seconds' worth of what is limited
/// by the second may come at once.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// Packets a second of one connection; default any number. Beyond it events are refused (`rate-limited`), and whoever goes on
    /// regardless for as much again is disconnected. PeerServer clients are disconnected at once.
    pub events_per_second: Option<u32>,
    /// Bytes of them a second, likewise.
    pub bytes_per_second: Option<u32>,
    /// Joins a second of one connection; default any number. More are refused.
    pub joins_per_second: Option<u32>,
    /// Most rooms that one socket is in; default 1,024.
    pub rooms: usize,
    /// Most namespaces on one connection; default 64.
    pub namespaces: usize,
    /// Most members of a room, in the whole cluster; default any number.
    pub room_members: Option<usize>,
    /// Up to how many members of a room each is told of each; beyond it they are told how many there are; default any number.
    pub presence: Option<usize>,
    /// Most connections of one address (of IPv6 a /64); default any number.
    pub connections_per_address: Option<usize>,
    /// Most connections of one subject, of both protocols and in the whole cluster; default any number. Whoever shows no token has none.
    pub connections_per_subject: Option<u32>,
    /// Sessions and peers a second that one address may begin; default any number.
    pub handshakes_per_address: Option<u32>,
    /// The same of all together.
    pub handshakes_per_second: Option<u32>,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            events_per_second: None,
            bytes_per_second: None,
            joins_per_second: None,
            rooms: 1024,
            namespaces: 64,
            room_members: None,
            presence: None,
            connections_per_address: None,
            connections_per_subject: None,
            handshakes_per_address: None,
            handshakes_per_second: None,
        }
    }
}

/// The cookie that carries the sid of a session, for load balancers. Nothing here reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidCookie {
    /// Its name.
    pub name: String,
    /// Whether browsers send it over TLS alone. `None`: if it is set over TLS.
    pub secure: Option<bool>,
    /// On whose requests browsers send it.
    pub same_site: SameSite,
    /// Whether scripts of a page cannot read it.
    pub http_only: bool,
}

impl SidCookie {
    /// A cookie with the attributes that Socket.IO gives it: `SameSite=Lax; HttpOnly`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), secure: None, same_site: SameSite::Lax, http_only: true }
    }
}

/// The cluster that a node joins.
#[derive(Clone)]
pub struct ClusterConfig {
    /// URL of the Redis that the nodes share, as [`Settings::url`](signalbox_cluster_redis::Settings::url).
    pub redis_url: String,
    /// Certificates in PEM of the only authorities that count for `rediss`; default those that browsers trust.
    pub redis_authorities: Option<Vec<u8>>,
    /// Prefix of all keys and channels in Redis. Nodes with the same prefix form a cluster.
    pub redis_prefix: String,
    /// The node's name in logs; default its tag.
    pub name: Option<String>,
    /// Address at which the node link listens; default any free port of the local address that reaches Redis.
    pub listen: Option<std::net::SocketAddr>,
    /// Secret with which the nodes authenticate each other; default: generated once, and shared through Redis.
    pub secret: Option<String>,
    /// TLS for the node link, where it is on.
    pub tls: Option<std::sync::Arc<LinkTls>>,
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("redis_prefix", &self.redis_prefix)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The configuration of the PeerServer protocol; names and defaults as in the reference's command line.
#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// Path at which it is served; begins with a slash and has none at its end, so `/` is the empty string. Default empty.
    pub path: String,
    /// Keys; each is a realm of its own. Default `peerjs`.
    pub keys: Vec<String>,
    /// How long a message is queued for an absent addressee before its sender gets EXPIRE; default 5 s.
    pub expire_timeout: Duration,
    /// Time without traffic after which a client is disconnected; default 60 s.
    pub alive_timeout: Duration,
    /// Most ids held at the same time in the cluster; `None`: any number. Default 5,000.
    pub concurrent_limit: Option<usize>,
    /// Whether `GET /{key}/peers` lists the ids; default no.
    pub allow_discovery: bool,
    /// Largest message in bytes; default 1,000,000.
    pub max_payload: usize,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            keys: vec!["peerjs".to_owned()],
            expire_timeout: Duration::from_secs(5),
            alive_timeout: Duration::from_secs(60),
            concurrent_limit: Some(5000),
            allow_discovery: false,
            max_payload: 1_000_000,
        }
    }
}
