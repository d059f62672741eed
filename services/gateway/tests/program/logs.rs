//! What the log says, and what never stands in it.

use std::time::Duration;

use serde_json::Value;

use super::metrics::sample;
use crate::harness::{
    Server,
    http::{get, request},
    planted::say_everywhere,
    redis::Redis,
    until,
    websocket::WebSocket,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Ends a server, and gives its log.
fn log_of(mut server: Server) -> Vec<String> {
    server.signal("TERM");
    assert_eq!(server.wait(DEADLINE), Some(0));
    server.log()
}

#[test]
fn nothing_that_a_client_says_begins_a_line_or_shows_a_secret() {
    let planted = "swordfish\nFORGED line\r\u{2028}FORGED";
    for format in ["text", "json"] {
        let redis = Redis::start();
        let secret = "swordfish-of-the-cluster";
        // Everybody is followed, by the address.
        let flags = [
            "--log",
            "trace",
            "--log-format",
            format,
            "--log-client",
            "127.0.0.1",
            "--redis-url",
            &redis.url(),
        ];
        let server = Server::bare(
            &[&flags[..], &["--cluster-secret", secret, "--drain-delay", "0", "--drain-timeout", "1500"]]
                .concat(),
        );
        until(DEADLINE, || (get(server.management(), "/readyz").status == 200).then_some(()))
            .expect("it joins");
        say_everywhere(&server, planted);
        let metrics = get(server.management(), "/metrics").body;
        assert!(!metrics.contains("swordfish") && !metrics.contains("FORGED"), "{metrics}");
        let log = log_of(server);
        assert!(log.len() > 10, "{log:#?}");
        assert!(log.iter().any(|line| line.contains("EVENT ack=2")), "{log:#?}");
        for line in log.iter().filter(|line| !line.contains(" listening public=")) {
            let time = match format {
                "json" => {
                    let event: Value =
                        serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
                    event["timestamp"].as_str().unwrap_or_default().to_owned()
                }
                _ => line.split(' ').next().unwrap_or_default().to_owned(),
            };
            assert!(time.starts_with("20") && time.ends_with('Z'), "a line without its time: {line:?}");
            assert!(!line.contains("swordfish-of"), "{line}");
            let is_ours = line.contains("signalbox");
            assert!(!is_ours || !line.contains("swordfish"), "{line}");
        }
    }
}

/// The lines of stories in a log.
fn stories(log: &[String]) -> Vec<&str> {
    log.iter().filter(|line| line.contains("signalbox_node::story")).map(String::as_str).collect()
}

#[test]
fn a_client_that_is_followed_has_its_whole_story_told_and_others_do_not() {
    let flags = ["--log", "warn", "--log-client", "alice", "--log-client", "AAAAAAAAAAAAAAAAAAAA"];
    let server = Server::bare(&[&flags[..], &["--drain-delay", "0", "--drain-timeout", "1500"]].concat());
    assert_eq!(sample(&server, "signalbox_followed_clients"), 2.0);
    let mut other = WebSocket::socketio(server.public());
    other.send(r#"421["join","room"]"#);
    assert!(other.text().starts_with("431["));
    let mut bob = WebSocket::peer(server.public(), "bob");
    bob.send(r#"{"type":"CANDIDATE","dst":"carol","payload":1}"#);
    let mut alice = WebSocket::peer(server.public(), "alice");
    alice.send(r#"{"type":"OFFER","dst":"bob","payload":{"sdp":"swordfish"}}"#);
    assert!(bob.text().contains("swordfish"));
    bob.send(r#"{"type":"ANSWER","dst":"alice","payload":{"sdp":"swordfish"}}"#);
    assert!(alice.text().contains("ANSWER"));
    drop(alice);
    let gone = r#"signalbox_disconnects_total{protocol="peerserver",reason="transport close"}"#;
    until(DEADLINE, || (sample(&server, gone) == 1.0).then_some(())).expect("it has gone");
    let log = log_of(server);
    let lines = stories(&log);
    let expected = [
        "claims its id",
        "let in",
        "direction=\"in\" frame=\"OFFER dst=b…#81b637\"",
        "direction=\"out\" frame=\"ANSWER src=b…#81b637\"",
        "disconnected",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, part) in lines.iter().zip(expected) {
        assert!(line.contains(part) && line.contains("client=\"alice\""), "{part} is not in {line}");
    }
    assert!(!log.concat().contains("swordfish"), "{log:#?}");
}

#[test]
fn an_operator_has_a_client_followed_on_all_nodes_for_a_time() {
    let redis = Redis::start();
    let flags = ["--redis-url", &redis.url(), "--drain-delay", "0", "--drain-timeout", "1500"];
    let nodes = [Server::bare(&flags), Server::bare(&flags)];
    for node in &nodes {
        let is_two = || (sample(node, "signalbox_cluster_nodes") == 2.0).then_some(());
        until(DEADLINE, is_two).expect("they know each other");
    }
    let mut client = WebSocket::socketio(nodes[1].public());
    let put = |body: &str| request(nodes[0].management(), "PUT", "/admin/v1/log", &[], body);
    for bad in [
        r#"{"level":"loud"}"#,
        r#"{"clients":[""]}"#,
        r#"{"seconds":0}"#,
        r#"{"seconds":86401}"#,
        r#"{"lvel":"info"}"#,
        r#"{"clients":["a\nb"]}"#,
    ] {
        assert_eq!(put(bad).status, 400, "{bad}");
    }
    let put_for = |seconds: u32| {
        let answer = put(&format!(r#"{{"level":"debug","clients":["127.0.0.1"],"seconds":{seconds}}}"#));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.contains(r#""matched":2,"done":2"#), "{}", answer.body);
    };
    put_for(600);
    let _another = WebSocket::socketio(nodes[1].public());
    client.send(r#"421["join","room",{"name":"swordfish"}]"#);
    assert!(client.text().starts_with("431["));
    // Another order takes its place, and ends by itself.
    put_for(1);
    until(DEADLINE, || (sample(&nodes[1], "signalbox_followed_clients") == 0.0).then_some(()))
        .expect("the time is over");
    client.send(r#"422["members","room"]"#);
    assert!(client.text().starts_with("432["));
    let [one, other] = nodes;
    let (log, first) = (log_of(other), log_of(one));
    let lines = stories(&log).join("\n");
    for part in
        ["frame=\"EVENT ack=1 \\\"join\\\"\"", "joined a room", "direction=\"out\" frame=\"ACK ack=1\""]
    {
        assert!(lines.contains(part), "{part} is missing from:\n{lines}");
    }
    assert!(!lines.contains("ack=2"), "{lines}");
    let log = log.join("\n");
    assert!(log.contains("DEBUG signalbox") && log.contains("the time is over"), "{log}");
    assert!(!log.contains("swordfish"), "{log}");
    let audit = first.iter().find(|line| line.contains("signalbox_gateway::admin"));
    assert!(
        audit.is_some_and(|line| line.contains("PUT /admin/v1/log") && line.contains("127.0.0.1")),
        "{first:#?}"
    );
}

#[test]
fn an_outage_and_the_death_of_a_node_are_told_with_how_long() {
    let redis = Redis::start();
    let flags = ["--redis-url", &redis.url(), "--drain-delay", "0"];
    let (server, other) = (Server::bare(&flags), Server::bare(&flags));
    let becomes = |series: &str, expected: f64| {
        let reached = until(DEADLINE, || (sample(&server, series) == expected).then_some(()));
        assert!(reached.is_some(), "{series} is {}", sample(&server, series));
    };
    becomes("signalbox_cluster_nodes", 2.0);
    other.signal("KILL");
    becomes("signalbox_cluster_nodes", 1.0);
    let port = redis.port();
    drop(redis);
    becomes("signalbox_degraded", 1.0);
    let _redis = Redis::start_on(port);
    becomes("signalbox_degraded", 0.0);
    let log = log_of(server).join("\n");
    for part in [
        "the node has joined the cluster epoch=",
        "another node is there node=",
        "another node is gone node=",
        "the node is degraded: it serves from what it knows reason=",
        "the node is online again epoch=",
        "degraded_for_ms=",
        "draining; a second signal ends it at once",
        "the clients are gone remaining=0 took_ms=",
        "stopped",
    ] {
        assert!(log.contains(part), "{part} is missing from:\n{log}");
    }
}

#[test]
fn an_operation_is_told_of_by_who_began_it_and_by_its_id() {
    let server = Server::bare(&[]);
    let answer = request(server.management(), "POST", "/admin/v1/rebalance", &[], "{}");
    let operation: Value = serde_json::from_str(&answer.body).expect("an operation");
    let id = operation["id"].as_str().expect("its id");
    let target = format!("/admin/v1/operations/{id}");
    let is_over = || get(server.management(), &target).body.contains("endedAt").then_some(());
    assert!(until(DEADLINE, is_over).is_some(), "it goes on");
    let log = log_of(server);
    for part in ["change who=", "operation has begun ", "operation is over "] {
        let line = log.iter().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {log:#?}"));
        assert!(line.contains(id), "{line}");
        assert!(line.contains("=loopback") || line.contains("=\"loopback\""), "{line}");
    }
}

#[test]
fn what_a_client_does_is_told_once_and_not_without_end() {
    let server = Server::bare(&["--log", "info,signalbox_node::client=debug"]);
    for _ in 0..150 {
        get(server.public(), "/socket.io/?EIO=4&transport=nonsense");
        get(server.public(), "/socket.io/?EIO=4&transport=polling");
    }
    drop(WebSocket::socketio(server.public()));
    let left_out = until(DEADLINE, || {
        Some(sample(&server, "signalbox_log_lines_left_out_total")).filter(|it| *it > 0.0)
    });
    assert!(left_out.is_some(), "nothing was left out");
    let log = log_of(server);
    let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    assert!(count(" handshake ") >= 100, "{log:#?}");
    assert!(count("client disconnected") >= 1);
}
