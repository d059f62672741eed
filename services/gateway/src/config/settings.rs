//! The settings themselves: one typed struct in groups. Flags, environment names, file keys, `--help`, `--print-config`
//! and `docs/configuration.md` all follow from the fields, their attributes and their doc comments.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;
use serde::Serialize;
use signalbox_config::serialize::{as_millis, maybe_millis, or_off};
pub use signalbox_config::{LogFormat, LoggingSettings, OrOff};
use signalbox_node::TlsFiles;

use super::admin::{AdminToken, as_written};
use super::auth::AuthSettings;
pub use super::cookie::{CookieSecure, SameSite};
use super::hooks::HookSettings;
use super::ice::IceSettings;
use super::limits::LimitSettings;
use super::parse;
use super::webhooks::WebhookSettings;

/// The longest time that a node without Redis waits for its clients. It stops within ten seconds whatever is configured, since no other
/// node could serve them.
pub const LONGEST_STANDALONE_STOP: Duration = Duration::from_secs(8);

/// Everything that can be configured, checked and normalised.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub struct Settings {
    /// The public listener.
    #[command(flatten)]
    #[serde(flatten)]
    pub listener: ListenerSettings,
    /// The PeerServer protocol.
    #[command(flatten)]
    #[serde(flatten)]
    pub peerserver: PeerServerSettings,
    /// The Socket.IO protocol.
    #[command(flatten)]
    #[serde(flatten)]
    pub socketio: SocketIoSettings,
    /// Who may do what.
    #[command(flatten)]
    #[serde(flatten)]
    pub auth: AuthSettings,
    /// How much clients may do.
    #[command(flatten)]
    #[serde(flatten)]
    pub limits: LimitSettings,
    /// Which STUN and TURN servers clients are told of.
    #[command(flatten)]
    #[serde(flatten)]
    pub ice: IceSettings,
    /// What happens, sent to a server of the application.
    #[command(flatten)]
    #[serde(flatten)]
    pub webhooks: WebhookSettings,
    /// Servers of the application's own that are asked.
    #[command(flatten)]
    #[serde(flatten)]
    pub hooks: HookSettings,
    /// The cluster that the node belongs to.
    #[command(flatten)]
    #[serde(flatten)]
    pub cluster: ClusterSettings,
    /// The management and metrics listeners.
    #[command(flatten)]
    #[serde(flatten)]
    pub management: ManagementSettings,
    /// This process: its name, threads, memory and shutdown.
    #[command(flatten)]
    #[serde(flatten)]
    pub node: NodeSettings,
    /// Logs.
    #[command(flatten)]
    #[serde(flatten)]
    pub logging: LoggingSettings,
}

/// The public listener, which serves both protocols and the demo.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Public listener")]
pub struct ListenerSettings {
    /// Port of the public listener; 0 takes any free port. The variable PORT works too.
    #[arg(long, short, value_name = "PORT", default_value = "9000", value_parser = parse::port)]
    pub port: u16,

    /// Address or host name the public listener binds to. :: is all addresses, of both families; where the machine has no IPv6, all
    /// of IPv4.
    #[arg(long, short = 'H', value_name = "HOST", default_value = "::", value_parser = parse::host)]
    pub host: String,

    /// PEM file with the private key; together with --sslcert it turns TLS on.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub sslkey: Option<PathBuf>,

    /// PEM file with the certificate chain, the server's own certificate first.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub sslcert: Option<PathBuf>,

    /// Origins whose pages may read HTTP replies, with credentials; repeatable. https://*.example.com is every domain below it; null,
    /// which files and sandboxed frames send, must be named. Without it every origin is reflected, without credentials; with * every
    /// one but null.
    #[arg(long, value_name = "ORIGIN", num_args = 1.., value_delimiter = ',', value_parser = parse::origin)]
    pub cors: Vec<String>,

    /// Origins whose pages are served, by either protocol; repeatable, as those of --cors. Without it every origin is, with * every
    /// one but null. Clients that send no Origin header, such as programs outside a browser, always are.
    #[arg(long, value_name = "ORIGIN", num_args = 1.., value_delimiter = ',', value_parser = parse::origin)]
    pub origins: Vec<String>,

    /// Take the client's address from X-Forwarded-For, because the gateway runs behind a proxy; together with --trusted-proxies.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = parse::switch)]
    pub proxied: bool,

    /// Read the client's address from the header of the PROXY protocol, 1 or 2, with which each connection of --trusted-proxies
    /// then has to begin; connections of others have none.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = parse::switch)]
    pub proxy_protocol: bool,

    /// Address range of the proxies whose X-Forwarded-For is trusted, with --proxied, or their PROXY protocol, with
    /// --proxy-protocol; repeatable. The client is the last address in the chain that is not in such a range.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse::cidr)]
    pub trusted_proxies: Vec<IpNet>,

    /// How long the head of a request, or a TLS handshake, may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "20000", value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub header_timeout: Duration,

    /// How long a request's body, a message in several pieces, or the reading of an answer may take, in milliseconds; longer if
    /// it goes on at --min-body-rate.
    #[arg(long, value_name = "MS", default_value = "20000", value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub body_timeout: Duration,

    /// Bytes a second that a client must send of a body or a message, or read of an answer, on average over each --body-timeout.
    #[arg(long, value_name = "BYTES", default_value = "1000", value_parser = parse::bytes(1..=parse::GIB))]
    pub min_body_rate: usize,

    /// Largest head of a request, in bytes: its first line and its headers.
    #[arg(long, value_name = "BYTES", default_value = "16384", value_parser = parse::bytes(1024..=131_072))]
    pub max_header_size: usize,

    /// Maximum number of connections to the public listener; more are refused. The last tenth is for addresses that have less than a
    /// tenth themselves. Without it as many as the process may have open files, but for a reserve.
    #[arg(long, value_name = "COUNT", value_parser = parse::count(1..=u32::MAX as usize))]
    pub max_connections: Option<usize>,

    /// Directory with the browser bundles of socket.io-client and peerjs, or with some of them; the others are not found. Without it
    /// their addresses redirect to a public CDN.
    #[arg(long, value_name = "DIR", value_parser = parse::file_name)]
    pub vendor_dir: Option<PathBuf>,

    /// Directory whose files are served beside the protocols, with index.html for a directory, and no lists of files. A file called
    /// {room}.html is the page of every room: of each address that no file has. See docs/rules.md. Names that begin with a dot, and links
    /// out of the directory, are not served.
    #[arg(long, value_name = "DIR", value_parser = parse::file_name)]
    pub r#static: Option<PathBuf>,

    /// Serve the browser bundles of socket.io-client below the Socket.IO path, as socket.io's option of this name does.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "true", default_missing_value = "true", value_parser = parse::switch)]
    pub serve_client: bool,
}

impl ListenerSettings {
    /// The files of the private key and of the certificate chain, when TLS is on.
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        self.sslkey.as_deref().zip(self.sslcert.as_deref())
    }
}

/// The PeerServer protocol; names, short forms and meanings are those of the `peerjs` program.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "PeerServer")]
pub struct PeerServerSettings {
    /// Path of the PeerServer protocol. The variable PEERSERVER_PATH works too.
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = parse::path)]
    pub path: String,

    /// Key clients must present; repeatable: each key is a realm of its own, with ids of its own.
    #[arg(long, short, value_name = "KEY", default_value = "peerjs", value_parser = parse::realm_key)]
    pub key: Vec<String>,

    /// How long messages are queued for an absent peer before the sender gets EXPIRE, in milliseconds.
    #[arg(long = "expire_timeout", short = 't', value_name = "MS", default_value = "5000")]
    #[arg(value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub expire_timeout: Duration,

    /// How long a peer may stay silent before its connection is closed, in milliseconds. Any traffic counts.
    #[arg(long = "alive_timeout", value_name = "MS", default_value = "60000")]
    #[arg(value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub alive_timeout: Duration,

    /// Maximum number of peers registered at the same time in the whole cluster. Without it 5000, or with --redis-url any number.
    #[arg(long = "concurrent_limit", short = 'c', value_name = "COUNT")]
    #[arg(value_parser = parse::concurrent_limit)]
    pub concurrent_limit: Option<usize>,

    /// List the registered ids at GET {path}/{key}/peers; when off it answers 401.
    #[arg(long = "allow_discovery", value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = parse::switch)]
    pub allow_discovery: bool,
}

/// A transport of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket, opened directly or by an upgrade.
    WebSocket,
}

/// How much memory there is for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// As much as the container, or else the machine has.
    Auto,
    /// Nobody looks.
    Off,
    /// So many bytes.
    Bytes(usize),
}

impl Serialize for MemoryLimit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_str("off"),
            Self::Bytes(bytes) => serializer.serialize_u64(*bytes as u64),
        }
    }
}

/// The Socket.IO protocol; the defaults are Socket.IO's own.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Socket.IO")]
pub struct SocketIoSettings {
    /// Path prefix of the Socket.IO protocol. It ends in a slash, added where missing, unless --no-trailing-slash.
    #[arg(long, value_name = "PATH", default_value = "/socket.io/", value_parser = parse::path)]
    pub socketio_path: String,

    /// Serve the Socket.IO path without its trailing slash too.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = parse::switch)]
    pub no_trailing_slash: bool,

    /// Transports that are offered: polling, websocket or both.
    #[arg(long, value_name = "TRANSPORT", value_delimiter = ',')]
    #[arg(default_value = "polling,websocket", value_parser = parse::transport)]
    pub transports: Vec<Transport>,

    /// Time between two pings to a client, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "25000", value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub ping_interval: Duration,

    /// How long a client may take to answer a ping before it is disconnected, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "20000", value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub ping_timeout: Duration,

    /// How long an upgrade from polling to WebSocket may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "10000", value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub upgrade_timeout: Duration,

    /// How long a connection may stay in no namespace before it is closed, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "45000", value_parser = parse::millis(1..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub connect_timeout: Duration,

    /// Largest POST body or WebSocket message a client may send, in bytes.
    #[arg(long, value_name = "BYTES", default_value = "1000000", value_parser = parse::bytes(1..=parse::GIB))]
    pub max_payload: usize,

    /// Rules file: what clients' events do, instead of the built-in vocabulary. It is read again on SIGHUP. See docs/rules.md; begin with
    /// the file that --print-rules prints.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub rules: Option<PathBuf>,

    /// Name of the cookie that carries the session id on polling handshakes, for load balancers; off sends none.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_value = "off", default_missing_value = "io")]
    #[arg(value_parser = parse::cookie)]
    #[serde(serialize_with = "or_off")]
    pub cookie: OrOff<String>,

    /// Whether browsers send that cookie over TLS alone: true, false, or auto, if it is set over TLS.
    #[arg(long, value_name = "auto|BOOL", default_value = "auto", value_parser = parse::cookie_secure)]
    pub cookie_secure: CookieSecure,

    /// On whose requests browsers send that cookie: strict (of pages of the same site), lax (of links to it too) or none (of all
    /// pages; browsers then want --cookie-secure).
    #[arg(long, value_name = "strict|lax|none", default_value = "lax", value_parser = parse::same_site)]
    pub cookie_same_site: SameSite,

    /// Keep that cookie from the scripts of pages.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "true", default_missing_value = "true", value_parser = parse::switch)]
    pub cookie_http_only: bool,
}

/// The management listener, and the one that serves metrics and nothing else.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Management listener")]
pub struct ManagementSettings {
    /// Address or host name the management listener binds to.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", value_parser = parse::host)]
    pub admin_host: String,

    /// Port of the management listener; 0 takes any free port.
    #[arg(long, value_name = "PORT", default_value = "9001", value_parser = parse::port)]
    pub admin_port: u16,

    /// Token that may use the admin API, as NAME:SCOPES:HASH; repeatable. SCOPES are one or more of read, emit and control, joined by +;
    /// HASH is the SHA-256 of the token in hexadecimal digits. `signalbox-gateway admin-token` makes a token and its hash. Without any,
    /// and with --auth off, the API is open if the listener is on loopback, and else closed.
    #[arg(long, value_name = "TOKEN_HASH", value_delimiter = ',', value_parser = parse::admin_token)]
    #[serde(serialize_with = "as_written")]
    pub admin_token_hash: Vec<AdminToken>,

    /// Port of a further listener, at --host, that serves /livez, /readyz and /metrics and nothing else; 0 takes any
    /// free port.
    #[arg(long, value_name = "PORT", default_value = "off", value_parser = parse::port_or_off)]
    #[serde(serialize_with = "or_off")]
    pub metrics_port: OrOff<u16>,

    /// Namespace whose sockets are counted by its name in signalbox_sockets; repeatable, 32 at most. All others are counted together.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    #[arg(default_value = "/", value_parser = parse::namespace)]
    pub metric_namespaces: Vec<String>,
}

/// This process.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Node")]
pub struct NodeSettings {
    /// Name of this node in logs and in its cluster, 1 to 64 of A-Z a-z 0-9 . _ -. Without it a new one is generated at every start.
    #[arg(long, value_name = "ID", value_parser = parse::node_id)]
    pub node_id: Option<String>,

    /// Client whose whole story is logged: a subject, an IP address, or the id of a session, a socket or a peer; repeatable, 32 at most.
    /// The admin API does the same for a time.
    #[arg(long, value_name = "CLIENT", value_delimiter = ',', value_parser = parse::client)]
    pub log_client: Vec<String>,

    /// Worker threads, each with a shard of the sessions; cores is one per processor core.
    #[arg(long, value_name = "COUNT", default_value = "cores", value_parser = parse::workers)]
    pub workers: usize,

    /// Maximum bytes buffered for one client before it is disconnected as too slow. Without it four times --max-payload.
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes(1..=4 * parse::GIB))]
    pub outbox_limit: Option<usize>,

    /// Maximum bytes held for all clients of the node together; beyond it the most expensive client of the most expensive
    /// address is disconnected first. Without it 256 MiB, or half of --memory-limit if that is less.
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes(1..=1024 * parse::GIB))]
    pub memory_budget: Option<usize>,

    /// Memory that there is for the process, in bytes: above 80 % of it new clients are answered with 503 and /readyz says full, until
    /// it takes less than 70 %. auto is the limit of the container (cgroup), or else the memory of the machine; off does not look.
    #[arg(long, value_name = "BYTES", default_value = "auto", value_parser = parse::memory_limit)]
    pub memory_limit: MemoryLimit,

    /// How long a stopping node waits for its clients to disconnect before it closes the remaining connections, in
    /// milliseconds. Without it 5000, or with --redis-url 60000: then it disconnects its clients one after the other, and
    /// they connect to another node.
    #[arg(long, value_name = "MS", value_parser = parse::millis(0..=parse::DAY))]
    #[serde(serialize_with = "maybe_millis")]
    pub drain_timeout: Option<Duration>,

    /// How long a stopping node still accepts new clients after it stopped being ready, so that load balancers can notice,
    /// in milliseconds; with --redis-url only.
    #[arg(long, value_name = "MS", default_value = "5000", value_parser = parse::millis(0..=parse::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub drain_delay: Duration,
}

/// The cluster that this node belongs to, when --redis-url is given.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterSettings {
    /// URL of the Redis that the nodes of a cluster share: redis://[user:password@]host[:port][/db], or with Sentinel
    /// redis+sentinel://[user:password@]host:port,host:port/NAME[/db], or of a Redis Cluster
    /// redis+cluster://[user:password@]host:port,host:port; rediss for TLS. Without it the node runs alone.
    #[arg(long, value_name = "URL", hide_env_values = true, value_parser = parse::redis_url)]
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "brackets stand for what may be left out, in the help too"
    )]
    pub redis_url: Option<String>,

    /// File with that URL, instead. It is read again on SIGHUP: user and password may change, and count for new connections.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub redis_url_file: Option<PathBuf>,

    /// PEM file with the only certificate authorities that count for rediss. Without it those that browsers trust. It is read at
    /// the start.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub redis_ca: Option<PathBuf>,

    /// Prefix of all keys and channels in Redis; nodes with the same prefix form a cluster.
    #[arg(long, value_name = "PREFIX", default_value = "signalbox", value_parser = parse::redis_prefix)]
    pub redis_prefix: String,

    /// Address on which this node listens for the other nodes of the cluster. Without it any free port of the local address
    /// that reaches Redis.
    #[arg(long, value_name = "ADDRESS", value_parser = parse::socket_address)]
    pub cluster_addr: Option<SocketAddr>,

    /// Secret with which the nodes of the cluster authenticate each other, 16 bytes or more. Without it one is generated once
    /// and shared through Redis.
    #[arg(long, value_name = "SECRET", hide_env_values = true, value_parser = parse::cluster_secret)]
    pub cluster_secret: Option<String>,

    /// File with that secret, instead. A line ending at its end is not part of it. It is read at the start; another secret is for a
    /// restart, which a SIGHUP says in the log.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub cluster_secret_file: Option<PathBuf>,

    /// Whether nodes show each other certificates of an authority of their own: off, optional (who does not is spoken to without TLS,
    /// as while nodes are switched over) or required.
    #[arg(long, value_name = "MODE", default_value = "off", value_parser = parse::tls_mode)]
    pub cluster_tls: TlsMode,

    /// PEM file with the certificates of the authorities that sign the nodes' certificates. Changed files are taken up without a restart.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub cluster_tls_ca: Option<PathBuf>,

    /// PEM file with this node's certificate, for both ends of connections, and those between it and the authority.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub cluster_tls_cert: Option<PathBuf>,

    /// PEM file with the key of that certificate.
    #[arg(long, value_name = "FILE", value_parser = parse::file_name)]
    pub cluster_tls_key: Option<PathBuf>,
}

/// Whether the node link uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// It does not.
    Off,
    /// With nodes that do, too.
    Optional,
    /// Always.
    Required,
}

impl ClusterSettings {
    /// The files for TLS of the node link, where it is on.
    pub fn link_tls(&self) -> Option<TlsFiles> {
        let files =
            self.cluster_tls_ca.clone().zip(self.cluster_tls_cert.clone().zip(self.cluster_tls_key.clone()));
        let (authorities, (certificate, key)) = files.filter(|_| self.cluster_tls != TlsMode::Off)?;
        Some(TlsFiles { authorities, certificate, key })
    }
}

impl NodeSettings {
    /// Bytes that may wait for one slow reader, given the largest message: the setting, or four times that.
    pub fn outbox_limit(&self, max_payload: usize) -> usize {
        self.outbox_limit.unwrap_or(max_payload.saturating_mul(4))
    }
}

/// Leaves the secrets out: settings end up in logs.
impl fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSettings")
            .field("is_shared", &self.redis_url.is_some())
            .field("redis_prefix", &self.redis_prefix)
            .field("cluster_addr", &self.cluster_addr)
            .finish_non_exhaustive()
    }
}
