//! The metrics of the TURN credentials service.

use std::{ops::Deref, sync::Arc};

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, proto::MetricFamily};

use crate::{
    declaration::{Declaration, Family, Section, Series, families},
    exposition::{Exposition, Registry},
};
use Series::{Bounded, Known};

/// The codes of refusals.
const REFUSED: Series = Known(&[
    &["token-missing"],
    &["token-too-large"],
    &["token-malformed"],
    &["algorithm-none"],
    &["algorithm-unsupported"],
    &["algorithm-mismatch"],
    &["critical-header"],
    &["key-unknown"],
    &["keys-unavailable"],
    &["signature-invalid"],
    &["claim-malformed"],
    &["expiry-missing"],
    &["token-expired"],
    &["not-yet-valid"],
    &["lifetime-too-long"],
    &["issuer-missing"],
    &["issuer-mismatch"],
    &["audience-mismatch"],
    &["subject-missing"],
    &["grants-malformed"],
    &["token-revoked"],
    &["turn-forbidden"],
    &["origin-forbidden"],
    &["bad-parameter"],
    &["unsupported-body"],
    &["subject-limit"],
    &["address-limit"],
    &["key-limit"],
    &["bytes-quota"],
    &["allocations-quota"],
    &["no-secret"],
    &["no-server"],
    &["store-unavailable"],
    &["upstream-unavailable"],
]);

const UPSTREAM: Series = Known(&[
    &["answered"],
    &["timeout"],
    &["unreachable"],
    &["forbidden"],
    &["too-many"],
    &["status"],
    &["unreadable"],
]);

const SERVERS: Series =
    Bounded("the servers that are configured, each by udp, tcp, tls and stun, as far as it has them");

families! {
    "TURN credentials" {
        build_info: IntGaugeVec = "turn_build_info", unit "state", ["version"] of Bounded("the version of the program"),
            "Always 1; the version is a label.";
        issued: IntCounterVec = "turn_issued_total", unit "credentials",
            ["caller"] of Known(&[&["token"], &["key"], &["anonymous"]]),
            "Credentials issued, by who asked: the holder of a token, a server with an API key, or nobody in particular.";
        refused: IntCounterVec = "turn_refused_total", unit "requests", ["reason"] of REFUSED,
            "Requests for credentials that were refused, by the code of the refusal.";
        certificate_expiry: Gauge = "turn_certificate_expiry_timestamp_seconds", unit "seconds",
            "When the certificate of the public listener expires, in seconds since 1970; 0 without TLS.";
        upstream_requests: IntCounterVec = "turn_upstream_requests_total", unit "requests", ["outcome"] of UPSTREAM,
            "Requests to the provider whose TURN servers are used, by outcome.";
    }
    "TURN servers" {
        server_up: IntGaugeVec = "turn_server_up", unit "state", ["server", "transport"] of SERVERS,
            "Whether the last try of a TURN server relayed.";
        probes: IntCounterVec = "turn_probes_total", unit "tries",
            ["server", "transport", "outcome"] of Bounded("the same servers; the outcome is one of relayed, timeout, unreachable, no-binding, allocation-refused, permission-refused and closed"),
            "Tries of TURN servers.";
        probe_seconds: GaugeVec = "turn_probe_seconds", unit "seconds", ["server", "transport"] of SERVERS,
            "Round trip of the last try that relayed.";
        allocations: IntGauge = "turn_allocations", unit "allocations",
            "Allocations open at the TURN servers, as coturn said. The same in all instances: take the maximum.";
        relayed_bytes: IntCounterVec = "turn_relayed_bytes_total", unit "bytes",
            ["direction"] of Known(&[&["from_client"], &["to_client"]]),
            "Bytes between clients and TURN servers, as coturn said. One instance at a time counts: sum over all.";
        top_users: IntGaugeVec = "turn_top_user_bytes", unit "bytes", ["user"] of Bounded("ten at a time"),
            "Bytes relayed today (UTC) for each of the ten users with the most. The same in all instances: take the maximum.";
    }
}

/// The metrics of one process of the TURN credentials service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TurnMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    families: Families,
}

impl TurnMetrics {
    /// All metrics at zero, and what the operating system knows of the process.
    pub fn new() -> Self {
        let mut registry = Registry::of_process();
        let families = Families::register(&mut registry);
        Self(Arc::new(Inner { registry, families }))
    }

    /// All metrics as they are now, to be exported.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.0.registry.gather()
    }

    /// In the text format of Prometheus.
    pub fn encode(&self) -> String {
        self.0.registry.text()
    }

    /// In the format that a scrape asks for by these values of its header `Accept`.
    pub fn expose<'a>(&self, accept: impl IntoIterator<Item = &'a str>) -> Exposition {
        self.0.registry.expose(accept)
    }
}

impl Deref for TurnMetrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0.families
    }
}

impl Default for TurnMetrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_are_there_from_the_start() {
        let text = TurnMetrics::new().encode();
        for line in [
            r#"signalbox_turn_issued_total{caller="token"} 0"#,
            r#"signalbox_turn_refused_total{reason="no-server"} 0"#,
            "signalbox_turn_allocations 0",
        ] {
            assert!(text.contains(line), "{line} is missing from:\n{text}");
        }
    }
}
