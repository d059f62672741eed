//! Whether the TURN servers relay: each way to reach one is tried, as clients try it, every other second.
//!
//! - `session`: one try, from the connection to data that has come back. `wire`: over UDP, TCP or TLS.
//! - [`Health`]: what came of the last ones.

mod session;
mod wire;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use signalbox_telemetry::TurnMetrics;
use signalbox_turn::{RelayTransport, Servers, TurnUri};
use tokio::time::MissedTickBehavior;

pub use session::ProbeError;
use wire::Tls;

use crate::issue::Issuer;

/// How far a try goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Up to the allocation.
    Allocate,
    /// Up to data that has come back through the relay.
    Relay,
}

/// Which ways to reach a server work.
#[derive(Debug, Default)]
pub struct Health(HashMap<TurnUri, AtomicBool>);

impl Health {
    /// All are taken for working until they were tried.
    pub fn new(servers: &Servers) -> Self {
        let uris = servers.iter().flat_map(|server| &server.uris);
        Self(uris.map(|uri| (uri.clone(), AtomicBool::new(true))).collect())
    }

    /// Whether it works.
    pub fn is_up(&self, uri: &TurnUri) -> bool {
        self.0.get(uri).is_none_or(|is_up| is_up.load(Ordering::Relaxed))
    }

    fn set(&self, uri: &TurnUri, is_up: bool) -> bool {
        self.0.get(uri).is_none_or(|known| known.swap(is_up, Ordering::Relaxed))
    }
}

/// How servers are tried.
#[derive(Debug, Clone)]
pub struct Probes {
    depth: Depth,
    every: Duration,
    timeout: Duration,
    tls: Tls,
}

impl Probes {
    /// `authority`: a PEM file with the only certificate authority that counts; `None`: those of the system.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(depth: Depth, every: Duration, timeout: Duration, authority: Option<&Path>) -> Result<Self> {
        Ok(Self { depth, every, timeout, tls: Tls::new(authority).context("--probe-ca")? })
    }

    /// Starts to try all servers, each way for itself, for as long as the program runs.
    pub fn start(self, issuer: &Arc<Issuer>, metrics: &TurnMetrics) {
        for server in issuer.servers().iter() {
            for uri in &server.uris {
                let probe = Probe {
                    probes: self.clone(),
                    issuer: issuer.clone(),
                    metrics: metrics.clone(),
                    server: server.name.to_string(),
                    uri: uri.clone(),
                };
                actix_web::rt::spawn(probe.run());
            }
        }
    }
}

/// One way to reach one server.
struct Probe {
    probes: Probes,
    issuer: Arc<Issuer>,
    metrics: TurnMetrics,
    server: String,
    uri: TurnUri,
}

impl Probe {
    async fn run(self) {
        let mut ticks = tokio::time::interval(self.probes.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.try_once().await;
        }
    }

    async fn try_once(&self) {
        // Without a secret there is nothing to try it with, and nothing is known of the server.
        let Some(credential) = self.issuer.probe_credential() else { return };
        let attempt = session::run(&self.uri, &credential, self.probes.depth, &self.probes.tls);
        let outcome = match tokio::time::timeout(self.probes.timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ProbeError::Timeout),
        };
        let transport = self.uri.relay().map_or("stun", RelayTransport::name);
        let labels = [self.server.as_str(), transport];
        let code = outcome.as_ref().map_or_else(ProbeError::code, |_| "relayed");
        self.metrics.probes.with_label_values(&[labels[0], labels[1], code]).inc();
        self.metrics.server_up.with_label_values(&labels).set(i64::from(outcome.is_ok()));
        if let Ok(round_trip) = &outcome {
            self.metrics.probe_seconds.with_label_values(&labels).set(round_trip.as_secs_f64());
        }
        let was_up = self.issuer.health().set(&self.uri, outcome.is_ok());
        match (outcome, was_up) {
            (Err(error), true) => {
                tracing::warn!(uri = %self.uri, %error, "the TURN server does not relay; answers leave it out")
            }
            (Ok(_), false) => tracing::info!(uri = %self.uri, "the TURN server relays again"),
            _ => {}
        }
    }
}
