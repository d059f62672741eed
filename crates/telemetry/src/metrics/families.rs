//! The metrics themselves.

use prometheus::{
    Counter, CounterVec, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry,
};

use super::declaration::{Declaration, Family, Section, Series, families};
use Series::{Bounded, Known};

const CONNECTIONS: Series =
    Known(&[&["socketio", "polling"], &["socketio", "websocket"], &["peerserver", "websocket"]]);

const HANDSHAKES: Series = Known(&[
    &["socketio", "accepted"],
    &["socketio", "forbidden"],
    &["socketio", "rate_limited"],
    &["socketio", "full"],
    &["socketio", "unknown_transport"],
    &["socketio", "unknown_sid"],
    &["socketio", "bad_method"],
    &["socketio", "bad_request"],
    &["socketio", "unsupported_version"],
    &["peerserver", "accepted"],
    &["peerserver", "forbidden"],
    &["peerserver", "rate_limited"],
    &["peerserver", "full"],
    &["peerserver", "refused"],
    &["peerserver", "id_taken"],
    &["peerserver", "limit_reached"],
    &["peerserver", "too_many_connections"],
]);

const DISCONNECTS: Series = Known(&[
    &["socketio", "transport close"],
    &["socketio", "transport error"],
    &["socketio", "ping timeout"],
    &["socketio", "parse error"],
    &["socketio", "forced close"],
    &["socketio", "server shutting down"],
    &["peerserver", "transport close"],
    &["peerserver", "transport error"],
    &["peerserver", "parse error"],
    &["peerserver", "alive timeout"],
    &["peerserver", "forced close"],
    &["peerserver", "superseded"],
    &["peerserver", "rate limited"],
    &["peerserver", "token expired"],
    &["peerserver", "token revoked"],
    &["peerserver", "server shutting down"],
]);

const CONNECTIONS_DROPPED: Series = Known(&[
    &["header_timeout"],
    &["header_size"],
    &["body_timeout"],
    &["answer_timeout"],
    &["message_timeout"],
    &["tls_handshake"],
    &["tls_crowded"],
    &["proxy_header"],
    &["max_connections"],
    &["rate_limited"],
    &["address_connections"],
    &["address_handshakes"],
    &["handshakes"],
    &["full"],
]);

const TOKENS_ENDED: Series = Known(&[
    &["socketio", "token expired"],
    &["socketio", "token revoked"],
    &["peerserver", "token expired"],
    &["peerserver", "token revoked"],
]);

const REFUSALS: Series = Known(&[
    &["unknown-event"],
    &["bad-room"],
    &["bad-profile"],
    &["not-a-member"],
    &["not-found"],
    &["ack-required"],
    &["too-many-rooms"],
    &["room-full"],
    &["too-many-namespaces"],
    &["too-many-connections"],
    &["message-too-large"],
    &["rate-limited"],
    &["busy"],
    &["degraded"],
    &["internal-error"],
]);

const PEER_MESSAGES: Series =
    Known(&[&["OFFER"], &["ANSWER"], &["CANDIDATE"], &["LEAVE"], &["EXPIRE"], &["HEARTBEAT"], &["ignored"]]);

const CLUSTER_EVENTS: Series = Known(&[
    &["degraded_no_answer"],
    &["degraded_lease_expired"],
    &["degraded_lease_lost"],
    &["degraded_store_replaced"],
    &["online"],
    &["rewritten"],
    &["node_seen"],
    &["node_gone"],
    &["subscriptions_lost"],
    &["subscriptions_restored"],
    &["room_subscription_lost"],
    &["broadcast_failed"],
    &["unreadable_message"],
    &["unknown_format"],
]);

/// How long something takes that is done within the machine or the data centre.
const SHORT: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// How long a client on the internet takes to answer.
const ROUND_TRIP: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

/// How many receivers a message has.
const RECEIVERS: &[f64] =
    &[0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0];

const REDIS_KINDS: Series = Known(&[
    &["heartbeat"],
    &["claim"],
    &["queue"],
    &["find"],
    &["room"],
    &["user"],
    &["publish"],
    &["direct"],
    &["cleanup"],
    &["membership"],
]);

const SHARDS: Series = Bounded("the number of a worker thread, less than 256");

families! {
    "Clients" {
        connections: IntGaugeVec = "connections", unit "clients", ["protocol", "transport"] of CONNECTIONS,
            "Clients connected now.";
        handshakes: IntCounterVec = "handshakes_total", unit "handshakes", ["protocol", "outcome"] of HANDSHAKES,
            "Handshakes: accepted, or the reason of the refusal.";
        upgrades: IntCounterVec = "upgrades_total", unit "upgrades",
            ["outcome"] of Known(&[&["completed"], &["failed"], &["not_transferable"]]),
            "Upgrades from polling to WebSocket; not_transferable: another node has the session and cannot transfer it to this one.";
        ping_seconds: Histogram = "ping_seconds", unit "seconds", buckets ROUND_TRIP,
            "From a ping of the server to the pong of a Socket.IO client, where nothing else came between.";
        disconnects: IntCounterVec = "disconnects_total", unit "clients", ["protocol", "reason"] of DISCONNECTS,
            "Clients that are gone, and why.";
        refusals: IntCounterVec = "refusals_total", unit "events", ["code"] of REFUSALS,
            "Events of Socket.IO clients that were refused; policies of an application may add codes of their own.";
        presence_changes: IntCounter = "presence_changes_total", unit "changes",
            "Changes of rooms with more members than --presence-limit: the members on a worker were told how many they are, at most once a second, and not of each.";
        connections_dropped: IntCounterVec = "connections_dropped_total", unit "connections",
            ["reason"] of CONNECTIONS_DROPPED,
            "Connections closed, or not let in, for what their clients did not do in time, or did too much.";
        tokens_ended: IntCounterVec = "tokens_ended_total", unit "clients", ["protocol", "reason"] of TOKENS_ENDED,
            "Clients disconnected, from a namespace or as a peer, because their token has expired or was revoked.";
        tokens_unchecked: IntCounter = "tokens_unchecked_total", unit "tokens",
            "Tokens found good while the node could not know whether they had been revoked, because Redis was away.";
        connections_counted_alone: IntCounter = "connections_counted_alone_total", unit "clients",
            "Clients let in under a limit of their subject while only those on this node could be counted, because Redis was away.";
        revocations: IntGauge = "revocations", unit "revocations",
            "Revocations that the node knows and keeps.";
        http_errors: IntCounter = "http_errors_total", unit "requests",
            "Requests that could not be read, for whatever reason: they are answered with 400 or not at all.";
        panics: IntCounterVec = "panics_total", unit "panics",
            ["part"] of Known(&[&["handler"], &["middleware"], &["matcher"], &["policy"]]),
            "Panics of an application's code. The client that caused one is disconnected.";
    }
    "Messages" {
        received_messages: IntCounter = "received_messages_total", unit "messages",
            "Messages received from clients.";
        received_bytes: IntCounter = "received_bytes_total", unit "bytes",
            "Bytes of messages received from clients.";
        sent_messages: IntCounter = "sent_messages_total", unit "messages",
            "Messages sent to clients; a broadcast counts once per receiver.";
        sent_bytes: IntCounter = "sent_bytes_total", unit "bytes",
            "Bytes of messages sent to clients.";
        fanout_receivers: Histogram = "fanout_receivers", unit "clients", buckets RECEIVERS,
            "Receivers of a broadcast on one worker, counted once for each worker that it reaches.";
        volatile_dropped: IntCounter = "volatile_dropped_total", unit "messages",
            "Volatile events dropped because their receiver was not ready.";
    }
    "PeerServer" {
        peer_messages: IntCounterVec = "peer_messages_total", unit "messages", ["type"] of PEER_MESSAGES,
            "PeerServer messages received; ignored: of another type, or malformed.";
        peer_dropped: IntCounterVec = "peer_dropped_total", unit "messages",
            ["reason"] of Known(&[&["overflow"], &["malformed"], &["fenced"]]),
            "PeerServer messages dropped. overflow: a queue or a mailbox is full, or the store was lost; malformed: not JSON; fenced: the sender no longer holds its id.";
    }
    "Memory and load" {
        outbox_bytes: IntGauge = "outbox_bytes", unit "bytes",
            "Bytes that wait for clients to read them, and of requests, messages and binary events that have not arrived completely; those that many clients share count for each of them.";
        held_bytes: IntGauge = "held_bytes", unit "bytes",
            "Bytes held for clients, with what each item costs beside its own; those that many clients share count once. The memory budget is for these.";
        memory_budget_bytes: IntGauge = "memory_budget_bytes", unit "bytes",
            "What the node may hold for all clients together.";
        memory_limit_bytes: IntGauge = "memory_limit_bytes", unit "bytes",
            "Memory that the process may take before it takes no new clients (at 80 %); 0: any.";
        full: IntGauge = "full", unit "state",
            "1 while the node takes no new clients, because those that are there take too much memory, or have nearly all connections that there may be.";
        evictions: IntCounterVec = "evictions_total", unit "clients",
            ["reason"] of Known(&[&["slow_reader"], &["memory_budget"]]),
            "Clients disconnected because of their buffered bytes.";
        polls_refused: IntCounter = "polls_refused_total", unit "requests",
            "Polls refused because the node held more than its memory budget; what there was to say waits for the next one.";
        event_loop_lag_seconds: Histogram = "event_loop_lag_seconds", unit "seconds", buckets SHORT,
            "How late a timer of a worker fires, looked at once a second: how long a message waits before anything is done with it.";
        shard_busy_seconds: CounterVec = "shard_busy_seconds_total", unit "seconds", ["shard"] of SHARDS,
            "Time in which a worker was not idle.";
        shard_mailbox_messages: IntGaugeVec = "shard_mailbox_messages", unit "messages", ["shard"] of SHARDS,
            "Messages that wait in the mailbox of a worker.";
        reads_paused: IntCounter = "reads_paused_total", unit "pauses",
            "Times that a client was not read on because it filled the mailbox of a shard that was behind.";
        mailbox_dropped: IntCounter = "mailbox_dropped_total", unit "messages",
            "Messages dropped because the mailbox of a shard was full.";
        mailbox_refused: IntCounter = "mailbox_refused_total", unit "requests",
            "Requests refused because the mailbox of a shard was full.";
    }
    "Cluster" {
        degraded: IntGauge = "degraded", unit "state",
            "1 while Redis cannot be reached and the node serves its clients without it.";
        degraded_seconds: Counter = "degraded_seconds_total", unit "seconds",
            "Time in which the node served its clients without Redis.";
        lease_age_seconds: Gauge = "lease_age_seconds", unit "seconds",
            "Since the last renewal of the node's lease that Redis confirmed was sent; at 5.5 the node is degraded. 0 without Redis, and before the node has joined.";
        cluster_nodes: IntGauge = "cluster_nodes", unit "nodes",
            "Nodes of the cluster that this one knows, itself included; 0 without Redis.";
        cluster_events: IntCounterVec = "cluster_events_total", unit "events", ["event"] of CLUSTER_EVENTS,
            "What happened to the node's part of the cluster. degraded_...: why it serves without Redis; online: joined; rewritten: all records are written again, where that took more than a moment; node_seen, node_gone: another node; the others: what of other nodes may have been missed.";
        bus_lag_seconds: Histogram = "bus_lag_seconds", unit "seconds", buckets SHORT,
            "From when a broadcast was sent to Redis, by another node or this one, to its arrival here: as far as the clocks of the machines agree.";
        reaped_records: IntCounter = "reaped_records_total", unit "records",
            "Records of dead nodes (ids, members of rooms, users) that this node removed.";
        bus_refused: IntCounter = "bus_refused_total", unit "messages",
            "Messages and requests of other nodes that could not be decoded, such as those of an unknown format version.";
        session_transfers: IntCounter = "session_transfers_total", unit "sessions",
            "Sessions transferred to the shard of their WebSocket, from another shard or another node.";
        link_requests: IntCounterVec = "link_requests_total", unit "requests",
            ["outcome"] of Known(&[&["answered"], &["unreachable"], &["wrong_node"], &["full"], &["refused"], &["broken"], &["unknown_node"], &["unreadable"]]),
            "Requests over the node link: answered, or why not. Those that are given up, as when their client is gone, are not counted.";
        link_seconds: Histogram = "link_request_seconds", unit "seconds", buckets SHORT,
            "From a request over the node link to its answer; a poll is answered when there is something to say, and is not counted.";
        relayed_requests: IntCounter = "relayed_requests_total", unit "requests",
            "Requests forwarded to another node, because it has the session they belong to.";
        draining: IntGauge = "draining", unit "state",
            "1 while the node drains: it is not ready, and disconnects its clients one after the other.";
    }
    "Redis" {
        redis_seconds: HistogramVec = "redis_command_seconds", unit "seconds", ["kind"] of REDIS_KINDS, buckets SHORT,
            "From when commands were sent to Redis, in one batch, to when the batch was answered or given up.";
        redis_errors: IntCounterVec = "redis_errors_total", unit "errors",
            ["kind"] of Known(&[&["unreachable"], &["no_answer"], &["refused"]]),
            "unreachable: no connection; no_answer: a batch was not answered, or the connection broke; refused: Redis answered with an error.";
        redis_connections: IntCounterVec = "redis_connections_opened_total", unit "connections",
            ["purpose"] of Known(&[&["commands"], &["subscriber"]]),
            "Connections to Redis that were opened: a few at the start, and again whenever one broke.";
    }
    "Process" {
        log_lines_left_out: IntCounter = "log_lines_left_out_total", unit "lines",
            "Log lines that were left out because one place in the code logged more than 100 a second.";
        config_info: IntGaugeVec = "config_info", unit "state", ["hash"] of Bounded("one: the configuration does not change while the program runs"),
            "Always 1; the label is a hash of the configuration without its secrets, so that nodes that should have the same one can be compared.";
        certificate_expiry: Gauge = "certificate_expiry_timestamp_seconds", unit "seconds",
            "When the certificate of the public listener expires, in seconds since 1970; 0 without TLS.";
        build_info: IntGaugeVec = "build_info", unit "state", ["version"] of Bounded("the version of the program"),
            "Always 1; the version is a label.";
    }
}
