//! What an operator sees of a cluster: Debian's Prometheus scrapes three nodes and the TURN credentials service while the load generator works
//! on them, Redis is away for a moment, and one node drains. Then every expression of every dashboard and every recording rule returns data.

mod harness;
#[path = "observability/turn.rs"]
mod turn;

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    time::Duration,
};

use harness::{
    DEADLINE, Server,
    http::{get, request},
    prometheus::{Prometheus, check_metrics, expressions, recorded},
    redis::Redis,
    scratch, until,
    websocket::WebSocket,
};
use turn::Turn;

/// A run of the load generator; ended with the test, if it has not ended before.
struct Load(Child);

impl Load {
    /// A little of this scenario, on all of these servers.
    fn start(options: &str, servers: &[&str]) -> Self {
        let mut command = Command::new(harness::loadtest_program());
        command.args(options.split(' ')).args(["--seconds", "5"]);
        command.args(servers.iter().flat_map(|server| ["--target", server]));
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the load generator starts"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the load generator does, on all nodes at once.
const LOADS: [&str; 5] = [
    "fanout --rooms 2 --members 6 --rate 10",
    "signal --pairs 3 --rate 10",
    "relay --pairs 3 --rate 5",
    "polling --rooms 1 --members 4 --rate 2 --upgrade",
    "connect --rate 3 --stay 2",
];

/// A little of everything else that clients do.
fn talk(nodes: &[&Server], round: usize) {
    let mut members: Vec<WebSocket> = nodes.iter().map(|node| WebSocket::socketio(node.public())).collect();
    for member in &mut members {
        member.send(r#"421["join","room"]"#);
        assert!(member.text().starts_with("431["));
    }
    members[0].send(r#"42["message","room","hello"]"#);
    members[0].send(r#"42["no-such-event"]"#);
    let (caller, called) = (format!("caller-{round}"), format!("called-{round}"));
    let mut caller = WebSocket::peer(nodes[0].public(), &caller);
    let mut other = WebSocket::peer(nodes[1].public(), &called);
    caller.send(&format!(r#"{{"type":"OFFER","dst":"{called}","payload":1}}"#));
    assert!(other.text().contains("OFFER"));
    other.send(&format!(r#"{{"type":"ANSWER","dst":"caller-{round}","payload":2}}"#));
    assert!(caller.text().contains("ANSWER"));
    // A polling session, whose requests land on another node.
    let open = get(nodes[0].public(), "/socket.io/?EIO=4&transport=polling").body;
    let sid = open.split('"').nth(3).expect("a sid");
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    assert_eq!(request(nodes[1].public(), "POST", &target, &[], "40").body, "ok");
    // A ping of the server, and its pong.
    let ping = std::iter::from_fn(|| Some(members[0].text())).find(|text| text == "2");
    assert!(ping.is_some());
    members[0].send("3");
}

#[test]
fn every_expression_of_every_dashboard_returns_data() {
    let redis = Redis::start();
    let flags = ["--redis-url", &redis.url(), "--ping-interval", "1000", "--drain-delay", "4000"];
    let nodes: Vec<Server> = (0..3).map(|_| Server::bare(&flags)).collect();
    for node in &nodes {
        until(DEADLINE, || (get(node.management(), "/readyz").status == 200).then_some(()))
            .expect("it joins");
    }
    let turn = Turn::start();
    let mut listeners: Vec<&str> = nodes.iter().map(Server::management).collect();
    listeners.push(&turn.management);
    let prometheus = Prometheus::start(&scratch("prometheus"), &listeners);
    let scraped = || (prometheus.series("signalbox_build_info") == 3).then_some(());
    until(DEADLINE, scraped).expect("it scrapes all nodes");
    let has_turn = || (prometheus.series("signalbox_turn_build_info") == 1).then_some(());
    until(DEADLINE, has_turn).expect("it scrapes the service");
    let flags = ["--enable-feature=native-histograms"];
    let native = Prometheus::start_with(&scratch("prometheus-native"), &listeners, &flags);
    let all: Vec<&Server> = nodes.iter().collect();
    let public: Vec<&str> = nodes.iter().map(Server::public).collect();
    let mut loads: Vec<Load> = LOADS.iter().map(|load| Load::start(load, &public)).collect();
    let asking = format!("turn --connections 1 --rate 20 --subjects 4 --warm-up 0 --bearer {}", turn::KEY);
    loads.push(Load::start(&asking, &[&turn.public]));
    (0..3).for_each(|round| talk(&all, round));
    assert_eq!(turn.ask("sbt_nobody").status, 401);
    turn.relay();
    check_metrics(&get(&turn.management, "/metrics").body);

    let port = redis.port();
    drop(redis);
    let degraded = || (prometheus.series("signalbox_degraded == 1") > 0).then_some(());
    until(DEADLINE, degraded).expect("the nodes notice");
    let _redis = Redis::start_on(port);
    for node in &nodes {
        let is_whole = || (!get(node.management(), "/readyz").body.contains("degraded")).then_some(());
        until(DEADLINE, is_whole).expect("the node is whole again");
    }
    talk(&all, 3);
    nodes[1].signal("TERM");
    talk(&[&nodes[0], &nodes[2]], 4);

    let expressions = [expressions(), recorded()].concat();
    assert!(expressions.len() > 130, "{}", expressions.len());
    let mut missing: BTreeSet<&(String, String)> = expressions.iter().collect();
    until(Duration::from_secs(60), || {
        missing.retain(|(_, expression)| prometheus.series(expression) == 0);
        missing.is_empty().then_some(())
    });
    assert!(missing.is_empty(), "these returned nothing:\n{missing:#?}");

    // The same histograms by their native buckets, from a Prometheus that asks for them.
    for name in
        ["fanout_seconds", "delivery_lag_seconds", "fanout_receivers", "redis_command_seconds", "ack_seconds"]
    {
        let quantile = format!("histogram_quantile(0.99, sum(rate(signalbox_{name}[1m]))) > 0");
        let found = until(Duration::from_secs(60), || (native.series(&quantile) == 1).then_some(()));
        assert!(found.is_some(), "{quantile} returned nothing");
    }
    assert_eq!(native.series("signalbox_fanout_seconds_bucket"), 0);
    assert!(native.series("signalbox_calls_total") > 0, "counters come in that format as well");
}
