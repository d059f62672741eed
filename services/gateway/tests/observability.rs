//! What an operator sees of a cluster: Debian's Prometheus scrapes three nodes while clients come, talk and go, Redis is away for a moment,
//! one node dies and another drains. Then every expression of every dashboard returns data.

mod harness;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use harness::{
    DEADLINE, Server,
    http::{get, request},
    redis::Redis,
    scratch, until,
    websocket::WebSocket,
};
use serde_json::Value;

/// A Prometheus of the test's own.
struct Prometheus {
    child: Child,
    url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Prometheus {
    /// It scrapes the nodes once a second, and knows the rules of the repository.
    fn start(nodes: &[Server]) -> Self {
        let directory = scratch("prometheus");
        let targets: Vec<&str> =
            nodes.iter().filter_map(|node| node.management().strip_prefix("http://")).collect();
        let rules = fs::canonicalize(repository().join("deploy/prometheus/rules")).expect("the rules");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}/*.yaml\"]\n\
             scrape_configs:\n  - job_name: signalbox\n    static_configs:\n      - targets: {targets:?}\n        \
             labels: {{cluster: test, namespace: signal}}\n",
            rules.display()
        );
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).expect("a configuration");
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port").to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is there (cargo xtask prepare)");
        let prometheus = Self { child, url: format!("http://{address}") };
        until(DEADLINE, || std::net::TcpStream::connect(&address).ok()).expect("it listens");
        until(DEADLINE, || (get(&prometheus.url, "/-/ready").status == 200).then_some(()))
            .expect("it is ready");
        prometheus
    }

    /// The series that an expression had at any time of the last two minutes.
    fn series(&self, expression: &str) -> usize {
        // One number, so that the answer is short: this client knows no transfer encodings.
        let query = format!("count(count_over_time(({expression})[2m:1s]))");
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let response = get(&self.url, &format!("/api/v1/query?query={query}"));
        let answer: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(answer["status"], "success", "{expression}: {}", response.body);
        let number = answer["data"]["result"][0]["value"][1].as_str();
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// Every expression of the dashboards, with values for Grafana's variables, and where it stands.
fn expressions() -> Vec<(String, String)> {
    let directory = repository().join("deploy/grafana/dashboards");
    let mut found = Vec::new();
    for file in fs::read_dir(directory).expect("the dashboards").map_while(Result::ok) {
        let text = fs::read_to_string(file.path()).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        let of = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let mut note = |at: &Value, expression: &Value| {
            let place = format!("{}: {at}", dashboard["title"]);
            found.extend(expression.as_str().map(|expression| (place, filled(expression))));
        };
        for panel in of(&dashboard["panels"]) {
            of(&panel["targets"]).iter().for_each(|target| note(&panel["title"], &target["expr"]));
        }
        for annotation in of(&dashboard["annotations"]["list"]) {
            note(&annotation["name"], &annotation["expr"]);
        }
    }
    found
}

fn filled(expression: &str) -> String {
    [
        ("$__rate_interval", "10s"),
        ("$job", ".+"),
        ("$instance", ".+"),
        ("$cluster", ".*"),
        ("$namespace", ".*"),
    ]
    .iter()
    .fold(expression.to_owned(), |expression, (name, value)| expression.replace(name, value))
}

/// A little of everything that clients do.
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
    let prometheus = Prometheus::start(&nodes);
    let scraped = || (prometheus.series("signalbox_build_info") == 3).then_some(());
    until(DEADLINE, scraped).expect("it scrapes all nodes");
    let all: Vec<&Server> = nodes.iter().collect();
    (0..3).for_each(|round| talk(&all, round));

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

    let expressions = expressions();
    assert!(expressions.len() > 100);
    let mut missing: BTreeSet<&(String, String)> = expressions.iter().collect();
    until(Duration::from_secs(60), || {
        missing.retain(|(_, expression)| prometheus.series(expression) == 0);
        missing.is_empty().then_some(())
    });
    assert!(missing.is_empty(), "these returned nothing:\n{missing:#?}");
}
