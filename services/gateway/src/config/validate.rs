//! Checks beyond a single value: settings that need, exclude or bound each other, and files that must be readable.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Command;
use signalbox_auth::jwks::{Intervals, SharedJwks};
use signalbox_config::check::{Address, Check, remove_repeated};
use signalbox_config::error::quote;
use signalbox_config::{ConfigError, SettingSource, SettingSources, keys, reason};
use signalbox_node::{MAX_FOLLOWED, MAX_METRIC_NAMESPACES, rules::RuleSet};

use super::parse;
use super::settings::{CookieSecure, SameSite, Settings, TlsMode};

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
    let check = Check::new(sources, command);
    secret_files(&check, settings)?;
    normalise(settings);
    let listener = &settings.listener;
    check.tls(listener.sslkey.as_deref(), listener.sslcert.as_deref())?;
    cluster_tls(&check, settings)?;
    vendor_dir(&check, settings)?;
    static_dir(&check, settings)?;
    if listener.proxy_protocol && listener.trusted_proxies.is_empty() {
        // Anybody could say who they are.
        return Err(check.missing_partner("proxy-protocol", "trusted-proxies", "10.0.0.0/8"));
    }
    if !listener.proxy_protocol {
        check.proxies(listener.proxied, &listener.trusted_proxies)?;
    }
    ice(&check, settings)?;
    webhooks(&check, settings)?;
    hooks(&check, settings)?;
    ports(&check, settings)?;
    paths(&check, settings)?;
    transports(&check, settings)?;
    metric_namespaces(&check, settings)?;
    log_clients(&check, settings)?;
    cookie(&check, settings)?;
    rules(&check, settings)?;
    memory(&check, settings)?;
    auth(&check, settings)
}

fn normalise(settings: &mut Settings) {
    if !settings.socketio.no_trailing_slash && !settings.socketio.socketio_path.ends_with('/') {
        settings.socketio.socketio_path.push('/');
    }
    remove_repeated(&mut settings.peerserver.key);
    for origins in [&mut settings.listener.cors, &mut settings.listener.origins] {
        remove_repeated(origins);
        parse::merge_origins(origins);
    }
    remove_repeated(&mut settings.socketio.transports);
    remove_repeated(&mut settings.management.metric_namespaces);
    remove_repeated(&mut settings.node.log_client);
    let has_redis = settings.cluster.redis_url.is_some();
    if !has_redis {
        settings.peerserver.concurrent_limit.get_or_insert(DEFAULT_CONCURRENT_LIMIT);
    }
    let drain_timeout = if has_redis { CLUSTER_DRAIN_TIMEOUT } else { STANDALONE_DRAIN_TIMEOUT };
    settings.node.drain_timeout.get_or_insert(drain_timeout);
    settings.node.outbox_limit = Some(settings.node.outbox_limit(settings.socketio.max_payload));
}

/// Secrets that stand in files of their own, as container images give them.
fn secret_files(check: &Check<'_>, settings: &mut Settings) -> Result<(), ConfigError> {
    let cluster = &mut settings.cluster;
    let url = cluster.redis_url_file.as_deref();
    if let Some(url) = secret_file(check, "redis-url", &cluster.redis_url, url, parse::redis_url)? {
        cluster.redis_url = Some(url);
    }
    if let Some(path) = &cluster.redis_ca {
        check.readable_file("redis-ca", path, "name a readable PEM file")?;
    }
    let secret = cluster.cluster_secret_file.as_deref();
    let parser = parse::cluster_secret;
    if let Some(secret) = secret_file(check, "cluster-secret", &cluster.cluster_secret, secret, parser)? {
        cluster.cluster_secret = Some(secret);
    }
    Ok(())
}

/// TLS between nodes has its three files. What they hold is looked at when the node starts.
fn cluster_tls(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let cluster = &settings.cluster;
    if cluster.cluster_tls == TlsMode::Off {
        return Ok(());
    }
    for (name, file, example) in [
        ("cluster-tls-ca", &cluster.cluster_tls_ca, "ca.pem"),
        ("cluster-tls-cert", &cluster.cluster_tls_cert, "node.pem"),
        ("cluster-tls-key", &cluster.cluster_tls_key, "node-key.pem"),
    ] {
        match file {
            Some(file) => check.readable_file(name, file, "name a readable PEM file")?,
            None => return Err(check.missing_partner("cluster-tls", name, example)),
        }
    }
    Ok(())
}

fn secret_file(
    check: &Check<'_>,
    name: &str,
    given: &Option<String>,
    file: Option<&Path>,
    parse: fn(&str) -> Result<String, String>,
) -> Result<Option<String>, ConfigError> {
    let Some(path) = file else { return Ok(None) };
    let file_setting = format!("{name}-file");
    let place = check.source(&file_setting).place(&file_setting);
    if given.is_some() {
        let other = check.source(name).place(name);
        return Err(ConfigError::new(place, format!("{other} is given too"), "give one of the two"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| check.unreadable(&file_setting, path, &reason(&error), "name a readable file"))?;
    let value = parse(parse::without_line_ending(&text));
    value.map(Some).map_err(|problem| {
        let remedy = format!("write the value of --{name} into that file");
        ConfigError::new(place, problem, remedy)
    })
}

/// Keys and grants are read, though nothing is fetched, so that a mistake shows before anything runs.
fn auth(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let auth = &settings.auth;
    if auth.jwt_cookie.is_some() && settings.listener.origins.is_empty() {
        // Any page could have its visitors' browsers show their tokens.
        return Err(check.missing_partner("jwt-cookie", "origins", "https://app.example.com"));
    }
    let listed = settings.listener.origins.iter();
    if auth.jwt_cookie.is_some()
        && let Some(open) =
            listed.map(String::as_str).find(|origin| [parse::ANY_ORIGIN, "null"].contains(origin))
    {
        // A page of any origin can make a frame whose origin is null.
        let problem = format!("{open} in --origins would let any page show its visitors' tokens");
        let remedy = "name the origins of your pages, or leave --jwt-cookie out";
        return Err(ConfigError::new(check.source("jwt-cookie").place("jwt-cookie"), problem, remedy));
    }
    let checked = keys::jwks_url(&auth.tokens).and_then(|url| {
        let fetched = url.map(|_| SharedJwks::new(Intervals::default(), Instant::now()));
        keys::authenticator(&auth.tokens, fetched.as_ref()).map(drop)
    });
    checked.map_err(|error| {
        ConfigError::new(check.source(error.setting).place(error.setting), error.problem, error.remedy)
    })
}

fn vendor_dir(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let Some(path) = &settings.listener.vendor_dir else { return Ok(()) };
    match std::fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            let remedy = "name a readable directory, or leave it out for a public CDN";
            Err(check.unreadable("vendor-dir", path, &reason(&error), remedy))
        }
    }
}

fn static_dir(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let Some(path) = &settings.listener.r#static else { return Ok(()) };
    let read = std::fs::read_dir(path);
    read.map(drop)
        .map_err(|error| check.unreadable("static", path, &reason(&error), "name a readable directory"))
}

fn ice(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let ice = &settings.ice;
    if ice.turn_key.is_some() && ice.turn_key_file.is_some() {
        let place = check.source("turn-key-file").place("turn-key-file");
        return Err(ConfigError::new(place, "--turn-key is given too", "give one of the two"));
    }
    if ice.turn_url.is_some() && ice.turn_key.is_none() && ice.turn_key_file.is_none() {
        return Err(check.missing_partner("turn-url", "turn-key", "sbt_..."));
    }
    // The file of the key is read at the start.
    Ok(())
}

/// Adds the secrets of a file, one on a line, to those that are set: they are given in one way only.
fn signing_secrets(
    check: &Check<'_>,
    (name, name_of_file): (&str, &str),
    file: Option<&Path>,
    secrets: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let Some(path) = file else { return Ok(()) };
    let place = check.source(name_of_file).place(name_of_file);
    if !secrets.is_empty() {
        let other = check.source(name).place(name);
        return Err(ConfigError::new(place, format!("{other} is given too"), "give one of the two"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| check.unreadable(name_of_file, path, &reason(&error), "name a readable file"))?;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let secret = parse::signing_secret(line).map_err(|problem| {
            ConfigError::new(place.clone(), problem, "write a secret on each line of that file")
        })?;
        secrets.push(secret);
    }
    Ok(())
}

/// Webhooks are signed, so there is a secret, and there may be several in a file.
fn webhooks(check: &Check<'_>, settings: &mut Settings) -> Result<(), ConfigError> {
    let webhooks = &mut settings.webhooks;
    if let Some(path) = &webhooks.webhook_ca {
        check.readable_file("webhook-ca", path, "name a readable PEM file")?;
    }
    let file = webhooks.webhook_secret_file.as_deref();
    signing_secrets(check, ("webhook-secret", "webhook-secret-file"), file, &mut webhooks.webhook_secret)?;
    if webhooks.webhook_url.is_some() && webhooks.webhook_secret.is_empty() {
        return Err(check.missing_partner("webhook-url", "webhook-secret", "whsec_..."));
    }
    Ok(())
}

/// Requests to hooks are signed, so there is a secret, and there may be several in a file.
fn hooks(check: &Check<'_>, settings: &mut Settings) -> Result<(), ConfigError> {
    let hooks = &mut settings.hooks;
    if let Some(path) = &hooks.hook_ca {
        check.readable_file("hook-ca", path, "name a readable PEM file")?;
    }
    let file = hooks.hook_secret_file.as_deref();
    signing_secrets(check, ("hook-secret", "hook-secret-file"), file, &mut hooks.hook_secret)?;
    if !hooks.hook.is_empty() && hooks.hook_secret.is_empty() {
        return Err(check.missing_partner("hook", "hook-secret", "whsec_..."));
    }
    let names = hooks.names();
    if let Some(name) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        let place = check.source("hook").place("hook");
        return Err(ConfigError::new(
            place,
            format!("two hooks are called {:?}", name.1),
            "give each its own name",
        ));
    }
    for (at, policy) in hooks.hook_policy.iter().enumerate() {
        let place = check.source("hook-policy").place("hook-policy");
        let what = policy.decides.name();
        if hooks.hook_policy[..at].iter().any(|other| other.decides == policy.decides) {
            return Err(ConfigError::new(place, format!("two hooks decide on {what}"), "name one"));
        }
        if !names.contains(&policy.hook.as_str()) {
            let remedy = format!("set --hook {}=https://... too", policy.hook);
            return Err(ConfigError::new(place, format!("there is no hook {:?}", policy.hook), remedy));
        }
    }
    Ok(())
}

fn ports(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let host = &settings.listener.host;
    let admin = &settings.management;
    check.ports(&[
        Address { name: "port", host, port: settings.listener.port },
        Address { name: "admin-port", host: &admin.admin_host, port: admin.admin_port },
        Address { name: "metrics-port", host, port: admin.metrics_port.unwrap_or(0) },
    ])
}

fn paths(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let socketio = settings.socketio.socketio_path.as_str();
    let peerserver = settings.peerserver.path.as_str();
    if socketio == "/" {
        let source = check.source("socketio-path");
        let remedy = format!("use e.g. {}", source.assignment("socketio-path", "/socket.io/"));
        let problem = "\"/\" would take every request of the other protocol";
        return Err(ConfigError::new(source.place("socketio-path"), problem, remedy));
    }
    for (name, path) in [("socketio-path", socketio), ("path", peerserver)] {
        if is_under(path, DEMO_PATH) {
            return Err(check.bad(name, format!("{} belongs to the demo page", quote(path))));
        }
    }
    if is_under(peerserver, socketio) {
        let problem = format!("{} lies under the Socket.IO path {}", quote(peerserver), quote(socketio));
        return Err(check.bad("path", problem));
    }
    routes(check, settings)
}

/// The Socket.IO path is a prefix, and the demo comes first: neither may take what a PeerJS client asks for.
fn routes(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let socketio = settings.socketio.socketio_path.as_str();
    let mount = settings.peerserver.path.trim_end_matches('/');
    let keys = settings.peerserver.key.iter().map(|key| format!("{mount}/{key}/"));
    // Name the setting to change: one of those involved that is not at its default.
    let names = ["key", "path", "socketio-path", "no-trailing-slash"];
    let name = names.into_iter().find(|name| check.source(name) != &SettingSource::Default);
    let name = name.unwrap_or("socketio-path");
    for path in keys.chain([format!("{mount}/peerjs")]) {
        if path.starts_with(socketio) {
            let problem = format!("{} would take {} of the PeerServer", quote(socketio), quote(&path));
            return Err(check.bad(name, problem));
        }
        if is_under(&path, DEMO_PATH) {
            let problem = format!("{} of the PeerServer belongs to the demo page", quote(&path));
            return Err(check.bad("key", problem));
        }
    }
    Ok(())
}

fn transports(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    if settings.socketio.transports.is_empty() {
        return Err(check.bad("transports", "the list is empty".to_owned()));
    }
    Ok(())
}

fn metric_namespaces(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let count = settings.management.metric_namespaces.len();
    if count > MAX_METRIC_NAMESPACES {
        return Err(check.bad("metric-namespaces", format!("{count} are more than {MAX_METRIC_NAMESPACES}")));
    }
    Ok(())
}

fn log_clients(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let count = settings.node.log_client.len();
    if count > MAX_FOLLOWED {
        return Err(check.bad("log-client", format!("{count} are more than {MAX_FOLLOWED}")));
    }
    Ok(())
}

fn cookie(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let socketio = &settings.socketio;
    if socketio.cookie_same_site == SameSite::None && socketio.cookie_secure != CookieSecure::Always {
        // Browsers drop such a cookie otherwise.
        return Err(check.missing_partner("cookie-same-site", "cookie-secure", "true"));
    }
    Ok(())
}

/// Rules are read, so that a mistake shows before anything runs.
fn rules(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let Some(path) = &settings.socketio.rules else { return Ok(()) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| check.unreadable("rules", path, &reason(&error), "name a readable file"))?;
    let (problems, remedy) = match RuleSet::parse(&text) {
        Ok(rules) => (rules.unknown_hooks(&settings.hooks.names()), ""),
        Err(problems) => (problems, ": signalbox-gateway rules check shows them"),
    };
    let Some(first) = problems.first() else { return Ok(()) };
    let place = format!(
        "{}: {}:{}:{}",
        check.source("rules").place("rules"),
        path.display(),
        first.line,
        first.column
    );
    let more = match problems.len() {
        1 => String::new(),
        count => format!(", and {} more problems{remedy}", count - 1),
    };
    Err(ConfigError::new(place, format!("{}{more}", first.problem), first.remedy.clone()))
}

fn memory(check: &Check<'_>, settings: &Settings) -> Result<(), ConfigError> {
    let outbox_limit = settings.node.outbox_limit(settings.socketio.max_payload);
    let Some(budget) = settings.node.memory_budget.filter(|budget| *budget < outbox_limit) else {
        return Ok(());
    };
    // Name the setting to change: one of those involved that is not at its default.
    let names = ["memory-budget", "outbox-limit", "max-payload"];
    let name = names.into_iter().find(|name| check.source(name) != &SettingSource::Default);
    let name = name.unwrap_or("memory-budget");
    let problem =
        format!("the memory budget ({budget} bytes) is less than one outbox ({outbox_limit} bytes)");
    let remedy = format!("set --memory-budget to {outbox_limit} or more, or lower --outbox-limit");
    Err(ConfigError::new(check.source(name).place(name), problem, remedy))
}

fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}
