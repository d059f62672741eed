//! The settings themselves: one typed struct in groups. Flags, environment names, file keys, `--help`, `--print-config` and
//! `docs/turn-configuration.md` all follow from the fields, their attributes and their doc comments.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgAction, Args};
use ipnet::IpNet;
use serde::{Serialize, Serializer};
use signalbox_config::auth::TokenSettings;
use signalbox_config::serialize::{as_millis, or_off};
use signalbox_config::{LoggingSettings, OrOff, parse as common};
use signalbox_turn::upstream::Provider;

use super::parse;
use crate::api_keys::ApiKey;

/// Everything that can be configured, checked and normalised.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub struct Settings {
    /// The public listener.
    #[command(flatten)]
    #[serde(flatten)]
    pub listener: ListenerSettings,
    /// TURN servers and the secrets that they share with us.
    #[command(flatten)]
    #[serde(flatten)]
    pub turn: TurnSettings,
    /// A provider whose TURN servers are used instead.
    #[command(flatten)]
    #[serde(flatten)]
    pub upstream: UpstreamSettings,
    /// How TURN servers are tried.
    #[command(flatten)]
    #[serde(flatten)]
    pub probes: ProbeSettings,
    /// What the instances share.
    #[command(flatten)]
    #[serde(flatten)]
    pub store: StoreSettings,
    /// How many credentials are issued.
    #[command(flatten)]
    #[serde(flatten)]
    pub limits: LimitSettings,
    /// Who may have credentials.
    #[command(flatten)]
    #[serde(flatten)]
    pub auth: TokenSettings,
    /// Servers that may have them for others.
    #[command(flatten)]
    #[serde(flatten)]
    pub keys: KeySettings,
    /// The management listener.
    #[command(flatten)]
    #[serde(flatten)]
    pub management: ManagementSettings,
    /// Logs.
    #[command(flatten)]
    #[serde(flatten)]
    pub logging: LoggingSettings,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Public listener")]
pub struct ListenerSettings {
    /// Port of the public listener; 0 takes any free port.
    #[arg(long, short, value_name = "PORT", default_value = "9002", value_parser = common::port)]
    pub port: u16,

    /// Address or host name the public listener binds to. :: is all addresses, of both families; where the machine has no IPv6, all
    /// of IPv4.
    #[arg(long, short = 'H', value_name = "HOST", default_value = "::", value_parser = common::host)]
    pub host: String,

    /// PEM file with the private key; together with --sslcert it turns TLS on.
    #[arg(long, value_name = "FILE", value_parser = common::file_name)]
    pub sslkey: Option<PathBuf>,

    /// PEM file with the certificate chain, the server's own certificate first. Both files are looked at every five seconds, and taken
    /// anew when they change.
    #[arg(long, value_name = "FILE", value_parser = common::file_name)]
    pub sslcert: Option<PathBuf>,

    /// Origins whose pages may read replies, with credentials; repeatable. https://*.example.com is every domain below it; null,
    /// which files and sandboxed frames send, must be named. Without it every origin is reflected, without credentials; with * every
    /// one but null.
    #[arg(long, value_name = "ORIGIN", num_args = 1.., value_delimiter = ',', value_parser = common::origin)]
    pub cors: Vec<String>,

    /// Origins whose pages may ask; repeatable, as those of --cors. Without it every origin may, with * every one but null. Clients
    /// that send no Origin header, such as servers, always may.
    #[arg(long, value_name = "ORIGIN", num_args = 1.., value_delimiter = ',', value_parser = common::origin)]
    pub origins: Vec<String>,

    /// Take the client's address from X-Forwarded-For, because the service runs behind a proxy; together with --trusted-proxies.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set)]
    #[arg(default_value = "false", default_missing_value = "true", value_parser = common::switch)]
    pub proxied: bool,

    /// Address range of the proxies whose X-Forwarded-For is trusted, with --proxied; repeatable. The client is the last address in
    /// the chain that is not in such a range.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = common::cidr)]
    pub trusted_proxies: Vec<IpNet>,

    /// Worker threads; cores is one per processor core.
    #[arg(long, value_name = "COUNT", default_value = "cores", value_parser = common::workers(256))]
    pub workers: usize,
}

impl ListenerSettings {
    /// The files of the private key and of the certificate chain, when TLS is on.
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        self.sslkey.as_deref().zip(self.sslcert.as_deref())
    }
}

/// TURN servers, and the secrets that they share with us.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "TURN servers")]
pub struct TurnSettings {
    /// URI of a TURN or STUN server, as in turn:turn.example.com:3478?transport=udp; repeatable. Attributes may follow:
    /// ;region=eu;weight=2;server=a. URIs of one host are one server, unless server says otherwise. A server is chosen in proportion
    /// to its weight (default 1), and never with 0.
    #[arg(long, value_name = "URI", value_parser = parse::server_uri)]
    pub uri: Vec<String>,

    /// Secret that the TURN servers have too (static-auth-secret of coturn), 16 to 256 bytes; repeatable, so that it can be rotated:
    /// the first one signs.
    #[arg(long, value_name = "SECRET", hide_env_values = true, value_parser = parse::secret)]
    pub secret: Vec<String>,

    /// File with such secrets, one a line; repeatable. They come after those of --secret. It is read again on SIGHUP.
    #[arg(long, value_name = "FILE", value_parser = common::file_name)]
    pub secret_file: Vec<PathBuf>,

    /// How long a credential is good where the client does not ask for less, in milliseconds. TURN servers look at it when an
    /// allocation is made, and not afterwards.
    #[arg(long, value_name = "MS", default_value = "3600000", value_parser = common::millis(1000..=7 * common::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub ttl: Duration,

    /// The longest lifetime that a client may ask for, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "86400000", value_parser = common::millis(1000..=7 * common::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub max_ttl: Duration,

    /// The most URIs in an answer: with many, clients take longer to connect.
    #[arg(long, value_name = "COUNT", default_value = "4", value_parser = common::count(1..=16))]
    pub max_uris: usize,

    /// Key with which subjects are hashed into user names, 16 bytes or more; the same in all instances. Without it, it is derived
    /// from the last secret, and user names change when that one is removed.
    #[arg(long, value_name = "SECRET", hide_env_values = true, value_parser = parse::subject_key)]
    pub subject_key: Option<String>,
}

/// Leaves the secrets out: settings end up in logs.
impl fmt::Debug for TurnSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnSettings").field("uri", &self.uri).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// A provider whose TURN servers are used, in place of servers of one's own. `docs/turn.md` describes it.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Provider")]
pub struct UpstreamSettings {
    /// Provider whose TURN servers are used in place of --uri: cloudflare or twilio. Each subject gets credentials that its API hands out.
    #[arg(long, value_name = "PROVIDER", value_parser = parse::provider)]
    #[serde(serialize_with = "provider_name")]
    pub upstream: Option<Provider>,

    /// The id of the TURN key at Cloudflare, or the SID of the account at Twilio.
    #[arg(long, value_name = "UPSTREAM_ID", value_parser = parse::upstream_id)]
    pub upstream_id: Option<String>,

    /// The API token of that TURN key at Cloudflare; at Twilio the auth token of the account, or an API key as SID:SECRET.
    #[arg(long, value_name = "SECRET", hide_env_values = true, value_parser = parse::upstream_key)]
    pub upstream_key: Option<String>,

    /// File with that key, instead. A line ending at its end is not part of it. It is read at the start.
    #[arg(long, value_name = "FILE", value_parser = common::file_name)]
    pub upstream_key_file: Option<PathBuf>,

    /// URL of the provider's API, where it is another one than the provider's own: https, or http to this machine.
    #[arg(long, value_name = "HTTP_URL", value_parser = parse::upstream_url)]
    pub upstream_url: Option<String>,

    /// PEM file with the only certificate authority that counts for it. Without it, those of the system.
    #[arg(long, value_name = "FILE", value_parser = common::file_name)]
    pub upstream_ca: Option<PathBuf>,
}

impl UpstreamSettings {
    /// The key.
    ///
    /// # Errors
    /// The file cannot be read, or holds no key.
    pub fn key(&self) -> std::io::Result<String> {
        match (&self.upstream_key, &self.upstream_key_file) {
            (Some(key), _) => Ok(key.clone()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)?;
                let key = text.trim_end_matches(['\r', '\n']);
                parse::upstream_key(key).map_err(std::io::Error::other)
            }
            (None, None) => Err(std::io::Error::other("there is none")),
        }
    }
}

/// Leaves the key out: settings end up in logs.
impl fmt::Debug for UpstreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamSettings").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

/// How TURN servers are tried.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Probes")]
pub struct ProbeSettings {
    /// How TURN servers are tried, each way for itself: relay (data through the relay and back), allocate (as far as an allocation,
    /// for servers that refuse to relay to their own address) or off. A server that fails is left out of answers until it works again.
    #[arg(long, value_name = "DEPTH", default_value = "relay", value_parser = parse::probe_depth)]
    #[serde(serialize_with = "or_off")]
    pub probe: OrOff<ProbeDepth>,

    /// Time between two tries, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "2000", value_parser = common::millis(100..=common::HOUR))]
    #[serde(serialize_with = "as_millis")]
    pub probe_interval: Duration,

    /// How long a try may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "2000", value_parser = common::millis(100..=common::HOUR))]
    #[serde(serialize_with = "as_millis")]
    pub probe_timeout: Duration,

    /// PEM file with the only certificate authority that counts for turns: servers. Without it, those of the system.
    #[arg(long, value_name = "FILE", value_parser = common::file_name)]
    pub probe_ca: Option<PathBuf>,
}

/// How far a try of a TURN server goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeDepth {
    /// Up to the allocation.
    Allocate,
    /// Up to data that has come back through the relay.
    Relay,
}

/// What the instances share, in Redis.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Redis")]
pub struct StoreSettings {
    /// URL of the Redis that all instances share, for limits, quotas and revocations: redis://[user:password@]host[:port][/db]; rediss
    /// for TLS. Without it each instance counts for itself.
    #[arg(long, value_name = "URL", hide_env_values = true, value_parser = parse::redis_url)]
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "brackets stand for what may be left out, in the help too"
    )]
    pub redis_url: Option<String>,

    /// PEM file with the only certificate authorities that count for rediss, in all URLs of Redis. Without it those that browsers trust.
    /// It is read at the start.
    #[arg(long, value_name = "FILE", value_parser = common::file_name)]
    pub redis_ca: Option<PathBuf>,

    /// Prefix of all keys of ours in Redis.
    #[arg(long, value_name = "PREFIX", default_value = "signalbox", value_parser = common::redis_prefix)]
    pub redis_prefix: String,

    /// URL of the Redis from which coturn takes its secrets (redis-userdb). With it, secrets are made and rotated there, and the newest
    /// one signs; those of --secret sign while that Redis is gone.
    #[arg(long, value_name = "URL", hide_env_values = true, value_parser = parse::redis_url)]
    pub coturn_redis_url: Option<String>,

    /// URL of the Redis in which coturn publishes what it relays (redis-statsdb). Without it, that of --coturn-redis-url.
    #[arg(long, value_name = "URL", hide_env_values = true, value_parser = parse::redis_url)]
    pub coturn_stats_url: Option<String>,

    /// The realm of the TURN servers (realm of coturn), under which they look into Redis.
    #[arg(long, value_name = "REALM", default_value = "signalbox", value_parser = parse::realm)]
    pub realm: String,

    /// Time between two rotations of the secret in Redis, in milliseconds, or off: by command (signalbox-turn rotate) alone.
    #[arg(long, value_name = "MS", default_value = "off", value_parser = parse::millis_or_off)]
    #[serde(serialize_with = "millis_or_off")]
    pub rotate_every: OrOff<Duration>,

    /// How much longer than --max-ttl an old secret stays good, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "120000", value_parser = common::millis(1000..=common::DAY))]
    #[serde(serialize_with = "as_millis")]
    pub rotation_margin: Duration,
}

impl StoreSettings {
    /// Whether any of the URLs asks for TLS.
    pub fn has_tls(&self) -> bool {
        let urls = [&self.redis_url, &self.coturn_redis_url, &self.coturn_stats_url];
        urls.into_iter().flatten().any(|url| url.starts_with("rediss:"))
    }

    /// The authorities of `--redis-ca`, in PEM.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn authorities(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = &self.redis_ca else { return Ok(None) };
        let name = file.display();
        let read = signalbox_tls::authorities::read(file);
        read.map(Some).with_context(|| format!("--redis-ca: {name} cannot be used"))
    }
}

/// Leaves the URLs out, which may hold passwords.
impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// How many credentials are issued, and how much is relayed with them.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// The most credentials in a minute for one subject; 0 is any number.
    #[arg(long, value_name = "COUNT", default_value = "30", value_parser = common::count(0..=1_000_000))]
    pub subject_limit: usize,

    /// The most credentials in a minute for one address (IPv6: one /64 network); 0 is any number. Servers with an API key have
    /// --key-limit instead.
    #[arg(long, value_name = "COUNT", default_value = "120", value_parser = common::count(0..=1_000_000))]
    pub address_limit: usize,

    /// The most credentials in a minute for one API key; 0 is any number.
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = common::count(0..=100_000_000))]
    pub key_limit: usize,

    /// The most bytes that are relayed for one subject in a day (UTC), from coturn's statistics; who has used them up gets no more
    /// credentials before the next day. 0 is any number.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = common::bytes(0..=1 << 50))]
    pub quota_bytes: usize,

    /// The most allocations of one subject at a time, from coturn's statistics; who has them gets no more credentials. It is set as
    /// coturn's user-quota too, where coturn has its secrets in Redis. 0 is any number.
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = common::count(0..=1_000_000))]
    pub quota_allocations: usize,

    /// The most allocations of a TURN server, set as coturn's total-quota where coturn has its secrets in Redis. 0 leaves it as it is.
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = common::count(0..=1_000_000))]
    pub quota_total: usize,
}

/// Servers that may have credentials for others, and look after the service.
#[derive(Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "API keys")]
pub struct KeySettings {
    /// API key of a server, as NAME:SCOPES:HASH; repeatable. SCOPES are one or more of issue, read and revoke, joined by +; HASH is the
    /// SHA-256 of the key in hexadecimal digits. `signalbox-turn new-key` makes a key and its hash.
    #[arg(long, value_name = "API_KEY", value_parser = parse::api_key)]
    #[serde(serialize_with = "as_written")]
    pub api_key: Vec<ApiKey>,
}

/// Leaves the hashes out.
impl fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.api_key.iter().map(|key| &*key.name).collect();
        f.debug_struct("KeySettings").field("names", &names).finish_non_exhaustive()
    }
}

/// The management listener.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Management listener")]
pub struct ManagementSettings {
    /// Address or host name the management listener binds to. It serves /livez, /readyz and /metrics.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", value_parser = common::host)]
    pub admin_host: String,

    /// Port of the management listener; 0 takes any free port.
    #[arg(long, value_name = "PORT", default_value = "9003", value_parser = common::port)]
    pub admin_port: u16,
}

fn provider_name<S: Serializer>(value: &Option<Provider>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(provider) => serializer.serialize_str(provider.name()),
        None => serializer.serialize_none(),
    }
}

fn as_written<S: Serializer>(keys: &[ApiKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(ToString::to_string))
}

fn millis_or_off<S: Serializer>(value: &OrOff<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => as_millis(value, serializer),
        None => serializer.serialize_str("off"),
    }
}
