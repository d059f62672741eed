//! Several gateways on one Redis, and real clients spread over them. What each file shows is said at its head.

mod harness;

#[path = "cluster/admin_tools.rs"]
mod admin_tools;
#[path = "cluster/presence.rs"]
mod presence;

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use harness::{Server, certificates::Files, redis::Redis};

/// Nodes of a cluster, on a Redis of their own.
struct Cluster {
    nodes: Vec<Server>,
    flags: Vec<String>,
    _redis: Redis,
}

impl Cluster {
    fn start(nodes: usize, flags: &[&str]) -> Self {
        let redis = Redis::start();
        let url = redis.url();
        let flags = [&["--redis-url", &url], flags].concat();
        let nodes = (0..nodes).map(|_| Server::gateway(&flags)).collect();
        let flags = flags.iter().map(ToString::to_string).collect();
        let cluster = Self { nodes, flags, _redis: redis };
        cluster.nodes.iter().for_each(Self::await_ready);
        cluster
    }

    /// One more node, which is ready.
    fn add(&mut self) {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let node = Server::gateway(&flags);
        Self::await_ready(&node);
        self.nodes.push(node);
    }

    fn await_ready(node: &Server) {
        harness::until(harness::DEADLINE, || {
            (harness::http::get(node.management(), "/readyz").status == 200).then_some(())
        })
        .expect("the node joins its cluster");
    }

    /// Runs a file of `tests/js`, whose clients go to the nodes in turns.
    fn run_js(&self, file: &str, environment: &[(&str, &str)]) {
        self.run_js_within(harness::DEADLINE, file, environment);
    }

    /// The same, for one that may take longer.
    fn run_js_within(&self, limit: Duration, file: &str, environment: &[(&str, &str)]) {
        let urls: Vec<&str> = self.nodes.iter().map(Server::public).collect();
        let urls = urls.join(" ");
        let mut all = vec![("GATEWAY_URLS", Path::new(&urls))];
        all.extend(environment.iter().map(|(name, value)| (*name, Path::new(*value))));
        self.nodes[0].run_js_within(limit, file, &all);
    }
}

#[test]
fn cluster_is_one_whatever_happens() {
    Server::run_js_alone("cluster.test.mjs");
}

#[test]
fn cluster_large_rooms_tell_how_many_there_are() {
    let rules = harness::printed_rules("presence");
    let environment = [("OWN_RULES", rules.as_str())];
    Server::run_js_alone_within(harness::DEADLINE, "presence.test.mjs", &environment);
}

#[test]
fn cluster_tokens_are_revoked_on_all_nodes() {
    Server::run_js_alone("auth-cluster.test.mjs");
}

#[test]
fn cluster_connections_of_a_subject_are_limited_together() {
    Server::run_js_alone("subjects.test.mjs");
}

#[test]
fn cluster_takes_a_new_password_of_redis() {
    Server::run_js_alone("redis-password.test.mjs");
}

#[test]
fn cluster_outlives_a_cut_between_one_node_and_redis() {
    Server::run_js_alone("cuts.test.mjs");
}

#[test]
fn cluster_is_one_on_a_redis_cluster() {
    Server::run_js_alone("redis-cluster.test.mjs");
}

#[test]
fn cluster_outlives_failovers_of_a_redis_cluster() {
    Server::run_js_alone("failovers.test.mjs");
}

#[test]
fn cluster_outlives_failovers_of_sentinel() {
    Server::run_js_alone("sentinel.test.mjs");
}

#[test]
fn cluster_loses_what_is_said_without_redis_and_no_more() {
    Server::run_js_alone("outage.test.mjs");
}

#[test]
fn cluster_a_node_dies_while_sessions_move() {
    Server::run_js_alone("moving.test.mjs");
}

#[test]
fn cluster_drains_under_load() {
    Server::run_js_alone("drain.test.mjs");
}

#[test]
fn cluster_spreads_its_clients_when_a_node_joins() {
    Server::run_js_alone("rebalance.test.mjs");
}

#[test]
fn cluster_of_two_formats_is_one() {
    Server::run_js_alone("mixed.test.mjs");
}

#[test]
fn cluster_is_updated_from_the_previous_format() {
    replace("update");
}

#[test]
fn cluster_is_rolled_back_to_the_previous_format() {
    replace("rollback");
}

#[test]
#[ignore = "takes a minute: cargo xtask soak"]
fn soak_a_video_call_goes_on_while_all_nodes_are_updated_and_rolled_back() {
    let loadtest = harness::loadtest_program().display().to_string();
    for direction in ["update", "rollback"] {
        let environment = [("DIRECTION", direction), ("LOADTEST_BIN", &loadtest)];
        Server::run_js_alone_within(harness::DEADLINE, "call-update.test.mjs", &environment);
    }
}

fn replace(direction: &str) {
    // Until their next heartbeat, nodes write what one of the previous format that has just come does not read.
    let settle = if direction == "rollback" { "2000" } else { "0" };
    // How even the pace is shows elsewhere, in more time.
    let environment =
        [("DIRECTION", direction), ("DRAIN_TIMEOUT", "5000"), ("DRAIN_PACE", "9"), ("DRAIN_SETTLE", settle)];
    Server::run_js_alone_within(harness::DEADLINE, "replaced.test.mjs", &environment);
}

#[test]
fn cluster_room_is_right_after_many_came_and_went() {
    Server::run_js_alone("churn.test.mjs");
}

#[test]
fn cluster_rules_reach_everybody_and_limits_are_exact() {
    let rules = harness::rules("every.toml");
    Cluster::start(3, &["--rules", &rules]).run_js("rules.test.mjs", &[]);
}

#[test]
fn cluster_peerserver_behaves_as_one_node() {
    Cluster::start(3, &[]).run_js("peer.test.mjs", &[]);
}

#[test]
fn cluster_peerserver_limit_is_exact_and_refuses_nobody_for_whom_there_is_room() {
    Cluster::start(3, &["--concurrent_limit", "4"]).run_js("limit.test.mjs", &[]);
}

#[test]
fn cluster_admin_api_answers_for_all_nodes() {
    Server::run_js_alone("admin.test.mjs");
}

#[test]
fn cluster_events_are_told_from_every_node() {
    Server::run_js_alone_within(2 * harness::DEADLINE, "events.test.mjs", &[]);
}

#[test]
fn cluster_webhooks_lose_nothing_that_was_written() {
    Server::run_js_alone("webhooks.test.mjs");
}

#[test]
fn cluster_a_crowd_shares_a_room() {
    Cluster::start(3, &[]).run_js("crowd.test.mjs", &[("CROWD", "300")]);
}

#[test]
fn cluster_node_is_known_to_the_others_before_it_is_ready() {
    const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
    let mut cluster = Cluster::start(1, &[]);
    for _ in 0..3 {
        // The others hear of it with their next heartbeat, which may be a second away.
        cluster.add();
        let [home, newcomer] = [0, cluster.nodes.len() - 1].map(|index| cluster.nodes[index].public());
        let handshake = harness::http::get(home, POLLING);
        let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
        assert_eq!(harness::http::request(newcomer, "POST", &target, &[], "40").body, "ok");
        assert!(harness::http::get(newcomer, &target).body.starts_with("40{"));
        let management = cluster.nodes[cluster.nodes.len() - 1].management();
        let relayed = || {
            let metrics = harness::http::get(management, "/metrics").body;
            let value =
                metrics.lines().find_map(|line| line.strip_prefix("signalbox_relayed_requests_total "));
            value.and_then(|value| value.parse::<u64>().ok()).expect("it is counted")
        };
        let before = relayed();
        // One that has to wait: the owner must tell the newcomer that it has it.
        let poll = std::thread::scope(|threads| {
            let poll = threads.spawn(|| harness::http::get(newcomer, &target));
            harness::until(harness::DEADLINE, || (relayed() > before).then_some(())).expect("it gets there");
            let join = r#"420["join","room",{}]"#;
            assert_eq!(harness::http::request(home, "POST", &target, &[], join).body, "ok");
            poll.join().expect("the poll is answered")
        });
        assert!(poll.body.starts_with("430["), "{poll:?}");
    }
}

/// Opens a session on one node and goes on with it on another, which has to ask the first: what the second request is answered.
fn relayed(home: &Server, other: &Server) -> harness::http::Response {
    const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
    let handshake = harness::http::get(home.public(), POLLING);
    let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
    let posted = harness::http::request(other.public(), "POST", &target, &[], "40");
    match &*posted.body {
        "ok" => harness::http::get(other.public(), &target),
        _ => posted,
    }
}

/// A metric of a node.
fn sample(node: &Server, series: &str) -> f64 {
    let metrics = harness::http::get(node.management(), "/metrics").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{series} in {metrics}"))
}

#[test]
fn cluster_a_body_sent_through_another_node_has_its_time() {
    let cluster = Cluster::start(2, &["--body-timeout", "400", "--min-body-rate", "2000"]);
    let [home, other] = [&cluster.nodes[0], &cluster.nodes[1]];
    const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
    let handshake = harness::http::get(home.public(), POLLING);
    let target = format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"));
    let mut stream = harness::http::connect(other.public());
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a head");
    // However much has come before.
    stream.write_all(&vec![b'4'; 99_000]).expect("most of a body");
    let since = Instant::now();
    assert_eq!(harness::http::answer(&mut stream).map(|answer| answer.status), Some(408));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert_eq!(sample(other, "signalbox_connections_dropped_total{reason=\"body_timeout\"}"), 1.0);
    // Its session is closed at home, and nothing of the body is held any more.
    let closed =
        || (harness::http::request(home.public(), "POST", &target, &[], "40").status == 400).then_some(());
    harness::until(harness::DEADLINE, closed).expect("the session is closed");
    for node in [home, other] {
        harness::until(harness::DEADLINE, || (sample(node, "signalbox_held_bytes") < 50_000.0).then_some(()))
            .expect("nothing is held");
    }
}

#[test]
fn cluster_bodies_that_stop_on_their_way_to_another_node_give_way() {
    const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
    const HONEST: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.1")];
    let flags = ["--memory-budget", "22000000", "--proxied", "--trusted-proxies", "127.0.0.1"];
    let cluster = Cluster::start(2, &flags);
    let [home, other] = [&cluster.nodes[0], &cluster.nodes[1]];
    let open = || {
        let handshake = harness::http::get(home.public(), POLLING);
        format!("{POLLING}&sid={}", handshake.body.split('"').nth(3).expect("a sid"))
    };
    let honest = open();
    let targets: Vec<String> = (0..40).map(|_| open()).collect();
    let stopped: Vec<_> = targets
        .iter()
        .map(|target| {
            let mut stream = harness::http::connect(other.public());
            let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("a head");
            let _ = stream.write_all(&vec![b'4'; 990_000]);
            stream
        })
        .collect();
    let held = |node| sample(node, "signalbox_held_bytes");
    harness::until(harness::DEADLINE, || (held(other) >= 15.5e6).then_some(()))
        .expect("there is no more room");
    let large = format!("40\u{1e}42[\"leave\",\"{}\"]", "x".repeat(300_000));
    let since = Instant::now();
    assert_eq!(harness::http::request(other.public(), "POST", &honest, HONEST, &large).body, "ok");
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    let evicted = || sample(other, "signalbox_evictions_total{reason=\"memory_budget\"}");
    harness::until(harness::DEADLINE, || (evicted() >= 20.0).then_some(())).expect("they give way");
    drop(stopped);
    for node in [home, other] {
        harness::until(harness::DEADLINE, || (held(node) < 200_000.0).then_some(()))
            .expect("nothing is held");
    }
    // The sessions of all of them are closed at home.
    for target in &targets {
        assert_eq!(harness::http::request(home.public(), "POST", target, &[], "40").status, 400);
    }
}

#[test]
fn cluster_signals_to_forged_sockets_cost_neighbours_nothing() {
    const FORGED: usize = 5_000;
    const MESSAGES: usize = 200;
    let cluster = Cluster::start(2, &[]);
    let [home, other] = [&cluster.nodes[0], &cluster.nodes[1]];
    let handshake = harness::http::get(other.public(), "/socket.io/?EIO=4&transport=polling");
    // The other node's tag and shard stand at the beginning.
    let prefix = handshake.body.split('"').nth(3).expect("a sid")[..7].to_owned();
    let join = |node: &Server| {
        let mut member = harness::websocket::WebSocket::socketio(node.public());
        member.send(r#"420["join","neighbours"]"#);
        assert!(member.text().starts_with("430["));
        member
    };
    let mut listener = join(other);
    let mut speaker = join(home);
    assert!(listener.text().contains("joined"));
    let before = sample(other, "process_resident_memory_bytes");
    let mut forger = harness::websocket::WebSocket::socketio(home.public());
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0..FORGED {
                forger.send(&format!(r#"42["signal","{prefix}{number:013}","x"]"#));
            }
            // Each is answered, and the forger reads that.
            for _ in 0..FORGED {
                assert!(forger.text().contains("not-found"));
            }
        });
        for number in 0..MESSAGES {
            speaker.send(&format!(r#"42{number}["message","neighbours",{number}]"#));
            let acknowledged = speaker.text();
            assert!(acknowledged.starts_with(&format!("43{number}[{{\"ok\":true")), "{acknowledged}");
            let heard = listener.text();
            assert!(heard.starts_with(&format!(r#"42["message",{number},"#)), "{heard}");
        }
    });
    assert_eq!(
        sample(home, "signalbox_mailbox_dropped_total") + sample(other, "signalbox_mailbox_dropped_total"),
        0.0
    );
    let grown = sample(other, "process_resident_memory_bytes") - before;
    assert!(grown < 50e6, "{grown}");
}

#[test]
fn cluster_nodes_reach_each_other_over_ipv6() {
    let cluster = Cluster::start(2, &["--host", "::1", "--cluster-addr", "[::1]:0"]);
    let connected = relayed(&cluster.nodes[0], &cluster.nodes[1]);
    assert!(connected.body.starts_with("40{"), "{connected:?}");
}

#[test]
fn cluster_nodes_speak_tls_with_nodes_of_their_authority_and_with_nobody_else() {
    let (files, strange) = (Files::make("cluster-tls"), Files::make("cluster-tls-other"));
    let redis = Redis::start();
    let start = |mode: &str, files: &Files| {
        let url = redis.url();
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|file| files.path(file));
        let tls = ["--cluster-tls-ca", &ca, "--cluster-tls-cert", &cert, "--cluster-tls-key", &key];
        let flags =
            [&["--redis-url", &url, "--cluster-tls", mode][..], if mode == "off" { &[] } else { &tls }];
        let node = Server::gateway(&flags.concat());
        Cluster::await_ready(&node);
        node
    };
    let (required, optional) = (start("required", &files), start("optional", &files));
    let (off, stranger) = (start("off", &files), start("required", &strange));
    let is_relayed = |home: &Server, other: &Server| relayed(home, other).body.starts_with("40{");
    assert!(is_relayed(&required, &optional) && is_relayed(&optional, &required));
    // As while nodes are switched over.
    assert!(is_relayed(&off, &optional) && is_relayed(&optional, &off));
    for (home, other) in
        [(&required, &off), (&off, &required), (&required, &stranger), (&stranger, &required)]
    {
        assert!(!is_relayed(home, other));
    }
    for (node, expected) in
        [(&off, "it uses TLS, and --cluster-tls is off here"), (&stranger, "invalid peer certificate")]
    {
        let told = harness::until(harness::DEADLINE, || {
            node.lines().iter().any(|line| line.contains(expected)).then_some(())
        });
        assert!(told.is_some(), "{expected}: {:#?}", node.lines());
    }
}

#[test]
fn cluster_tls_files_that_cannot_be_used_are_named() {
    let (files, strange) = (Files::make("cluster-tls-files"), Files::make("cluster-tls-files-other"));
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|file| files.path(file));
    let (other_ca, other_key) = (strange.path("ca.pem"), files.path("other-key.pem"));
    for ([ca, cert, key], expected) in [
        ([&other_ca, &cert, &key], "--cluster-tls-cert: other nodes would refuse"),
        ([&ca, &cert, &other_key], "--cluster-tls-key, --cluster-tls-cert:"),
        ([&key, &cert, &key], "--cluster-tls-ca:"),
    ] {
        let flags = ["--redis-url", "redis://127.0.0.1:1", "--cluster-tls", "required"];
        let files = ["--cluster-tls-ca", ca, "--cluster-tls-cert", cert, "--cluster-tls-key", key];
        let output = harness::refused(&[&flags[..], &files].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(expected) && error.trim().lines().count() == 1, "{expected}: {error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn cluster_chromium_demo_works_across_nodes() {
    Cluster::start(2, &["--allow_discovery"]).run_js("demo.test.mjs", &[]);
}

/// How long a test of the soak lane may take.
const SOAK: Duration = Duration::from_secs(900);

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_drains_under_load() {
    let environment = [
        ("DRAIN_CLIENTS", "1000"),
        ("DRAIN_TIMEOUT", "30000"),
        ("DRAIN_EVERY", "4000"),
        ("DRAIN_PACE", "1.2"),
        ("PATIENCE", "6"),
    ];
    Server::run_js_alone_within(SOAK, "drain.test.mjs", &environment);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_spreads_its_clients_when_a_node_joins() {
    let environment =
        [("DRAIN_CLIENTS", "1000"), ("DRAIN_EVERY", "4000"), ("REBALANCE_RATE", "50"), ("PATIENCE", "6")];
    Server::run_js_alone_within(SOAK, "rebalance.test.mjs", &environment);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_room_is_right_after_many_came_and_went() {
    let environment =
        [("CHURN_MEMBERS", "300"), ("CHURN_RATE", "200"), ("CHURN_SECONDS", "30"), ("PATIENCE", "9")];
    Server::run_js_alone_within(SOAK, "churn.test.mjs", &environment);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_admin_lists_many_rooms() {
    let environment =
        [("PARTS", "cursors"), ("ADMIN_SOCKETS", "200"), ("ADMIN_ROOMS", "100"), ("PATIENCE", "6")];
    Server::run_js_alone_within(SOAK, "admin.test.mjs", &environment);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_needs_no_sticky_sessions() {
    let environment = [("PARTS", "balanced"), ("BALANCED", "500"), ("PATIENCE", "9")];
    Server::run_js_alone_within(SOAK, "cluster.test.mjs", &environment);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_nodes_die_while_sessions_move() {
    let environment = [("MOVING_ROUNDS", "20"), ("PATIENCE", "2")];
    Server::run_js_alone_within(SOAK, "moving.test.mjs", &environment);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_outlives_long_faults() {
    let environment = [("PARTS", "faults"), ("OUTAGE_MS", "60000"), ("SLEEP_MS", "20000"), ("PATIENCE", "2")];
    Server::run_js_alone_within(SOAK, "cluster.test.mjs", &environment);
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_cluster_one_claim_of_twelve_is_granted() {
    Cluster::start(3, &[]).run_js_within(SOAK, "peer.test.mjs", &[("CLAIMS", "200")]);
}
