//! Every metric, in one place.
//!
//! Events that occur once per message are counted by each shard in plain integers, which it adds to these metrics periodically.
//! Events that occur at most once per connection are counted here directly.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// The metrics of one process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// `signalbox_connections{protocol,transport}`
    pub connections: IntGaugeVec,
    /// `signalbox_handshakes_total{protocol,outcome}`
    pub handshakes: IntCounterVec,
    /// `signalbox_disconnects_total{protocol,reason}`
    pub disconnects: IntCounterVec,
    /// `signalbox_received_messages_total`
    pub received_messages: IntCounter,
    /// `signalbox_received_bytes_total`
    pub received_bytes: IntCounter,
    /// `signalbox_sent_messages_total`
    pub sent_messages: IntCounter,
    /// `signalbox_sent_bytes_total`
    pub sent_bytes: IntCounter,
    /// `signalbox_outbox_bytes`
    pub outbox_bytes: IntGauge,
    /// `signalbox_held_bytes`
    pub held_bytes: IntGauge,
    /// `signalbox_evictions_total{reason}`
    pub evictions: IntCounterVec,
    /// `signalbox_mailbox_dropped_total`
    pub mailbox_dropped: IntCounter,
    /// `signalbox_mailbox_refused_total`
    pub mailbox_refused: IntCounter,
    /// `signalbox_connections_dropped_total{reason}`
    pub connections_dropped: IntCounterVec,
    /// `signalbox_reads_paused_total`
    pub reads_paused: IntCounter,
    /// `signalbox_polls_refused_total`
    pub polls_refused: IntCounter,
    /// `signalbox_upgrades_total{outcome}`
    pub upgrades: IntCounterVec,
    /// `signalbox_session_transfers_total`
    pub session_transfers: IntCounter,
    /// `signalbox_relayed_requests_total`
    pub relayed_requests: IntCounter,
    /// `signalbox_refusals_total{code}`
    pub refusals: IntCounterVec,
    /// `signalbox_http_errors_total`
    pub http_errors: IntCounter,
    /// `signalbox_panics_total{part}`
    pub panics: IntCounterVec,
    /// `signalbox_volatile_dropped_total`
    pub volatile_dropped: IntCounter,
    /// `signalbox_peer_messages_total{type}`
    pub peer_messages: IntCounterVec,
    /// `signalbox_peer_dropped_total{reason}`
    pub peer_dropped: IntCounterVec,
    /// `signalbox_bus_refused_total`
    pub bus_refused: IntCounter,
    /// `signalbox_cluster_events_total{event}`
    pub cluster_events: IntCounterVec,
    /// `signalbox_degraded`
    pub degraded: IntGauge,
    /// `signalbox_cluster_nodes`
    pub cluster_nodes: IntGauge,
    /// `signalbox_draining`
    pub draining: IntGauge,
    /// `signalbox_build_info{version}`
    pub build_info: IntGaugeVec,
}

macro_rules! declare {
    ($registry:ident, $kind:ident, $name:literal, $help:literal $(, [$($label:literal),+])?) => {{
        let metric = declare!(@make $kind, $name, $help $(, [$($label),+])?);
        // Names are distinct and well formed; the test below would not pass otherwise.
        let _ = $registry.register(Box::new(metric.clone()));
        metric
    }};
    (@make $kind:ident, $name:literal, $help:literal) => {
        $kind::with_opts(Opts::new(concat!("signalbox_", $name), $help)).expect("a valid metric")
    };
    (@make $kind:ident, $name:literal, $help:literal, [$($label:literal),+]) => {
        $kind::new(Opts::new(concat!("signalbox_", $name), $help), &[$($label),+]).expect("a valid metric")
    };
}

impl Metrics {
    /// Fresh metrics, all zero, with those of the process (CPU, memory, open files) beside them.
    pub fn new() -> Self {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        let _ = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
        let metrics = Self {
            connections: declare!(
                registry,
                IntGaugeVec,
                "connections",
                "Clients connected now, by protocol (socketio, peerserver) and transport (polling, websocket).",
                ["protocol", "transport"]
            ),
            handshakes: declare!(
                registry,
                IntCounterVec,
                "handshakes_total",
                "Handshakes, by protocol and outcome (accepted, or the reason of the refusal).",
                ["protocol", "outcome"]
            ),
            disconnects: declare!(
                registry,
                IntCounterVec,
                "disconnects_total",
                "Ended connections, by protocol and reason.",
                ["protocol", "reason"]
            ),
            received_messages: declare!(
                registry,
                IntCounter,
                "received_messages_total",
                "Messages received from clients."
            ),
            received_bytes: declare!(
                registry,
                IntCounter,
                "received_bytes_total",
                "Bytes of messages received from clients."
            ),
            sent_messages: declare!(
                registry,
                IntCounter,
                "sent_messages_total",
                "Messages sent to clients; a broadcast counts once per receiver."
            ),
            sent_bytes: declare!(
                registry,
                IntCounter,
                "sent_bytes_total",
                "Bytes of messages sent to clients."
            ),
            outbox_bytes: declare!(
                registry,
                IntGauge,
                "outbox_bytes",
                "Bytes that wait for clients to read them, and of requests, messages and binary events that have not arrived completely; those that many clients share count for each of them."
            ),
            held_bytes: declare!(
                registry,
                IntGauge,
                "held_bytes",
                "Bytes held for clients, with what each item costs beside its own; those that many clients share count once. The memory budget is for these."
            ),
            evictions: declare!(
                registry,
                IntCounterVec,
                "evictions_total",
                "Clients disconnected because of their buffered bytes, by reason (slow_reader, memory_budget).",
                ["reason"]
            ),
            mailbox_dropped: declare!(
                registry,
                IntCounter,
                "mailbox_dropped_total",
                "Messages dropped because the mailbox of a shard was full."
            ),
            mailbox_refused: declare!(
                registry,
                IntCounter,
                "mailbox_refused_total",
                "Requests refused because the mailbox of a shard was full."
            ),
            connections_dropped: declare!(
                registry,
                IntCounterVec,
                "connections_dropped_total",
                "Connections closed for what their clients did not do in time, or did too much, by reason (header_timeout, header_size, body_timeout, answer_timeout, message_timeout, tls_handshake, tls_crowded, max_connections).",
                ["reason"]
            ),
            reads_paused: declare!(
                registry,
                IntCounter,
                "reads_paused_total",
                "Times that a client was not read on because it filled the mailbox of a shard that was behind."
            ),
            polls_refused: declare!(
                registry,
                IntCounter,
                "polls_refused_total",
                "Polls refused because the node held more than its memory budget; what there was to say waits for the next one."
            ),
            upgrades: declare!(
                registry,
                IntCounterVec,
                "upgrades_total",
                "Upgrades from polling to WebSocket, by outcome (completed, failed, or not_transferable: another node has the session and cannot transfer it to this one).",
                ["outcome"]
            ),
            session_transfers: declare!(
                registry,
                IntCounter,
                "session_transfers_total",
                "Sessions transferred to the shard of their WebSocket, from another shard or another node."
            ),
            relayed_requests: declare!(
                registry,
                IntCounter,
                "relayed_requests_total",
                "Requests forwarded to another node, because it has the session they belong to."
            ),
            refusals: declare!(
                registry,
                IntCounterVec,
                "refusals_total",
                "Events of Socket.IO clients that were refused, by error code.",
                ["code"]
            ),
            http_errors: declare!(
                registry,
                IntCounter,
                "http_errors_total",
                "Requests that could not be read, for whatever reason: they are answered with 400 or not at all."
            ),
            panics: declare!(
                registry,
                IntCounterVec,
                "panics_total",
                "Panics of an application's code, by part: handler, middleware, matcher, policy. The client that caused one is disconnected.",
                ["part"]
            ),
            volatile_dropped: declare!(
                registry,
                IntCounter,
                "volatile_dropped_total",
                "Volatile events dropped because their receiver was not ready."
            ),
            peer_messages: declare!(
                registry,
                IntCounterVec,
                "peer_messages_total",
                "PeerServer messages received, by type.",
                ["type"]
            ),
            peer_dropped: declare!(
                registry,
                IntCounterVec,
                "peer_dropped_total",
                "PeerServer messages dropped, by reason (overflow: a queue or a mailbox is full, or the store was lost; malformed: not JSON; fenced: the sender no longer holds its id).",
                ["reason"]
            ),
            bus_refused: declare!(
                registry,
                IntCounter,
                "bus_refused_total",
                "Messages and requests of other nodes that could not be decoded, such as those of an unknown format version."
            ),
            cluster_events: declare!(
                registry,
                IntCounterVec,
                "cluster_events_total",
                "What happened to the node's part of the cluster, by event (degraded_no_answer, degraded_lease_expired, degraded_lease_lost, degraded_store_replaced: why it serves without Redis; online: joined; subscriptions_lost, subscriptions_restored, room_subscription_lost; broadcast_failed; unreadable_message, unknown_format).",
                ["event"]
            ),
            degraded: declare!(
                registry,
                IntGauge,
                "degraded",
                "1 while Redis cannot be reached and the node serves its clients without it."
            ),
            cluster_nodes: declare!(
                registry,
                IntGauge,
                "cluster_nodes",
                "Nodes of the cluster that this one knows, itself included; 0 without Redis."
            ),
            draining: declare!(
                registry,
                IntGauge,
                "draining",
                "1 while the node drains: it is not ready, and disconnects its clients one after the other."
            ),
            build_info: declare!(
                registry,
                IntGaugeVec,
                "build_info",
                "Always 1; the version is a label.",
                ["version"]
            ),
            registry,
        };
        metrics.create_known_series();
        metrics
    }

    /// Creates the series whose labels are known, at 0: an alert cannot see the increase of a series that appears with its first event.
    fn create_known_series(&self) {
        for (protocol, transport) in
            [("socketio", "polling"), ("socketio", "websocket"), ("peerserver", "websocket")]
        {
            self.connections.with_label_values(&[protocol, transport]);
        }
        let of_one_label: [(_, &[&str]); 4] = [
            (
                &self.connections_dropped,
                &[
                    "header_timeout",
                    "header_size",
                    "body_timeout",
                    "answer_timeout",
                    "message_timeout",
                    "tls_handshake",
                    "tls_crowded",
                    "max_connections",
                ],
            ),
            (&self.evictions, &["slow_reader", "memory_budget"]),
            (&self.upgrades, &["completed", "failed", "not_transferable"]),
            (&self.peer_dropped, &["overflow", "malformed", "fenced"]),
        ];
        for (metric, values) in of_one_label {
            for value in values {
                metric.with_label_values(&[value]);
            }
        }
    }

    /// All metrics in the text format that Prometheus scrapes.
    pub fn encode(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
