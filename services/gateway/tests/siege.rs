//! The great soak: a crowd that comes and goes, attackers who do everything that is known to be harmful, and neighbours in a room of
//! their own, who are to notice neither.

mod harness;

#[path = "siege/attackers.rs"]
mod attackers;

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use attackers::{ROWS, Target, attack};
use harness::{Server, http::get, redis::Redis};
use serde_json::Value;

const NODES: usize = 3;
const CROWD: usize = 5_000;
const ATTACKERS: usize = 20;
const NEIGHBOURS: usize = 100;
/// How long the siege lasts.
const SIEGE: Duration = Duration::from_secs(60);
/// The least time by which latencies of a machine with two processors are told apart: what is quicker in the quiet counts as this.
const RESOLUTION: u64 = 20_000;
/// Of `--memory-budget`, in bytes.
const BUDGET: u64 = 256 * 1024 * 1024;

/// A run of the load generator, whose report is read in the end.
struct Load {
    child: Child,
    report: PathBuf,
}

impl Load {
    fn start(name: &str, targets: &[Server], options: &str) -> Self {
        let report = harness::scratch(&format!("siege-{name}")).join("report.json");
        let mut command = Command::new(harness::loadtest_program());
        command.args(options.split_ascii_whitespace()).arg("--json").arg(&report);
        for node in targets {
            command.args(["--target", node.public()]);
        }
        let child = command.spawn().expect("the load generator starts");
        Self { child, report }
    }

    /// The phase of this name, when all are over.
    fn phase(mut self, name: &str) -> Value {
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{}: {status}", self.report.display());
        let report = std::fs::read_to_string(&self.report).expect("a report");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let phases = report["phases"].as_array().expect("phases");
        phases.iter().find(|phase| phase["name"] == name).expect("the phase").clone()
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a free port").port()
}

/// The neighbours talk for so long: each of them now and then, all together twenty times a second.
fn neighbours(nodes: &[Server], name: &str, length: Duration) -> Load {
    let rate = 20 * (NEIGHBOURS - 1);
    let (senders, seconds) = (NEIGHBOURS - 2, length.as_secs());
    let options = format!(
        "fanout --members {NEIGHBOURS} --senders {senders} --rate {rate} --seconds {seconds} --warm-up 1 --patience 20"
    );
    Load::start(name, nodes, &options)
}

/// The sum of the samples of a metric whose labels contain this.
fn sum(node: &Server, metric: &str, labels: &str) -> f64 {
    let text = get(node.management(), "/metrics").body;
    let samples = text.lines().filter(|line| {
        line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
    });
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The most memory that a process has had, in bytes.
fn peak(node: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_a_crowd_and_attackers_cost_neighbours_nothing() {
    let redis = Redis::start();
    let budget = BUDGET.to_string();
    let flags = ["--redis-url", &redis.url(), "--memory-budget", &budget];
    let links: Vec<String> = (0..NODES).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let start = |link: &String| Server::bare(&[&flags[..], &["--cluster-addr", link]].concat());
    let nodes: Vec<Server> = links.iter().map(start).collect();
    for node in &nodes {
        harness::until(harness::DEADLINE, || (get(node.management(), "/readyz").status == 200).then_some(()))
            .expect("the node joins its cluster");
    }
    let targets: Vec<Target> = nodes
        .iter()
        .zip(&links)
        .map(|(node, link)| Target {
            public: node.public().trim_start_matches("http://").trim_end_matches('/').to_owned(),
            link: link.clone(),
        })
        .collect();

    let quiet = neighbours(&nodes, "quiet", Duration::from_secs(15)).phase("measure");
    let crowd =
        format!("churn --clients {CROWD} --seconds {} --every 10 --rest 1 --patience 20", SIEGE.as_secs());
    let crowd = Load::start("crowd", &nodes, &crowd);
    // The crowd is there when its connections are.
    let is_there = || {
        let accepted = nodes.iter().map(|node| sum(node, "signalbox_handshakes_total", "accepted"));
        accepted.sum::<f64>() >= (NEIGHBOURS + CROWD) as f64
    };
    harness::until(harness::DEADLINE, || is_there().then_some(())).expect("the crowd is there");
    let until = Instant::now() + SIEGE;
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|number| {
            let target = targets[number % targets.len()].clone();
            std::thread::spawn(move || attack(&target, number, SIEGE / ROWS.len() as u32, until))
        })
        .collect();
    let besieged = neighbours(&nodes, "besieged", SIEGE - Duration::from_secs(5)).phase("measure");
    for attacker in attackers {
        attacker.join().expect("an attacker's end");
    }
    let crowd = crowd.phase("churn");

    let number = |phase: &Value, field: &str| phase[field].as_u64().expect("a number");
    let p99 = |phase: &Value| phase["latency"]["p99"].as_u64().expect("latencies");
    let degraded: f64 =
        nodes.iter().map(|node| sum(node, "signalbox_cluster_events_total", "degraded")).sum();
    let evicted =
        |reason: &str| nodes.iter().map(|it| sum(it, "signalbox_evictions_total", reason)).sum::<f64>();
    let peaks: Vec<u64> = nodes.iter().map(peak).collect();
    #[expect(clippy::print_stderr, reason = "the figures are what the soak lane is for")]
    {
        eprintln!(
            "neighbours: {} deliveries, {} lost, p99 {} us (quiet: {} us), {} closed\n\
             crowd: {} of {} answers, {} of them refusals, {} closed, p99 {} us\n\
             nodes: degraded {degraded} times; evicted: {} slow readers, {} for the budget; peaks of memory {:?} MiB",
            number(&besieged, "delivered"),
            number(&besieged, "lost"),
            p99(&besieged),
            p99(&quiet),
            number(&besieged, "closed"),
            number(&crowd, "answers"),
            number(&crowd, "answers_expected"),
            number(&crowd, "refused"),
            number(&crowd, "closed"),
            p99(&crowd),
            evicted("slow_reader"),
            evicted("memory_budget"),
            peaks.iter().map(|peak| peak >> 20).collect::<Vec<_>>(),
        );
    }
    for field in ["lost", "duplicates", "misdirected", "closed"] {
        assert_eq!(number(&besieged, field), 0, "{field} of the neighbours");
    }
    assert_eq!(degraded, 0.0, "a node was degraded");
    assert_eq!(number(&crowd, "closed"), 0, "somebody who reads was cut off");
    assert_eq!(number(&crowd, "answers"), number(&crowd, "answers_expected"), "answers for the crowd");
    assert!(peaks.iter().all(|peak| *peak <= BUDGET / 5 * 6), "{peaks:?} bytes of memory");
    assert!(p99(&besieged) <= 2 * p99(&quiet).max(RESOLUTION), "p99 {} us", p99(&besieged));
}
