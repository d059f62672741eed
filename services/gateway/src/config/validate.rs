//! Checks beyond a single value: settings that need, exclude or bound each other, and files that must be readable.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Command;
use signalbox_auth::jwks::{Intervals, SharedJwks};

use super::command::find;
use super::error::{ConfigError, SettingSource, quote};
use super::file::reason;
use super::keys;
use super::layers::SettingSources;
use super::parse::{self, ANY_ORIGIN};
use super::settings::Settings;

/// Default of `--concurrent_limit` without Redis, as in the reference.
const DEFAULT_CONCURRENT_LIMIT: usize = 5000;
/// Default of `--drain-timeout` with Redis.
const CLUSTER_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Default of `--drain-timeout` without Redis.
const STANDALONE_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The demo is served here, whatever else is configured.
const DEMO_PATH: &str = "/demo";

/// Checks the settings against each other and brings them into their final form.
pub(super) fn validate(
    settings: &mut Settings,
    sources: &SettingSources,
    command: &Command,
) -> Result<(), ConfigError> {
    let check = Check { sources, command };
    check.secret_files(settings)?;
    normalise(settings);
    check.tls(settings)?;
    check.vendor_dir(settings)?;
    check.proxies(settings)?;
    check.ports(settings)?;
    check.paths(settings)?;
    check.transports(settings)?;
    check.memory(settings)?;
    check.auth(settings)
}

fn normalise(settings: &mut Settings) {
    if !settings.socketio.no_trailing_slash && !settings.socketio.socketio_path.ends_with('/') {
        settings.socketio.socketio_path.push('/');
    }
    remove_repeated(&mut settings.peerserver.key);
    for origins in [&mut settings.listener.cors, &mut settings.listener.origins] {
        remove_repeated(origins);
        if origins.iter().any(|origin| origin == ANY_ORIGIN) {
            origins.clear();
        }
    }
    remove_repeated(&mut settings.socketio.transports);
    let has_redis = settings.cluster.redis_url.is_some();
    if !has_redis {
        settings.peerserver.concurrent_limit.get_or_insert(DEFAULT_CONCURRENT_LIMIT);
    }
    let drain_timeout = if has_redis { CLUSTER_DRAIN_TIMEOUT } else { STANDALONE_DRAIN_TIMEOUT };
    settings.node.drain_timeout.get_or_insert(drain_timeout);
    settings.node.outbox_limit = Some(settings.node.outbox_limit(settings.socketio.max_payload));
}

fn remove_repeated<T: PartialEq + Clone>(list: &mut Vec<T>) {
    let mut seen = Vec::new();
    list.retain(|item| {
        let is_new = !seen.contains(item);
        seen.push(item.clone());
        is_new
    });
}

struct Check<'a> {
    sources: &'a SettingSources,
    command: &'a Command,
}

impl Check<'_> {
    fn tls(&self, settings: &Settings) -> Result<(), ConfigError> {
        match (&settings.listener.sslkey, &settings.listener.sslcert) {
            (Some(_), None) => Err(self.missing_partner("sslkey", "sslcert", "cert.pem")),
            (None, Some(_)) => Err(self.missing_partner("sslcert", "sslkey", "key.pem")),
            (Some(key), Some(certificate)) => {
                self.readable_file("sslkey", key)?;
                self.readable_file("sslcert", certificate)
            }
            (None, None) => Ok(()),
        }
    }

    fn missing_partner(&self, given: &str, missing: &str, example: &str) -> ConfigError {
        let source = self.sources.of(given);
        let partner = SettingSource::Flag.place(missing);
        let remedy = match source {
            // The partner's variable differs in its name.
            SettingSource::Env(_) => {
                let variable = missing.replace('-', "_").to_ascii_uppercase();
                format!("set {partner} too, or SIGNALBOX_{variable}")
            }
            _ => format!("set {} too", source.assignment(missing, example)),
        };
        ConfigError::new(source.place(given), format!("needs {partner} too"), remedy)
    }

    fn readable_file(&self, name: &str, path: &Path) -> Result<(), ConfigError> {
        let opened = File::open(path).and_then(|file| file.metadata());
        let problem = match opened {
            Ok(metadata) if metadata.is_file() => return Ok(()),
            Ok(_) => "it is not a file".to_owned(),
            Err(error) => reason(&error),
        };
        Err(self.unreadable(name, path, &problem, "name a readable PEM file"))
    }

    /// Secrets that stand in files of their own, as container images give them.
    fn secret_files(&self, settings: &mut Settings) -> Result<(), ConfigError> {
        let cluster = &mut settings.cluster;
        let url = cluster.redis_url_file.as_deref();
        if let Some(url) = self.secret_file("redis-url", &cluster.redis_url, url, parse::redis_url)? {
            cluster.redis_url = Some(url);
        }
        let secret = cluster.cluster_secret_file.as_deref();
        let parser = parse::cluster_secret;
        if let Some(secret) = self.secret_file("cluster-secret", &cluster.cluster_secret, secret, parser)? {
            cluster.cluster_secret = Some(secret);
        }
        Ok(())
    }

    fn secret_file(
        &self,
        name: &str,
        given: &Option<String>,
        file: Option<&Path>,
        parse: fn(&str) -> Result<String, String>,
    ) -> Result<Option<String>, ConfigError> {
        let Some(path) = file else { return Ok(None) };
        let file_setting = format!("{name}-file");
        let place = self.sources.of(&file_setting).place(&file_setting);
        if given.is_some() {
            let other = self.sources.of(name).place(name);
            return Err(ConfigError::new(place, format!("{other} is given too"), "give one of the two"));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| self.unreadable(&file_setting, path, &reason(&error), "name a readable file"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let value = parse(line.strip_suffix('\r').unwrap_or(line));
        value.map(Some).map_err(|problem| {
            let remedy = format!("write the value of --{name} into that file");
            ConfigError::new(place, problem, remedy)
        })
    }

    /// Keys and grants are read, though nothing is fetched, so that a mistake shows before anything runs.
    fn auth(&self, settings: &Settings) -> Result<(), ConfigError> {
        let auth = &settings.auth;
        if auth.jwt_cookie.is_some() && settings.listener.origins.is_empty() {
            // Any page could have its visitors' browsers show their tokens.
            return Err(self.missing_partner("jwt-cookie", "origins", "https://app.example.com"));
        }
        let checked = keys::jwks_url(auth).and_then(|url| {
            let fetched = url.map(|_| SharedJwks::new(Intervals::default(), Instant::now()));
            keys::authenticator(auth, fetched.as_ref()).map(drop)
        });
        checked.map_err(|error| {
            ConfigError::new(self.sources.of(error.setting).place(error.setting), error.problem, error.remedy)
        })
    }

    fn vendor_dir(&self, settings: &Settings) -> Result<(), ConfigError> {
        let Some(path) = &settings.listener.vendor_dir else { return Ok(()) };
        match std::fs::read_dir(path) {
            Ok(_) => Ok(()),
            Err(error) => {
                let remedy = "name a readable directory, or leave it out for a public CDN";
                Err(self.unreadable("vendor-dir", path, &reason(&error), remedy))
            }
        }
    }

    fn unreadable(&self, name: &str, path: &Path, problem: &str, remedy: &str) -> ConfigError {
        let problem = format!("cannot read {}: {problem}", quote(&path.to_string_lossy()));
        ConfigError::new(self.sources.of(name).place(name), problem, remedy)
    }

    /// A list of trusted proxies that has no effect would give a false sense of safety, and without the list everybody could choose the
    /// address that is logged, limited and allowed.
    fn proxies(&self, settings: &Settings) -> Result<(), ConfigError> {
        match (settings.listener.proxied, settings.listener.trusted_proxies.is_empty()) {
            (true, true) => {
                return Err(self.missing_partner("proxied", "trusted-proxies", "10.0.0.0/8"));
            }
            (false, false) => {}
            _ => return Ok(()),
        }
        let source = self.sources.of("trusted-proxies");
        let remedy = match source {
            SettingSource::Env(_) => "set SIGNALBOX_PROXIED=true too".to_owned(),
            _ => format!("set {} too", source.assignment("proxied", "true")),
        };
        let place = source.place("trusted-proxies");
        Err(ConfigError::new(place, "has no effect without --proxied", remedy))
    }

    fn ports(&self, settings: &Settings) -> Result<(), ConfigError> {
        let public = Address { name: "port", host: &settings.listener.host, port: settings.listener.port };
        let admin = &settings.management;
        let management = Address { name: "admin-port", host: &admin.admin_host, port: admin.admin_port };
        let metrics = admin.metrics_port.map(|port| Address {
            name: "metrics-port",
            host: &settings.listener.host,
            port,
        });
        let pairs =
            [(Some(&management), &public), (metrics.as_ref(), &public), (metrics.as_ref(), &management)];
        for (later, earlier) in pairs {
            let Some(later) = later else { continue };
            if later.collides_with(earlier) {
                let problem = format!("{} is --{} too", later.port, earlier.name);
                let place = self.sources.of(later.name).place(later.name);
                return Err(ConfigError::new(place, problem, "give each listener a port of its own, or 0"));
            }
        }
        Ok(())
    }

    fn paths(&self, settings: &Settings) -> Result<(), ConfigError> {
        let socketio = settings.socketio.socketio_path.as_str();
        let peerserver = settings.peerserver.path.as_str();
        if socketio == "/" {
            let source = self.sources.of("socketio-path");
            let remedy = format!("use e.g. {}", source.assignment("socketio-path", "/socket.io/"));
            let problem = "\"/\" would take every request of the other protocol";
            return Err(ConfigError::new(source.place("socketio-path"), problem, remedy));
        }
        for (name, path) in [("socketio-path", socketio), ("path", peerserver)] {
            if is_under(path, DEMO_PATH) {
                return Err(self.bad(name, format!("{} belongs to the demo page", quote(path))));
            }
        }
        if is_under(peerserver, socketio) {
            let problem = format!("{} lies under the Socket.IO path {}", quote(peerserver), quote(socketio));
            return Err(self.bad("path", problem));
        }
        self.routes(settings)
    }

    /// The Socket.IO path is a prefix, and the demo comes first: neither may take what a PeerJS client asks for.
    fn routes(&self, settings: &Settings) -> Result<(), ConfigError> {
        let socketio = settings.socketio.socketio_path.as_str();
        let mount = settings.peerserver.path.trim_end_matches('/');
        let keys = settings.peerserver.key.iter().map(|key| format!("{mount}/{key}/"));
        // Name the setting to change: one of those involved that is not at its default.
        let names = ["key", "path", "socketio-path", "no-trailing-slash"];
        let name = names.into_iter().find(|name| self.sources.of(name) != &SettingSource::Default);
        let name = name.unwrap_or("socketio-path");
        for path in keys.chain([format!("{mount}/peerjs")]) {
            if path.starts_with(socketio) {
                let problem = format!("{} would take {} of the PeerServer", quote(socketio), quote(&path));
                return Err(self.bad(name, problem));
            }
            if is_under(&path, DEMO_PATH) {
                let problem = format!("{} of the PeerServer belongs to the demo page", quote(&path));
                return Err(self.bad("key", problem));
            }
        }
        Ok(())
    }

    fn transports(&self, settings: &Settings) -> Result<(), ConfigError> {
        if settings.socketio.transports.is_empty() {
            return Err(self.bad("transports", "the list is empty".to_owned()));
        }
        Ok(())
    }

    fn memory(&self, settings: &Settings) -> Result<(), ConfigError> {
        let outbox_limit = settings.node.outbox_limit(settings.socketio.max_payload);
        if settings.node.memory_budget >= outbox_limit {
            return Ok(());
        }
        // Name the setting to change: one of those involved that is not at its default.
        let names = ["memory-budget", "outbox-limit", "max-payload"];
        let name = names.into_iter().find(|name| self.sources.of(name) != &SettingSource::Default);
        let name = name.unwrap_or("memory-budget");
        let budget = settings.node.memory_budget;
        let problem =
            format!("the memory budget ({budget} bytes) is less than one outbox ({outbox_limit} bytes)");
        let remedy = format!("set --memory-budget to {outbox_limit} or more, or lower --outbox-limit");
        Err(ConfigError::new(self.sources.of(name).place(name), problem, remedy))
    }

    fn bad(&self, name: &str, problem: String) -> ConfigError {
        let source = self.sources.of(name);
        match find(self.command, name) {
            Some(arg) => source.error(arg, problem),
            None => ConfigError::new(source.place(name), problem, "see --help"),
        }
    }
}

/// Where a listener will be.
struct Address<'a> {
    name: &'static str,
    host: &'a str,
    port: u16,
}

impl Address<'_> {
    fn collides_with(&self, other: &Address<'_>) -> bool {
        let is_any = |host: &str| matches!(host, "0.0.0.0" | "::");
        let is_same_host = self.host == other.host || is_any(self.host) || is_any(other.host);
        self.port != 0 && self.port == other.port && is_same_host
    }
}

fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}
