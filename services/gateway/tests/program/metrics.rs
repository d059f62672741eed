//! `/metrics`, as Prometheus reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    time::Duration,
};

use crate::harness::{
    Server,
    http::{connect, get, request, send},
    prometheus::check_metrics,
    redis::Redis,
    until,
    websocket::WebSocket,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// The samples by name and labels, as they are written; fails where the text format is broken.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut helped, mut types) = (BTreeSet::new(), BTreeMap::new());
    let mut samples = BTreeMap::new();
    assert!(text.ends_with('\n'), "the last line is not ended");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (family, help) = help.split_once(' ').expect("a text behind HELP");
            assert!(!help.is_empty() && helped.insert(family), "HELP of {family} is empty or repeated");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (family, kind) = kind.split_once(' ').expect("a kind behind TYPE");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(
                kind == "counter",
                family.ends_with("_total"),
                "a counter's name ends in _total: {line}"
            );
            assert!(types.insert(family, kind).is_none(), "{line} is repeated");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        let name = series.split('{').next().unwrap_or(series);
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert!(!name.is_empty() && name.bytes().all(is_legal), "{line:?}");
        assert!(series == name || series.ends_with('}'), "{line:?}");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|part| name.strip_suffix(part))
            .find(|family| types.get(family) == Some(&"histogram"))
            .unwrap_or(name);
        assert!(helped.contains(family) && types.contains_key(family), "{family} has no HELP or no TYPE");
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is repeated");
    }
    for family in types.keys() {
        assert!(helped.contains(family), "{family} has no HELP");
        assert!(samples.keys().any(|series| series.starts_with(family)), "{family} has no sample");
    }
    samples
}

/// One sample; 0 where there is none yet.
pub(crate) fn sample(server: &Server, series: &str) -> f64 {
    let response = get(server.management(), "/metrics");
    samples(&response.body).get(series).copied().unwrap_or(0.0)
}

#[track_caller]
fn becomes(server: &Server, series: &str, expected: f64) {
    let reached = until(DEADLINE, || (sample(server, series) == expected).then_some(()));
    assert!(reached.is_some(), "{series} is {} instead of {expected}", sample(server, series));
}

#[test]
fn metrics_are_well_formed_before_and_after_clients() {
    let server = Server::bare(&[]);
    let response = get(server.management(), "/metrics");
    assert_eq!(response.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    samples(&response.body);
    let _clients = (WebSocket::socketio(server.public()), WebSocket::peer(server.public(), "one"));
    get(server.public(), "/socket.io/?EIO=4&transport=nonsense");
    let after = samples(&get(server.management(), "/metrics").body);
    assert!(
        after.contains_key(r#"signalbox_handshakes_total{outcome="unknown_transport",protocol="socketio"}"#)
    );
}

#[test]
fn the_version_and_the_process_are_among_the_metrics() {
    let server = Server::bare(&[]);
    let version = format!("signalbox_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(sample(&server, &version), 1.0);
    assert!(sample(&server, "process_resident_memory_bytes") > 0.0);
    assert!(sample(&server, "process_open_fds") > 0.0);
}

#[test]
fn counters_move_when_a_socketio_client_connects_speaks_and_leaves() {
    let server = Server::bare(&[]);
    let connections = r#"signalbox_connections{protocol="socketio",transport="websocket"}"#;
    let accepted = r#"signalbox_handshakes_total{outcome="accepted",protocol="socketio"}"#;
    assert_eq!((sample(&server, connections), sample(&server, accepted)), (0.0, 0.0));

    let mut client = WebSocket::socketio(server.public());
    becomes(&server, connections, 1.0);
    becomes(&server, accepted, 1.0);
    let (messages, bytes) = (
        sample(&server, "signalbox_received_messages_total"),
        sample(&server, "signalbox_received_bytes_total"),
    );
    client.send(r#"421["join","room"]"#);
    assert!(client.text().starts_with("431["));
    becomes(&server, "signalbox_received_messages_total", messages + 1.0);
    assert!(sample(&server, "signalbox_received_bytes_total") > bytes);

    drop(client);
    becomes(&server, connections, 0.0);
    becomes(&server, r#"signalbox_disconnects_total{protocol="socketio",reason="transport close"}"#, 1.0);
}

#[test]
fn counters_move_when_a_peer_connects_and_leaves() {
    let server = Server::bare(&[]);
    let connections = r#"signalbox_connections{protocol="peerserver",transport="websocket"}"#;
    let mut one = WebSocket::peer(server.public(), "one");
    let mut other = WebSocket::peer(server.public(), "other");
    becomes(&server, connections, 2.0);
    becomes(&server, r#"signalbox_handshakes_total{outcome="accepted",protocol="peerserver"}"#, 2.0);
    one.send(r#"{"type":"OFFER","dst":"other","payload":1}"#);
    assert_eq!(other.text(), r#"{"type":"OFFER","src":"one","dst":"other","payload":1}"#);
    becomes(&server, r#"signalbox_peer_messages_total{type="OFFER"}"#, 1.0);
    drop(one);
    becomes(&server, connections, 1.0);
}

#[test]
fn a_polling_client_counts_as_one() {
    let server = Server::bare(&[]);
    let polling = r#"signalbox_connections{protocol="socketio",transport="polling"}"#;
    assert_eq!(get(server.public(), "/socket.io/?EIO=4&transport=polling").status, 200);
    becomes(&server, polling, 1.0);
}

#[track_caller]
fn grows(server: &Server, series: &str, from: f64) {
    let reached = until(DEADLINE, || (sample(server, series) > from).then_some(()));
    assert!(reached.is_some(), "{series} is still {}", sample(server, series));
}

#[test]
fn redis_the_lease_and_the_bus_are_measured() {
    let redis = Redis::start();
    let nodes: Vec<Server> = (0..2).map(|_| Server::bare(&["--redis-url", &redis.url()])).collect();
    for node in &nodes {
        becomes(node, "signalbox_cluster_nodes", 2.0);
        grows(node, r#"signalbox_redis_command_seconds_count{kind="heartbeat"}"#, 1.0);
        grows(node, "signalbox_lease_age_seconds", 0.0);
        grows(node, r#"signalbox_redis_connections_opened_total{purpose="subscriber"}"#, 0.0);
        grows(node, "signalbox_event_loop_lag_seconds_count", 1.0);
        grows(node, r#"signalbox_shard_busy_seconds_total{shard="0"}"#, 0.0);
    }
    let mut clients: Vec<WebSocket> = nodes.iter().map(|node| WebSocket::socketio(node.public())).collect();
    for client in &mut clients {
        client.send(r#"421["join","room"]"#);
        assert!(client.text().starts_with("431["));
    }
    clients[0].send(r#"42["message","room","hello"]"#);
    grows(&nodes[1], "signalbox_bus_lag_seconds_count", 0.0);
    grows(&nodes[1], "signalbox_delivery_lag_seconds_count", 0.0);
    grows(&nodes[1], "signalbox_fanout_seconds_count", 0.0);
    assert!(sample(&nodes[1], r#"signalbox_bus_lag_seconds_bucket{le="5"}"#) > 0.0);
    grows(&nodes[0], r#"signalbox_redis_command_seconds_count{kind="publish"}"#, 0.0);
    grows(&nodes[0], r#"signalbox_redis_command_seconds_count{kind="room"}"#, 0.0);

    drop(redis);
    becomes(&nodes[0], "signalbox_degraded", 1.0);
    grows(&nodes[0], "signalbox_degraded_seconds_total", 0.0);
    grows(&nodes[0], r#"signalbox_redis_errors_total{kind="unreachable"}"#, 0.0);
    assert_eq!(sample(&nodes[0], "signalbox_cluster_nodes"), 2.0, "those that were known");
}

#[test]
fn what_a_dead_node_left_is_counted_by_whoever_removes_it() {
    let redis = Redis::start();
    let nodes: Vec<Server> = (0..2).map(|_| Server::bare(&["--redis-url", &redis.url()])).collect();
    nodes.iter().for_each(|node| becomes(node, "signalbox_cluster_nodes", 2.0));
    let _client = WebSocket::peer(nodes[1].public(), "one");
    grows(&nodes[1], r#"signalbox_redis_command_seconds_count{kind="claim"}"#, 0.0);
    nodes[1].signal("KILL");
    grows(&nodes[0], "signalbox_reaped_records_total", 0.0);
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let server = Server::bare(&[]);
    let _clients = (WebSocket::socketio(server.public()), WebSocket::peer(server.public(), "one"));
    check_metrics(&get(server.management(), "/metrics").body);
}

#[test]
fn namespaces_rooms_and_rates_are_counted() {
    let server = Server::bare(&[
        "--metric-namespaces",
        "/,/chat",
        "--joins-per-second",
        "1",
        "--events-per-second",
        "2",
    ]);
    let mut client = WebSocket::socketio(server.public());
    for (namespace, count) in [("/", 1.0), ("/chat", 0.0), ("other", 0.0)] {
        becomes(&server, &format!("signalbox_sockets{{socketio_namespace=\"{namespace}\"}}"), count);
    }
    becomes(&server, r#"signalbox_authentications_total{outcome="anonymous"}"#, 1.0);
    client.send(r#"421["join","room"]"#);
    assert!(client.text().starts_with("431["));
    becomes(&server, "signalbox_rooms", 1.0);
    becomes(&server, "signalbox_room_members", 1.0);
    becomes(&server, "signalbox_room_joins_total", 1.0);
    becomes(&server, r#"signalbox_ack_seconds_count{of="join"}"#, 1.0);
    // More than ten seconds' worth at once.
    for number in 0..30 {
        client.send(&format!(r#"42["join","room-{number}"]"#));
    }
    grows(&server, r#"signalbox_rate_limited_total{limit="joins"}"#, 0.0);
    grows(&server, r#"signalbox_rate_limited_total{limit="events"}"#, 0.0);
    drop(client);
    becomes(&server, r#"signalbox_sockets{socketio_namespace="/"}"#, 0.0);
    becomes(&server, "signalbox_room_members", 0.0);
    assert_eq!(sample(&server, "signalbox_room_leaves_total"), sample(&server, "signalbox_room_joins_total"));
}

#[test]
fn calls_of_peers_are_counted_from_the_offer_to_the_answer() {
    let server = Server::bare(&["--expire_timeout", "1500"]);
    let (mut caller, mut called) =
        (WebSocket::peer(server.public(), "caller"), WebSocket::peer(server.public(), "called"));
    let of = |step: &str| format!("signalbox_calls_total{{step=\"{step}\"}}");
    let delivered = |outcome: &str| format!("signalbox_peer_deliveries_total{{outcome=\"{outcome}\"}}");
    caller.send(r#"{"type":"OFFER","dst":"called","payload":1}"#);
    assert!(called.text().contains("OFFER"));
    called.send(r#"{"type":"ANSWER","dst":"caller","payload":2}"#);
    assert!(caller.text().contains("ANSWER"));
    becomes(&server, &of("answered"), 1.0);
    becomes(&server, "signalbox_call_seconds_count", 1.0);
    becomes(&server, &delivered("delivered"), 2.0);
    caller.send(r#"{"type":"OFFER","dst":"nobody","payload":1}"#);
    assert!(caller.text().contains("EXPIRE"));
    becomes(&server, &of("expired"), 1.0);
    becomes(&server, &delivered("expired"), 1.0);
    caller.send(r#"{"type":"OFFER","dst":"late","payload":1}"#);
    becomes(&server, &delivered("queued"), 2.0);
    let mut late = WebSocket::peer(server.public(), "late");
    assert!(late.text().contains("OFFER"));
    becomes(&server, &delivered("delivered_late"), 1.0);
    drop(caller);
    becomes(&server, &of("abandoned"), 1.0);
    assert_eq!(sample(&server, &of("offered")), 3.0);
    let again = WebSocket::peer(server.public(), "late");
    becomes(&server, "signalbox_peer_takeovers_total", 1.0);
    drop(again);
}

#[test]
fn requests_to_the_admin_api_are_counted_by_scope() {
    let server = Server::bare(&[]);
    assert_eq!(get(server.management(), "/admin/v1/cluster").status, 200);
    assert_eq!(get(server.management(), "/admin/v1/nodes/nobody").status, 404);
    assert_eq!(get(server.management(), "/admin/v1/nothing").status, 404);
    let of = |scope: &str, outcome: &str| {
        format!("signalbox_admin_requests_total{{outcome=\"{outcome}\",scope=\"{scope}\"}}")
    };
    becomes(&server, &of("read", "done"), 1.0);
    becomes(&server, &of("read", "refused"), 1.0);
    becomes(&server, &of("none", "refused"), 1.0);
    becomes(&server, "signalbox_admin_request_seconds_count", 3.0);
}

#[test]
fn a_request_for_a_session_of_another_node_counts_on_the_link() {
    let redis = Redis::start();
    let nodes: Vec<Server> = (0..2).map(|_| Server::bare(&["--redis-url", &redis.url()])).collect();
    nodes.iter().for_each(|node| becomes(node, "signalbox_cluster_nodes", 2.0));
    let open = get(nodes[0].public(), "/socket.io/?EIO=4&transport=polling").body;
    let sid = open.split('"').nth(3).expect("a sid");
    let poll = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let post = request(nodes[1].public(), "POST", &poll, &[], "40");
    assert_eq!((post.status, post.body.as_str()), (200, "ok"));
    grows(&nodes[1], r#"signalbox_link_requests_total{outcome="answered"}"#, 0.0);
    grows(&nodes[1], "signalbox_link_request_seconds_count", 0.0);
}

#[test]
fn a_scrape_gets_the_format_that_it_asks_for_and_a_hostile_one_gets_text() {
    let server = Server::bare(&[]);
    let protobuf =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let long = format!("{}{protobuf}", "text/plain;q=0.1,".repeat(500));
    for (accept, expected) in [
        (protobuf, protobuf),
        (&*format!("{protobuf};q=0.7, text/plain;q=0.3"), protobuf),
        (&*format!("{protobuf};q=0.3, text/plain"), text),
        (&*format!("{protobuf};q=\u{e9}"), text),
        ("application/vnd.google.protobuf;proto=;encoding=delimited;;;q=", text),
        (",;=,;;;q=q=q,\t", text),
        (&long, text),
    ] {
        let mut stream = connect(server.management());
        send(&mut stream, server.management(), "GET", "/metrics", &[("Accept", accept)], "");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{accept}: {head}");
        assert!(head.contains(&format!("content-type: {expected}").to_ascii_lowercase()), "{accept}: {head}");
        assert!(head.contains("vary: accept"), "{head}");
        let begins = &answer[end + 4..][..20];
        assert_eq!(begins.starts_with(b"# HELP"), expected == text, "{accept}: {begins:?}");
    }
}
