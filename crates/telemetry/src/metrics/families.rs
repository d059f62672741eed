//! The metrics themselves.

use prometheus::{Counter, CounterVec, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::{
    declaration::{Declaration, Family, Section, Series, families},
    exposition::Registry,
    histogram::{Histogram, HistogramVec},
};
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
    &["bad_tokens"],
    &["address_connections"],
    &["address_handshakes"],
    &["handshakes"],
    &["full"],
    &["no_room"],
]);

const HOOK_REQUESTS: Series = Known(&[
    &["answered"],
    &["unreachable"],
    &["timed_out"],
    &["refused"],
    &["too_large"],
    &["bad_answer"],
    &["left_alone"],
    &["busy"],
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

/// What a verdict on who a client is may be.
pub const AUTHENTICATIONS: Series = Known(&[
    &["accepted"],
    &["anonymous"],
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
    &["revocations-unknown"],
    &["subject-changed"],
    &["namespace-forbidden"],
    &["id-forbidden"],
    &["discover-forbidden"],
    &["limit-exceeded"],
    &["other"],
]);

const TRANSFERS_FAILED: Series = Known(&[
    &["refused"],
    &["timed_out"],
    &["not_current"],
    &["client_gone"],
    &["closed"],
    &["unconfirmed"],
    &["source_lost"],
]);

const ADMIN_REQUESTS: Series = Known(&[
    &["read", "done"],
    &["read", "refused"],
    &["read", "failed"],
    &["emit", "done"],
    &["emit", "refused"],
    &["emit", "failed"],
    &["control", "done"],
    &["control", "refused"],
    &["control", "failed"],
    &["none", "refused"],
]);

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
    &["room_gap"],
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
        sockets: IntGaugeVec = "sockets", unit "sockets",
            ["socketio_namespace"] of Bounded("those that `--metric-namespaces` names, at most 32; `other` is all others together"),
            "Sockets now: Socket.IO clients in a namespace. A client in two of them counts in both.";
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
        rate_limited: IntCounterVec = "rate_limited_total", unit "packets",
            ["limit"] of Known(&[&["events"], &["bytes"], &["joins"]]),
            "Packets and joins of clients above what they may send in a second, by the limit that they were above.";
        authentications: IntCounterVec = "authentications_total", unit "verdicts", ["outcome"] of AUTHENTICATIONS,
            "Verdicts on who a client is, when it joins a namespace, claims a peer id, lists peers or shows a new token: accepted with a token, anonymous without one, or the code of the refusal; other: a code of an application's own.";
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
            ["part"] of Known(&[&["handler"], &["middleware"], &["matcher"], &["policy"], &["hooks"]]),
            "Panics of an application's code. The client that caused one is disconnected.";
    }
    "Rules and hooks" {
        rules_version: IntGauge = "rules_version", unit "version",
            "The version of the rules in force here that were put by the admin API; 0: none ever were. It is the same on all nodes, unless they are wrong on some.";
        hook_requests: IntCounterVec = "hook_requests_total", unit "requests", ["outcome"] of HOOK_REQUESTS,
            "Requests to servers of the application's own. left_alone: it was not asked, since it has failed five times in a row; busy: too many were waiting; bad_answer: what it answered cannot be used.";
        hook_seconds: Histogram = "hook_request_seconds", unit "seconds", buckets ROUND_TRIP,
            "From a question to its answer, or its failure, the wait for its turn included.";
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
        fanout_seconds: Histogram = "fanout_seconds", unit "seconds", buckets SHORT,
            "From when a worker takes a broadcast to when it has written to all its receivers' sockets, as far as these took it; broadcasts that are written together count once, from the first of them.";
        delivery_lag_seconds: Histogram = "delivery_lag_seconds", unit "seconds", buckets SHORT,
            "From when another node published a broadcast to when a worker of this one gives it to its receivers: as far as the clocks of the machines agree.";
        ack_seconds: HistogramVec = "ack_seconds", unit "seconds",
            ["of"] of Known(&[&["join"], &["signal"], &["client"]]), buckets SHORT,
            "From an event to its answer, where that takes more than this worker: a join, which the cluster answers; a signal, which its receiver's node answers; client: an event of the application, which a client answers.";
        acks_lost: IntCounterVec = "acks_lost_total", unit "acks", ["reason"] of Known(&[&["timed_out"], &["disconnected"], &["undelivered"]]),
            "Events of the application that a client was to answer and did not: in time, or before it was gone; undelivered: it did, and its answer could not be brought to the node that it had moved from.";
        volatile_dropped: IntCounter = "volatile_dropped_total", unit "messages",
            "Volatile events dropped because their receiver was not ready.";
    }
    "PeerServer" {
        peer_messages: IntCounterVec = "peer_messages_total", unit "messages", ["type"] of PEER_MESSAGES,
            "PeerServer messages received; ignored: of another type, or malformed.";
        peer_deliveries: IntCounterVec = "peer_deliveries_total", unit "messages",
            ["outcome"] of Known(&[&["delivered"], &["queued"], &["delivered_late"], &["expired"]]),
            "What became of PeerServer messages: delivered at once; queued, because the addressee was absent; delivered late, when it came; expired: a sender was told that its addressee did not come.";
        calls: IntCounterVec = "calls_total", unit "calls",
            ["step"] of Known(&[&["offered"], &["answered"], &["expired"], &["abandoned"]]),
            "Calls of PeerServer clients, by how far they came: an OFFER was sent; the first ANSWER to it came back; its sender was told that nobody is there; its sender went, or offered again, before any of these.";
        call_seconds: Histogram = "call_seconds", unit "seconds", buckets ROUND_TRIP,
            "From a PeerServer client's OFFER to the ANSWER, as the caller's node sees them.";
        peer_takeovers: IntCounter = "peer_takeovers_total", unit "takeovers",
            "Peer ids that another connection with the same token took over from one of this node.";
        peer_dropped: IntCounterVec = "peer_dropped_total", unit "messages",
            ["reason"] of Known(&[&["overflow"], &["malformed"], &["fenced"]]),
            "PeerServer messages dropped. overflow: a queue or a mailbox is full, or the store was lost; malformed: not JSON; fenced: the sender no longer holds its id.";
    }
    "Memory and load" {
        outbox_bytes: IntGauge = "outbox_bytes", unit "bytes",
            "Bytes that wait for clients to read them, and of requests, messages and binary events that have not arrived completely; those that many clients share count for each of them.";
        held_bytes: IntGauge = "held_bytes", unit "bytes",
            "Bytes held for clients, with what each item costs beside its own; those that many clients share count once, and a body counts whole from when there is room for it. The memory budget is for these.";
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
            "Polls refused because the node held far more than its memory budget; what there was to say waits for the next one.";
        event_loop_lag_seconds: Histogram = "event_loop_lag_seconds", unit "seconds", buckets SHORT,
            "How late a timer of a worker fires, looked at once a second: how long a message waits before anything is done with it.";
        shard_busy_seconds: CounterVec = "shard_busy_seconds_total", unit "seconds", ["shard"] of SHARDS,
            "Time in which a worker was not idle.";
        shard_mailbox_messages: IntGaugeVec = "shard_mailbox_messages", unit "messages", ["shard"] of SHARDS,
            "Messages that wait in the mailbox of a worker.";
        reads_paused: IntCounter = "reads_paused_total", unit "pauses",
            "Times that a client was not read on because it filled the mailbox of a shard that was behind, because broadcasts waited to be published to other nodes, or because there was no room yet for a large body.";
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
            "From when a broadcast was to be sent to Redis, by another node or this one, to its arrival here, its wait for Redis included: as far as the clocks of the machines agree.";
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
        session_transfers_failed: IntCounterVec = "session_transfers_failed_total", unit "sessions", ["reason"] of TRANSFERS_FAILED,
            "Sessions that did not come to the shard of their WebSocket. refused: it is gone, or its node stops or has lost Redis; timed_out; not_current: changes of a room were missed; client_gone, closed: by the client, by the server; unconfirmed: the other node was lost, or refused, after the session was sent; source_lost: the session did not come.";
        rooms: IntGauge = "rooms", unit "rooms",
            "Rooms with members on this node now, or a moment ago.";
        room_members: IntGauge = "room_members", unit "members",
            "Members of rooms that are connected to this node now; a client in two rooms counts twice.";
        room_joins: IntCounter = "room_joins_total", unit "joins",
            "Times that a client of this node joined a room.";
        room_leaves: IntCounter = "room_leaves_total", unit "leaves",
            "Times that a client of this node left a room, or went while it was in one.";
        drain_clients: IntGauge = "drain_clients", unit "clients",
            "Clients that the node has yet to disconnect, while it drains; 0 while it does not.";
        draining: IntGauge = "draining", unit "state",
            "1 while the node drains: it is not ready, and disconnects its clients one after the other.";
        rebalanced: IntCounter = "rebalanced_total", unit "clients",
            "Socket.IO clients that the node has sent away, so that nodes with fewer have them. They are among the disconnects, too (server shutting down).";
        rebalance_left: IntGauge = "rebalance_left", unit "clients",
            "While the node runs a rebalance: clients that are above the mean on all nodes together, and have yet to be sent away.";
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
    "Admin API" {
        admin_requests: IntCounterVec = "admin_requests_total", unit "requests", ["scope", "outcome"] of ADMIN_REQUESTS,
            "Requests to the admin API by the scope that they need: done; refused, through a fault of the caller's (4xx); failed (5xx). Without a scope: the caller is not known, or what it asks for is not there.";
        admin_seconds: Histogram = "admin_request_seconds", unit "seconds", buckets SHORT,
            "How long requests to the admin API took.";
        event_listeners: IntGauge = "event_listeners", unit "listeners",
            "Who listens to what happens in the cluster, at this node.";
        events_dropped: IntCounterVec = "events_dropped_total", unit "events",
            ["reason"] of Known(&[&["queue"], &["behind"], &["slow_listener"]]),
            "Events that those who listen were not told, but for a marker. queue: more happened here than could be recorded; behind: another node has told of its events too late; slow_listener: one that did not read in time.";
    }
    "Webhooks" {
        webhook_requests: IntCounterVec = "webhook_requests_total", unit "requests",
            ["outcome"] of Known(&[&["delivered"], &["unreachable"], &["timed_out"], &["refused"]]),
            "Requests to the application's server. delivered: it has taken them; refused: it answered with something else than success.";
        webhook_seconds: Histogram = "webhook_request_seconds", unit "seconds", buckets ROUND_TRIP,
            "From a request to its answer, or its failure.";
        webhook_delivered: IntCounter = "webhook_events_delivered_total", unit "events",
            "Events that the application's server has taken from this node, which sends those of other nodes too.";
        webhook_dropped: IntCounter = "webhook_events_dropped_total", unit "events",
            "Events of this node that will not be sent, because too many waited.";
        webhook_waiting: IntGauge = "webhook_events_waiting", unit "events",
            "Events that wait to be sent: of all nodes, where they share Redis.";
        webhook_oldest_seconds: Gauge = "webhook_oldest_seconds", unit "seconds",
            "How long the oldest of them has waited.";
        webhook_breaker_open: IntGauge = "webhook_breaker_open", unit "state",
            "1 while the application's server has failed five times in a row, and is asked once in a while only.";
    }
    "Process" {
        followed_clients: IntGauge = "followed_clients", unit "selectors",
            "Subjects, addresses and ids whose clients' stories are logged now (`--log-client`, `PUT log`).";
        log_lines_left_out: IntCounter = "log_lines_left_out_total", unit "lines",
            "Log lines that were left out because one place in the code logged more than 100 a second.";
        config_info: IntGaugeVec = "config_info", unit "state", ["hash"] of Bounded("one: the configuration does not change while the program runs"),
            "Always 1; the label is a hash of the configuration without its secrets, so that nodes that should have the same one can be compared.";
        key_set_fetched: Gauge = "key_set_fetched_timestamp_seconds", unit "seconds",
            "When the key set of --jwks was last fetched, in seconds since 1970; until it was, when the node began to. 0 where there is none to be fetched.";
        certificate_expiry: Gauge = "certificate_expiry_timestamp_seconds", unit "seconds",
            "When the certificate of the public listener expires, in seconds since 1970; 0 without TLS.";
        build_info: IntGaugeVec = "build_info", unit "state", ["version"] of Bounded("the version of the program"),
            "Always 1; the version is a label.";
    }
}
