//! The steps of the program: bind, listen, serve, stop.

use std::{
    io::{self, Write as _},
    net::TcpListener,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{App, HttpServer, dev::ServerHandle, middleware::from_fn, web};
use anyhow::{Context, Result, anyhow};
use signalbox_config::{auth::AuthMode, keys};
use signalbox_node::{
    ClientLimits, ClusterConfig, Cors, LinkTls, Metrics, Namespace, Node, Origins, PeerConfig, Serve,
    SidCookie, engineio,
    policy::{AllowAll, Policy},
    rules::RuleSet,
};
use signalbox_telemetry::{
    LogFormat, init_logs,
    metric_export::{Exporting, export_metrics},
    traces::{flush_traces, init_traces},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    admin::{self, AdminState},
    auth::Auth,
    cluster_secrets::ClusterSecrets,
    config::{
        LogFormat as ConfiguredFormat, Settings, Transport,
        limits::LimitSettings,
        settings::{LONGEST_STANDALONE_STOP, TlsMode},
    },
    files,
    hooks::Hooks,
    ice::Ice,
    management, memory, public,
    rules::{self, LiveRules},
    webhooks::Webhooks,
};

/// Added to the time that a shutdown may take; then the program exits, whatever has not stopped.
const SHUTDOWN_MARGIN: Duration = Duration::from_millis(9_500);

/// How long a node that stops may take to write the last webhooks.
const WEBHOOKS_STOP: Duration = Duration::from_secs(3);

/// Runs the gateway until a signal ends it.
///
/// # Errors
/// Why it cannot start, with the remedy.
pub fn run(settings: &Settings, warnings: &[String]) -> Result<()> {
    let format = match settings.logging.log_format {
        ConfiguredFormat::Text => LogFormat::Text,
        ConfiguredFormat::Json => LogFormat::Json,
    };
    init_logs(&settings.logging.log, format)?;
    let has_traces = init_traces("signalbox-gateway", env!("CARGO_PKG_VERSION"))?;
    signalbox_node::end_process_on_panic();
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if has_traces {
        tracing::info!("traces are exported by OTLP (OTEL_EXPORTER_OTLP_ENDPOINT)");
    }
    let outcome = actix_rt::System::new().block_on(serve(settings));
    flush_traces();
    outcome
}

async fn serve(settings: &Settings) -> Result<()> {
    let metrics = Metrics::new();
    metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let ice = Ice::new(&settings.ice)?;
    let hooks = Hooks::new(&settings.hooks, &metrics)?;
    // Whatever there is at the start, rules may be put later.
    let app = signalbox_node::App::new().hooks(Arc::new(hooks.clone()));
    let rules = match &settings.socketio.rules {
        Some(path) => rules::read(path, &settings.hooks.names())?,
        None => RuleSet::builtin(),
    };
    let app = app.rules(Arc::new(rules)).namespace(ice.event(Namespace::ruled()));
    metrics.config_info.with_label_values(&[&settings.fingerprint()]).set(1);
    let auth = Auth::start(&settings.auth, &metrics)?.map(Arc::new);
    let policy_of_tokens = auth.as_ref().map(|auth| auth.policy().clone());
    let policy_of_admin = policy_of_tokens.clone();
    let policy: Arc<dyn Policy> = match &auth {
        Some(auth) => Arc::new(auth.policy().clone()),
        None => Arc::new(AllowAll),
    };
    let policy = hooks.behind(policy, &settings.hooks);
    let cluster = cluster_config(settings)?;
    let node = match &cluster {
        Some(cluster) => Node::join(node_config(settings), cluster, app, metrics, policy)
            .context("cannot join the cluster")?,
        None => Node::with_policy(node_config(settings), app, metrics, policy),
    };

    let gathering = node.clone();
    let exporting = Exporting {
        service: "signalbox-gateway",
        version: env!("CARGO_PKG_VERSION"),
        instance: Some(node.tag()),
    };
    if export_metrics(&exporting, move || gathering.metrics_now().gather())? {
        tracing::info!("metrics are exported by OTLP (OTEL_METRICS_EXPORTER)");
    }
    let mut webhooks = Webhooks::start(&settings.webhooks, &settings.cluster.redis_prefix, &node)?;

    let listener = &settings.listener;
    let expiry = node.metrics().certificate_expiry.clone();
    let on_expiry = Box::new(move |at| expiry.set(at));
    let (tls, renewal) =
        listener.tls().map(|(key, chain)| signalbox_tls::load(key, chain, on_expiry)).transpose()?.unzip();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let site = public::Site::load(settings)?;

    let public_socket = bind("--port", &listener.host, listener.port)?;
    let management = &settings.management;
    let admin_socket = bind("--admin-port", &management.admin_host, management.admin_port)?;
    let metrics_socket =
        management.metrics_port.map(|port| bind("--metrics-port", &listener.host, port)).transpose()?;
    let mut line =
        format!("public={} management={}", url(scheme, &public_socket)?, url("http", &admin_socket)?);
    if let Some(socket) = &metrics_socket {
        line.push_str(&format!(" metrics={}", url("http", socket)?));
    }

    let cors = if listener.cors.is_empty() { Cors::Any } else { Cors::Only(Origins::new(&listener.cors)) };
    let (identifying, reloaded) = (node.clone(), ice.clone());
    let public_server = node
        .serve(Serve { listener: public_socket, cors, tls }, move |routes| {
            site.routes(routes);
            ice.routes(policy_of_tokens.as_ref(), &identifying, routes);
            site.files(routes);
        })
        .context("the public listener failed")?;
    let public_handle = public_server.handle();
    if let Some(renewal) = renewal {
        actix_rt::spawn(renewal.watch());
    }
    let mut servers = vec![actix_rt::spawn(public_server)];
    let mut handles = Vec::new();
    let tokens = management.admin_token_hash.clone();
    let admin = AdminState::new(
        node.clone(),
        tokens,
        policy_of_admin,
        keys::lifetimes(&settings.auth.tokens),
        admin_socket.local_addr()?,
    );
    let admin = web::Data::new(admin);
    let sockets = [Some((admin_socket, Some(admin))), metrics_socket.map(|socket| (socket, None))];
    for (socket, admin) in sockets.into_iter().flatten() {
        let node = web::Data::new(node.clone());
        let is_admin = admin.is_some();
        let app = move || {
            let admin = admin.clone();
            let configure = move |routes: &mut web::ServiceConfig| match admin {
                Some(admin) => {
                    routes.app_data(admin).configure(admin::routes);
                    management::routes(
                        routes,
                        "this listener serves /livez, /readyz, /metrics and /admin/v1\n",
                    );
                }
                None => management::routes(routes, "this listener serves /livez, /readyz and /metrics\n"),
            };
            App::new().app_data(node.clone()).configure(configure).wrap(from_fn(management::announce_close))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .shutdown_timeout(1)
            .on_connect(move |connection, data| {
                if is_admin {
                    admin::on_connect(connection, data);
                }
            })
            .disable_signals()
            .listen(socket)
            .context("the management listener failed")?
            .run();
        handles.push(server.handle());
        servers.push(actix_rt::spawn(server));
    }

    // Before the line below: a script that has read it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hook_names: Vec<String> = settings.hooks.names().into_iter().map(str::to_owned).collect();
    let rules = settings.socketio.rules.clone();
    let rules = rules.map(|path| Arc::new(LiveRules::new(path, hook_names, node.clone())));
    let secrets = ClusterSecrets::new(&settings.cluster);
    let files = Files { auth, ice: reloaded, rules, secrets, node: node.clone() };
    actix_rt::spawn(reload(files, signal(SignalKind::hangup())?));
    // The one line that scripts wait for.
    writeln!(io::stdout(), "signalbox-gateway listening {line}")?;
    let name = settings.node.node_id.clone().unwrap_or_else(|| node.tag());
    if settings.auth.tokens.auth == AuthMode::Off {
        tracing::info!("authentication is off: whoever reaches the public listener may do anything (--auth)");
    }
    tracing::info!(node = name, workers = settings.node.workers, "ready");

    let mut is_told_to_end = false;
    loop {
        let mut is_by_operator = !is_told_to_end
            && tokio::select! {
                () = signalled(&mut terminate, &mut interrupt) => false,
                () = node.drain_requested() => true,
            };
        if !is_by_operator {
            node.commit_drain();
        }
        let is_over = {
            let mut end = pin!(end(settings, &node, &mut webhooks, &public_handle, &handles));
            loop {
                tokio::select! {
                    () = &mut end => break true,
                    () = node.drain_cancelled() => break false,
                    () = signalled(&mut terminate, &mut interrupt) => {
                        // The first signal leaves the clients the time that the operator's drain gives them; the second does not.
                        if !is_by_operator {
                            break true;
                        }
                        if !node.commit_drain() {
                            // The operator has stopped the drain at the same moment: the signal has one of its own.
                            is_told_to_end = true;
                            break false;
                        }
                        is_by_operator = false;
                        tracing::info!("the drain goes on, and cannot be stopped any more");
                    }
                }
            }
        };
        if is_over {
            break;
        }
        node.resume();
        public_handle.resume().await;
        if is_told_to_end {
            tracing::info!("the drain was stopped when the signal came: the node drains for the signal");
        } else {
            tracing::info!("the drain was stopped: the node takes clients again");
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// Waits for a signal that ends the program.
async fn signalled(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Has the node drain or stop, and its servers end. A worker that hangs does not keep the program from exiting.
async fn end(
    settings: &Settings,
    node: &Node,
    webhooks: &mut Option<Webhooks>,
    public: &ServerHandle,
    others: &[ServerHandle],
) {
    let drain_timeout = settings.node.drain_timeout.unwrap_or(LONGEST_STANDALONE_STOP);
    let is_clustered = settings.cluster.redis_url.is_some();
    let limit = if is_clustered { settings.node.drain_delay + drain_timeout } else { Duration::ZERO };
    let began = Instant::now();
    let stop = async {
        let remaining = if is_clustered {
            let delay = settings.node.drain_delay;
            tracing::info!(
                delay_ms = delay.as_millis() as u64,
                timeout_ms = drain_timeout.as_millis() as u64,
                "draining; a second signal ends it at once"
            );
            node.announce_drain();
            tokio::time::sleep(delay).await;
            node.drain(drain_timeout).await
        } else {
            let timeout = drain_timeout.min(LONGEST_STANDALONE_STOP);
            tracing::info!(
                timeout_ms = timeout.as_millis() as u64,
                "stopping; a second signal ends it at once"
            );
            public.pause().await;
            node.stop(timeout).await
        };
        tracing::info!(remaining, took_ms = began.elapsed().as_millis() as u64, "the clients are gone");
        if remaining > 0 {
            tracing::warn!(remaining, "closing the connections of clients that did not disconnect in time");
        }
        if let Some(webhooks) = webhooks.take() {
            webhooks.stop(WEBHOOKS_STOP).await;
        }
        public.stop(true).await;
        for handle in others {
            handle.stop(false).await;
        }
    };
    let _ = tokio::time::timeout(limit + SHUTDOWN_MARGIN, stop).await;
}

/// What is read again while the program runs.
#[derive(Clone)]
struct Files {
    auth: Option<Arc<Auth>>,
    ice: Ice,
    rules: Option<Arc<LiveRules>>,
    secrets: ClusterSecrets,
    node: Node,
}

/// Reads keys, grants, rules and secrets again on each SIGHUP, which does nothing where there are none.
async fn reload(files: Files, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let Files { auth, ice, rules, secrets, node } = files.clone();
        // They may be on a network that hangs.
        let read = tokio::task::spawn_blocking(move || {
            if let Some(auth) = auth {
                auth.reload();
            }
            ice.reload();
            if let Some(rules) = rules {
                rules.reload();
            }
            secrets.reload(&node);
        });
        let _ = read.await;
    }
}

fn bind(flag: &str, host: &str, port: u16) -> Result<TcpListener> {
    signalbox_node::bind(host, port).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{flag}: {host}:{port} is in use (stop what listens there, choose another port, or use {flag} 0 for any free one)"
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "{flag}: no permission to listen on {host}:{port} (ports below 1024 are reserved; choose another)"
        ),
        _ => anyhow!("{flag}: cannot listen on {host}:{port}: {error} (is the host an address of this machine?)"),
    })
}

fn url(scheme: &str, socket: &TcpListener) -> Result<String> {
    Ok(format!("{scheme}://{}", socket.local_addr()?))
}

/// The cluster that the node joins, if any.
fn cluster_config(settings: &Settings) -> Result<Option<ClusterConfig>> {
    let Settings { cluster, node, .. } = settings;
    let Some(redis_url) = cluster.redis_url.clone() else { return Ok(None) };
    let is_required = cluster.cluster_tls == TlsMode::Required;
    let tls = cluster.link_tls().map(|files| LinkTls::load(files, is_required)).transpose()?;
    Ok(Some(ClusterConfig {
        redis_url,
        redis_authorities: redis_authorities(settings)?,
        redis_prefix: cluster.redis_prefix.clone(),
        name: node.node_id.clone(),
        listen: cluster.cluster_addr,
        secret: cluster.cluster_secret.clone(),
        tls: tls.map(Arc::new),
    }))
}

/// The authorities of `--redis-ca`, in PEM.
///
/// # Errors
/// They cannot be used.
pub fn redis_authorities(settings: &Settings) -> Result<Option<Vec<u8>>> {
    let Some(file) = &settings.cluster.redis_ca else { return Ok(None) };
    let name = file.display();
    signalbox_tls::authorities::read(file)
        .map(Some)
        .with_context(|| format!("--redis-ca: {name} cannot be used"))
}

/// The settings as the node takes them.
fn node_config(settings: &Settings) -> signalbox_node::Config {
    let Settings { listener, peerserver, socketio, node, .. } = settings;
    let proxies = |count: bool| if count { listener.trusted_proxies.clone() } else { Vec::new() };
    let outbox_limit = node.outbox_limit(socketio.max_payload);
    let memory_limit = memory::limit(node.memory_limit);
    signalbox_node::Config {
        shards: node.workers,
        engine: engineio::Config {
            ping_interval: socketio.ping_interval,
            ping_timeout: socketio.ping_timeout,
            upgrade_timeout: socketio.upgrade_timeout,
            max_payload: socketio.max_payload,
            transports: socketio
                .transports
                .iter()
                .map(|transport| match transport {
                    Transport::Polling => engineio::Transport::Polling,
                    Transport::WebSocket => engineio::Transport::WebSocket,
                })
                .collect(),
            ..engineio::Config::default()
        },
        connect_timeout: socketio.connect_timeout,
        socketio_path: socketio.socketio_path.clone(),
        cookie: socketio.cookie.clone().map(|name| SidCookie {
            name,
            secure: socketio.cookie_secure.into(),
            same_site: socketio.cookie_same_site.into(),
            http_only: socketio.cookie_http_only,
        }),
        peer: PeerConfig {
            path: peerserver.path.trim_end_matches('/').to_owned(),
            keys: peerserver.key.clone(),
            expire_timeout: peerserver.expire_timeout,
            alive_timeout: peerserver.alive_timeout,
            concurrent_limit: peerserver.concurrent_limit,
            allow_discovery: peerserver.allow_discovery,
            max_payload: socketio.max_payload,
        },
        origins: (!listener.origins.is_empty()).then(|| Origins::new(&listener.origins)),
        trusted_proxies: proxies(listener.proxied),
        proxy_protocol: proxies(listener.proxy_protocol),
        header_timeout: listener.header_timeout,
        body_timeout: listener.body_timeout,
        min_body_rate: listener.min_body_rate,
        max_header_size: listener.max_header_size,
        max_connections: files::max_connections(listener.max_connections),
        limits: client_limits(&settings.limits),
        list_users: !settings.auth.no_users,
        outbox_limit,
        memory_budget: memory::budget(node.memory_budget, memory_limit, outbox_limit),
        memory_limit,
        log_clients: node.log_client.iter().filter_map(|client| client.parse().ok()).collect(),
        metric_namespaces: settings.management.metric_namespaces.clone(),
        ..signalbox_node::Config::default()
    }
}

fn client_limits(limits: &LimitSettings) -> ClientLimits {
    ClientLimits {
        events_per_second: limits.events_per_second,
        bytes_per_second: limits.bytes_per_second,
        joins_per_second: limits.joins_per_second,
        rooms: limits.max_rooms,
        namespaces: limits.max_namespaces,
        room_members: limits.max_room_members.map(|most| most as usize),
        presence: limits.presence_limit.map(|most| most as usize),
        connections_per_address: limits.connections_per_address.map(|most| most as usize),
        connections_per_subject: limits.connections_per_subject,
        handshakes_per_address: limits.handshakes_per_address,
        handshakes_per_second: limits.handshakes_per_second,
    }
}
