//! Every metric, in one place.
//!
//! - [`families`]: the metrics themselves.
//! - [`page`]: the reference page `docs/metrics.md`.
//!
//! Events that occur once per message are counted by each shard in plain integers, which it adds to these metrics periodically.
//! Events that occur at most once per connection are counted here directly.

pub mod families;
pub mod page;

use std::{ops::Deref, sync::Arc};

pub use prometheus::{Gauge, IntGauge};
use prometheus::{IntCounterVec, core::Collector as _, proto::MetricFamily};

use self::families::Families;
use crate::exposition::{Exposition, Registry};

/// The metrics of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    families: Families,
}

impl Metrics {
    /// Fresh metrics, all zero, with those of the process (CPU, memory, open files) beside them.
    pub fn new() -> Self {
        let mut registry = Registry::of_process();
        let families = Families::register(&mut registry);
        Self(Arc::new(Inner { registry, families }))
    }

    /// All metrics as they are now, to be exported.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.0.registry.gather()
    }

    /// All metrics in the text format that Prometheus scrapes.
    pub fn encode(&self) -> String {
        self.0.registry.text()
    }

    /// All metrics in the format that a scrape asks for by these values of its header `Accept`: Prometheus' protobuf format, in which
    /// histograms have native buckets beside the classic ones, or text.
    pub fn expose<'a>(&self, accept: impl IntoIterator<Item = &'a str>) -> Exposition {
        self.0.registry.expose(accept)
    }
}

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0.families
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// All series of a counter together.
pub fn sum(counter: &IntCounterVec) -> u64 {
    let families = counter.collect();
    let values = families.iter().flat_map(|family| family.get_metric());
    values.map(|metric| metric.get_counter().get_value() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::{families::SECTIONS, *};
    use crate::{
        TurnMetrics,
        declaration::{Declaration, Kind, Series},
        turn_metrics,
    };

    /// All declarations, of both programs.
    fn declarations() -> impl Iterator<Item = &'static Declaration> {
        SECTIONS.iter().chain(turn_metrics::SECTIONS).flat_map(|section| section.metrics)
    }

    #[test]
    fn every_metric_is_registered_under_its_name() {
        let metrics = Metrics::new();
        metrics.connections.with_label_values(&["socketio", "websocket"]).set(3);
        metrics.received_messages.inc();
        let text = metrics.encode();
        for line in [
            r#"signalbox_connections{protocol="socketio",transport="websocket"} 3"#,
            "signalbox_received_messages_total 1",
            "signalbox_sent_messages_total 0",
            "signalbox_outbox_bytes 0",
            r#"signalbox_evictions_total{reason="slow_reader"} 0"#,
            r#"signalbox_connections{protocol="peerserver",transport="websocket"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is missing from:\n{text}");
        }
    }

    #[test]
    fn every_series_that_is_known_begins_at_zero() {
        let text = Metrics::new().encode() + &TurnMetrics::new().encode();
        for declaration in declarations() {
            let Series::Known(rows) = declaration.series else { continue };
            assert!(text.contains(&format!("# TYPE {} ", declaration.name)), "{}", declaration.name);
            let suffix = if declaration.kind == Kind::Histogram { "_count" } else { "" };
            for row in rows {
                let pairs = declaration.labels.iter().zip(*row);
                let mut pairs: Vec<String> =
                    pairs.map(|(label, value)| format!("{label}=\"{value}\"")).collect();
                pairs.sort();
                let line = format!("{}{suffix}{{{}}} 0\n", declaration.name, pairs.join(","));
                assert!(text.contains(&line), "{line} is missing");
            }
        }
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for declaration in declarations() {
            let (name, help) = (declaration.name, declaration.help);
            let is_counter = declaration.kind == Kind::Counter;
            assert!(name.starts_with("signalbox_"), "{name}");
            assert_eq!(is_counter, name.ends_with("_total"), "{name}");
            assert!(help.len() > 20 && help.ends_with('.'), "{name}: {help}");
            let base = name.trim_end_matches("_total");
            for unit in ["bytes", "seconds"] {
                assert_eq!(
                    declaration.unit == unit,
                    base.ends_with(unit),
                    "{name} is in {}",
                    declaration.unit
                );
            }
            match declaration.series {
                Series::Known(rows) => {
                    assert!(rows.iter().all(|row| row.len() == declaration.labels.len()), "{name}");
                    assert_eq!(rows.is_empty(), declaration.labels.is_empty(), "{name}");
                }
                Series::Bounded(bound) => {
                    assert!(!declaration.labels.is_empty() && bound.len() > 10, "{name}")
                }
            }
        }
    }
}
