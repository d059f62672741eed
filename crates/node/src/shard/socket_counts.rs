//! How many sockets there are in each namespace, for the metrics: those that the configuration names, and the rest together.

use signalbox_telemetry::metrics::{IntGauge, Metrics};

use crate::config::MAX_METRIC_NAMESPACES;

/// The label of all namespaces that have no series of their own. Namespaces begin with a slash, so none is called that.
const OTHER: &str = "other";

/// The gauges, so that none is looked up by its label whenever a client comes or goes.
pub(super) struct SocketCounts {
    named: Vec<(Box<str>, IntGauge)>,
    other: IntGauge,
}

impl SocketCounts {
    pub(super) fn new(namespaces: &[String], metrics: &Metrics) -> Self {
        let gauge = |label: &str| metrics.sockets.with_label_values(&[label]);
        let named = namespaces.iter().take(MAX_METRIC_NAMESPACES);
        Self { named: named.map(|name| (name.as_str().into(), gauge(name))).collect(), other: gauge(OTHER) }
    }

    /// A socket more, or one less, in a namespace.
    pub(super) fn add(&self, namespace: &str, change: i64) {
        let named = self.named.iter().find(|(name, _)| **name == *namespace);
        named.map_or(&self.other, |(_, gauge)| gauge).add(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_that_were_named_have_series() {
        let metrics = Metrics::new();
        let many: Vec<String> = (0..2 * MAX_METRIC_NAMESPACES).map(|number| format!("/{number}")).collect();
        let counts = SocketCounts::new(&many, &metrics);
        counts.add("/0", 1);
        counts.add("/63", 1);
        counts.add("/strange", 1);
        let text = metrics.encode();
        let series = text.lines().filter(|line| line.starts_with("signalbox_sockets{"));
        assert_eq!(series.count(), MAX_METRIC_NAMESPACES + 1);
        assert!(text.contains(r#"signalbox_sockets{socketio_namespace="/0"} 1"#));
        assert!(text.contains(r#"signalbox_sockets{socketio_namespace="other"} 2"#));
    }
}
