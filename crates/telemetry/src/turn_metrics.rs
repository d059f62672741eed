//! The metrics of the TURN credentials service.

use prometheus::{
    Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, proto::MetricFamily,
};

/// The metrics of one process of the TURN credentials service.
#[derive(Debug, Clone)]
pub struct TurnMetrics {
    registry: Registry,
    /// `signalbox_turn_build_info{version}`
    pub build_info: IntGaugeVec,
    /// `signalbox_turn_issued_total{caller}`
    pub issued: IntCounterVec,
    /// `signalbox_turn_refused_total{reason}`
    pub refused: IntCounterVec,
    /// `signalbox_turn_server_up{server,transport}`
    pub server_up: IntGaugeVec,
    /// `signalbox_turn_probes_total{server,transport,outcome}`
    pub probes: IntCounterVec,
    /// `signalbox_turn_probe_seconds{server,transport}`
    pub probe_seconds: GaugeVec,
    /// `signalbox_turn_upstream_requests_total{outcome}`
    pub upstream_requests: IntCounterVec,
    /// `signalbox_turn_certificate_expiry_timestamp_seconds`
    pub certificate_expiry: Gauge,
    /// `signalbox_turn_allocations`
    pub allocations: IntGauge,
    /// `signalbox_turn_relayed_bytes_total{direction}`
    pub relayed_bytes: IntCounterVec,
    /// `signalbox_turn_top_user_bytes{user}`
    pub top_users: IntGaugeVec,
}

impl Default for TurnMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl TurnMetrics {
    /// All metrics at zero, and what the operating system knows of the process.
    ///
    /// # Panics
    /// Never: the names below are valid, and each is registered once; a test makes them all.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name");
            registry.register(Box::new(metric.clone())).expect("a name of its own");
            metric
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name");
            registry.register(Box::new(metric.clone())).expect("a name of its own");
            metric
        };
        let probe_seconds = GaugeVec::new(
            Opts::new(
                "signalbox_turn_probe_seconds",
                "Round trip of the last probe that relayed, in seconds, by server and transport.",
            ),
            &["server", "transport"],
        )
        .expect("a valid name");
        registry.register(Box::new(probe_seconds.clone())).expect("a name of its own");
        let certificate_expiry = Gauge::new(
            "signalbox_turn_certificate_expiry_timestamp_seconds",
            "When the certificate of the public listener expires, in seconds since 1970; 0 without TLS.",
        )
        .expect("a valid name");
        registry.register(Box::new(certificate_expiry.clone())).expect("a name of its own");
        let allocations = IntGauge::new(
            "signalbox_turn_allocations",
            "Allocations open at the TURN servers, as coturn said. The same in all instances: take the maximum.",
        )
        .expect("a valid name");
        registry.register(Box::new(allocations.clone())).expect("a name of its own");
        #[cfg(target_os = "linux")]
        let _ = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
        let metrics = Self {
            build_info: gauge(
                "signalbox_turn_build_info",
                "Always 1; the label says which version runs.",
                &["version"],
            ),
            issued: counter(
                "signalbox_turn_issued_total",
                "Credentials issued, by who asked: a token, an API key, or nobody in particular.",
                &["caller"],
            ),
            refused: counter(
                "signalbox_turn_refused_total",
                "Requests refused, by the code of the refusal.",
                &["reason"],
            ),
            server_up: gauge(
                "signalbox_turn_server_up",
                "Whether the last probe of a TURN server relayed, by server and transport (udp, tcp, tls, stun).",
                &["server", "transport"],
            ),
            probes: counter(
                "signalbox_turn_probes_total",
                "Probes of TURN servers, by server, transport and outcome.",
                &["server", "transport", "outcome"],
            ),
            probe_seconds,
            certificate_expiry,
            upstream_requests: counter(
                "signalbox_turn_upstream_requests_total",
                "Requests to the provider whose TURN servers are used, by outcome.",
                &["outcome"],
            ),
            allocations,
            relayed_bytes: counter(
                "signalbox_turn_relayed_bytes_total",
                "Bytes between clients and TURN servers, by direction (from_client, to_client), as coturn said. One instance at a time \
                 counts: sum over all.",
                &["direction"],
            ),
            top_users: gauge(
                "signalbox_turn_top_user_bytes",
                "Bytes relayed today (UTC) for each of the ten users with the most. The same in all instances: take the maximum.",
                &["user"],
            ),
            registry,
        };
        for caller in ["token", "key", "anonymous"] {
            metrics.issued.with_label_values(&[caller]);
        }
        for outcome in ["answered", "timeout", "unreachable", "forbidden", "too-many", "status", "unreadable"]
        {
            metrics.upstream_requests.with_label_values(&[outcome]);
        }
        for direction in ["from_client", "to_client"] {
            metrics.relayed_bytes.with_label_values(&[direction]);
        }
        metrics
    }

    /// All metrics as they are now, to be exported.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// In the text format of Prometheus.
    pub fn encode(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_are_there_from_the_start() {
        let text = TurnMetrics::new().encode();
        assert!(text.contains(r#"signalbox_turn_issued_total{caller="token"} 0"#), "{text}");
    }
}
