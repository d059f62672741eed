//! Metrics by OTLP, where the `OTEL_*` variables ask for it: the same ones that are scraped, sent once a minute.
//!
//! - `convert`: from what is scraped to OTLP.
//! - `send`: over gRPC or HTTP.
//!
//! A thread of its own takes them, sends them, and waits. Nothing queues up for a receiver that is away: the next attempt sends what there
//! is by then, and since all values are sums from the start, nothing is lost by it.

mod convert;
mod send;

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use prometheus::proto::MetricFamily;

use crate::otlp::{Signal, is_disabled, resource, variable};
use send::Sender;

/// How often they are sent, where `OTEL_METRIC_EXPORT_INTERVAL` does not say so.
const INTERVAL: Duration = Duration::from_secs(60);

/// Why metrics cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum MetricExportError {
    /// A variable.
    #[error("{0}")]
    Variable(String),
    /// The exporter.
    #[error("metrics cannot be exported: {0} (see the OTEL_EXPORTER_OTLP_ variables)")]
    Exporter(String),
}

/// Who exports.
#[derive(Debug, Clone)]
pub struct Exporting {
    /// The program's name, unless a variable says another.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Tells this process from others of the same program; `None`: by chance.
    pub instance: Option<String>,
}

/// Whether the environment asks for metrics: `OTEL_METRICS_EXPORTER` names `otlp`, or they have an endpoint of their own. An endpoint for
/// all signals alone does not, since many receivers take traces only.
fn are_wanted() -> bool {
    let exporters = Signal::Metrics.exporters();
    let names_otlp = exporters.as_deref().map(|list| list.split(',').any(|name| name.trim() == "otlp"));
    !is_disabled() && names_otlp.unwrap_or_else(|| Signal::Metrics.own("ENDPOINT").is_some())
}

/// Begins to export what `gather` gives, where it is asked for. Returns whether it is.
///
/// # Errors
/// A variable that cannot be used.
pub fn export_metrics(
    exporting: &Exporting,
    gather: impl Fn() -> Vec<MetricFamily> + Send + 'static,
) -> Result<bool, MetricExportError> {
    if !are_wanted() {
        return Ok(false);
    }
    let interval = match variable("OTEL_METRIC_EXPORT_INTERVAL").map(|text| text.parse::<u64>()) {
        None => INTERVAL,
        Some(Ok(millis @ 1..)) => Duration::from_millis(millis),
        Some(_) => {
            let problem = "OTEL_METRIC_EXPORT_INTERVAL is not a number of milliseconds";
            return Err(MetricExportError::Variable(problem.to_owned()));
        }
    };
    let by_chance = || format!("{:032x}", rand::random::<u128>());
    let instance = exporting.instance.clone().unwrap_or_else(by_chance);
    let resource = convert::resource(&resource(exporting.service, exporting.version), &instance);
    let sender = Sender::new()?;
    let began = SystemTime::now();
    let version = exporting.version;
    let work = move || {
        let mut is_failing = false;
        loop {
            let due = Instant::now() + interval;
            let request = convert::request(&gather(), &resource, version, began);
            match sender.send(request) {
                Ok(()) if is_failing => tracing::info!("metrics are exported again"),
                Ok(()) => {}
                // What the receiver says may be anything: the kind of failure has to do.
                Err(problem) if !is_failing => tracing::warn!(problem, "metrics cannot be exported"),
                Err(_) => {}
            }
            is_failing = sender.has_failed();
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
    };
    let spawned = thread::Builder::new().name("otlp-metrics".to_owned()).spawn(work);
    spawned.map(|_| true).map_err(|error| MetricExportError::Exporter(error.to_string()))
}
