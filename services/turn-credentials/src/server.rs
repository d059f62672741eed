//! The steps of the program: bind, listen, serve, stop.

use std::{
    io::{self, Write as _},
    net::{TcpListener, ToSocketAddrs as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_http::HttpService;
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, map_config};
use actix_web::{App, HttpServer, dev::AppConfig, middleware, web};
use anyhow::{Context as _, Result, anyhow};
use signalbox_auth::Origins;
use signalbox_config::LogFormat as ConfiguredFormat;
use signalbox_telemetry::{
    LogFormat, TurnMetrics, init_logs,
    metric_export::{Exporting, export_metrics},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api_keys::ApiKey,
    config::{
        Settings,
        settings::{ListenerSettings, ProbeDepth},
    },
    issue::Issuer,
    management, origins,
    probe::{Depth, Probes},
    routes,
    shared::Shared,
    store,
    tokens::Tokens,
    upstream::Upstream,
    usage::Usage,
};

/// How long a request that is being answered may take when the service stops, in seconds.
const STOP_SECONDS: u64 = 5;

/// Everything that requests need.
pub struct Service {
    /// The settings of the public listener.
    pub listener: ListenerSettings,
    /// Whose pages may read replies; `None`: all, without credentials.
    pub cors: Option<Origins>,
    /// Whose pages may ask; `None`: all.
    pub origins: Option<Origins>,
    /// The longest lifetime that may be asked for.
    pub max_ttl: Duration,
    /// Servers that may ask for others.
    pub keys: Vec<ApiKey>,
    /// Who judges tokens.
    pub tokens: Tokens,
    /// Who issues credentials.
    pub issuer: Arc<Issuer>,
    /// What the instances share.
    pub shared: Arc<Shared>,
    /// Who uses what.
    pub usage: Arc<Usage>,
    /// Numbers.
    pub metrics: TurnMetrics,
    is_stopping: AtomicBool,
}

impl Service {
    /// With these settings, which were checked.
    ///
    /// # Errors
    /// A file that could be read a moment ago, and cannot now.
    pub fn new(settings: &Settings) -> Result<Self> {
        let secrets = read_secrets(settings)?;
        let metrics = TurnMetrics::new();
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let authorities = settings.store.authorities()?;
        let authorities = authorities.as_deref();
        let shared = Arc::new(Shared::new(&settings.store, authorities, settings.turn.max_ttl)?);
        let stats = settings.store.coturn_stats_url.as_deref();
        let stats = stats.map(|url| store::client(url, authorities));
        let stats = stats.transpose().ok().context("--coturn-stats-url: it cannot be used")?;
        let usage = Arc::new(Usage::new(shared.clone(), stats, &settings.store.realm));
        let upstream = Upstream::new(&settings.upstream, &metrics)?;
        let (turn, limits) = (&settings.turn, &settings.limits);
        let issuer = Issuer::new(turn, limits, secrets, shared.clone(), usage.clone(), upstream);
        Ok(Self {
            listener: settings.listener.clone(),
            cors: origins(&settings.listener.cors),
            origins: origins(&settings.listener.origins),
            max_ttl: settings.turn.max_ttl,
            keys: settings.keys.api_key.clone(),
            tokens: Tokens::start(&settings.auth)?,
            issuer: Arc::new(issuer),
            shared,
            usage,
            metrics,
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Whether it has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Reads all files again. If one cannot be used, everything stays as it was.
    fn reload(&self, settings: &Settings) {
        self.tokens.reload();
        match read_secrets(settings) {
            Ok(secrets) => self.issuer.replace_secrets(secrets),
            Err(error) => tracing::error!(%error, "secrets cannot be read again; those in use stay"),
        }
        tracing::info!("keys, grants and secrets were read again");
    }
}

fn read_secrets(settings: &Settings) -> Result<Vec<signalbox_turn::Secret>> {
    crate::config::secrets(&settings.turn)
        .map_err(|(path, problem)| anyhow!("--secret-file: cannot read {}: {problem}", path.display()))
}

/// Runs the service until a signal ends it.
///
/// # Errors
/// Why it cannot start, with the remedy.
pub fn run(settings: &Settings, warnings: &[String]) -> Result<()> {
    let format = match settings.logging.log_format {
        ConfiguredFormat::Text => LogFormat::Text,
        ConfiguredFormat::Json => LogFormat::Json,
    };
    init_logs(&settings.logging.log, format)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    actix_rt::System::new().block_on(serve(settings))
}

async fn serve(settings: &Settings) -> Result<()> {
    let service = web::Data::from(Arc::new(Service::new(settings)?));
    start_tasks(&service, settings).await?;
    let gathering = service.metrics.clone();
    let exporting =
        Exporting { service: "signalbox-turn", version: env!("CARGO_PKG_VERSION"), instance: None };
    if export_metrics(&exporting, move || gathering.gather())? {
        tracing::info!("metrics are exported by OTLP (OTEL_METRICS_EXPORTER)");
    }
    let listener = &settings.listener;
    let public_socket = bind("--port", &listener.host, listener.port)?;
    let admin_socket = bind("--admin-port", &settings.management.admin_host, settings.management.admin_port)?;
    let expiry = service.metrics.certificate_expiry.clone();
    let on_expiry = Box::new(move |at| expiry.set(at));
    let (tls, renewal) =
        listener.tls().map(|(key, chain)| signalbox_tls::load(key, chain, on_expiry)).transpose()?.unzip();
    let line = format!(
        "public={}://{} management=http://{}",
        if tls.is_some() { "https" } else { "http" },
        public_socket.local_addr()?,
        admin_socket.local_addr()?
    );

    let shared = service.clone();
    let app = move || {
        App::new()
            .app_data(shared.clone())
            .wrap(middleware::from_fn(origins::middleware))
            .configure(routes::routes)
    };
    let public = match tls {
        None => HttpServer::new(app)
            .workers(listener.workers)
            .shutdown_timeout(STOP_SECONDS)
            .disable_signals()
            .listen(public_socket)
            .context("the public listener failed")?
            .run(),
        Some(mut tls) => {
            // One connection of HTTP/2 has any number of streams; nothing here needs it.
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            Server::build()
                .workers(listener.workers)
                .shutdown_timeout(STOP_SECONDS)
                .disable_signals()
                .listen("public", public_socket, move || {
                    let config = map_config(app().into_factory(), |()| AppConfig::default());
                    HttpService::build().h1(config).rustls_0_23(tls.clone())
                })
                .context("the public listener failed")?
                .run()
        }
    };
    if let Some(renewal) = renewal {
        actix_rt::spawn(renewal.watch());
    }
    let shared = service.clone();
    let admin = HttpServer::new(move || App::new().app_data(shared.clone()).configure(management::routes))
        .workers(1)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(admin_socket)
        .context("the management listener failed")?
        .run();
    let handles = [public.handle(), admin.handle()];
    let servers = [actix_rt::spawn(public), actix_rt::spawn(admin)];

    // Before the line below: a script that has read it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // The one line that scripts wait for.
    writeln!(io::stdout(), "signalbox-turn listening {line}")?;
    tracing::info!(servers = service.issuer.servers().iter().count(), "ready");

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => service.reload(settings),
        }
    }
    service.is_stopping.store(true, Ordering::Relaxed);
    tracing::info!("stopping");
    for handle in &handles {
        handle.stop(true).await;
    }
    for server in servers {
        let _ = server.await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// What goes on beside requests. A secret is there before the first one, where one can be had.
async fn start_tasks(service: &web::Data<Service>, settings: &Settings) -> Result<()> {
    let quota = |limit: usize| Some(limit).filter(|limit| *limit > 0);
    let (user, total) = (quota(settings.limits.quota_allocations), quota(settings.limits.quota_total));
    service.shared.refresh().await;
    service.shared.set_quotas(user, total).await;
    let task = service.clone();
    actix_rt::spawn(async move { task.shared.keep().await });
    let task = service.clone();
    actix_rt::spawn(async move { task.usage.keep(&task.metrics).await });
    let probes = &settings.probes;
    if let Some(depth) = probes.probe {
        let depth = match depth {
            ProbeDepth::Allocate => Depth::Allocate,
            ProbeDepth::Relay => Depth::Relay,
        };
        Probes::new(depth, probes.probe_interval, probes.probe_timeout, probes.probe_ca.as_deref())?
            .start(&service.issuer, &service.metrics);
    }
    Ok(())
}

/// Another secret, now: what `signalbox-turn rotate` does.
///
/// # Errors
/// There is no Redis that coturn takes secrets from, or it does not answer.
pub fn rotate(settings: &Settings) -> Result<String> {
    let shared =
        Shared::new(&settings.store, settings.store.authorities()?.as_deref(), settings.turn.max_ttl)?;
    actix_rt::System::new().block_on(async move {
        let number = shared.rotate().await.context("--coturn-redis-url is not set: static secrets are rotated by hand")??;
        Ok(format!("secret {number} signs from now on; the one before it stays good for --max-ttl and --rotation-margin\n"))
    })
}

/// A list of the settings; none is all.
fn origins(list: &[String]) -> Option<Origins> {
    (!list.is_empty()).then(|| Origins::new(list))
}

/// All addresses of both families where the host is `::`; where the machine has no IPv6, those of IPv4.
fn bind(flag: &str, host: &str, port: u16) -> Result<TcpListener> {
    let listen = |host: &str| -> io::Result<TcpListener> {
        let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
        TcpListener::bind(&addresses[..])
    };
    let listener = match listen(host) {
        Err(error) if host == "::" && error.kind() != io::ErrorKind::AddrInUse => listen("0.0.0.0"),
        other => other,
    };
    listener.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{flag}: {host}:{port} is in use (stop what listens there, choose another port, or use {flag} 0 for any free one)"
        ),
        _ => anyhow!("{flag}: cannot listen on {host}:{port}: {error} (is the host an address of this machine?)"),
    })
}
