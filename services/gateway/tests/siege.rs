//! The great soaks: a crowd that comes and goes, and attackers who do everything that is known to be harmful; a crowd that talks, and
//! an operator who asks for everything all the time. Neighbours in a room of their own are to notice none of it.

mod harness;

#[path = "siege/attackers.rs"]
mod attackers;

use std::{
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use attackers::{ROWS, Target, attack};
use harness::{
    Server,
    http::{get, request},
    redis::Redis,
};
use serde_json::Value;
use signalbox_test_support::free_port;

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
    /// Of a crowd, which has machines of its own elsewhere: here it gets what the nodes leave of the processors.
    fn start_behind(name: &str, targets: &[Server], options: &str) -> Self {
        Self::start_at(&["chrt", "--idle", "0"], name, targets, options)
    }

    /// Of neighbours, who have machines of their own, too, and do not wait for one: what they measure is the nodes. Whoever may not have
    /// that measures more.
    fn start_before(name: &str, targets: &[Server], options: &str) -> Self {
        Self::start_at(&["nice", "-n", "-10"], name, targets, options)
    }

    fn start_at(priority: &[&str], name: &str, targets: &[Server], options: &str) -> Self {
        let mut command = Command::new(priority[0]);
        command.args(&priority[1..]).arg(harness::loadtest_program());
        let report = harness::scratch(&format!("siege-{name}")).join("report.json");
        // All generators together need many addresses.
        command.args(options.split_ascii_whitespace()).args(["--sources", "32", "--json"]).arg(&report);
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

/// The neighbours talk for so long: each of them now and then, all together twenty times a second.
fn neighbours(nodes: &[Server], name: &str, length: Duration) -> Load {
    let rate = 20 * (NEIGHBOURS - 1);
    let (senders, seconds) = (NEIGHBOURS - 2, length.as_secs());
    let options = format!(
        "fanout --name neighbours --members {NEIGHBOURS} --senders {senders} --rate {rate} --seconds {seconds} --warm-up 1 --patience 20"
    );
    Load::start_before(name, nodes, &options)
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

/// Nodes that are a cluster, and the addresses of their links.
fn cluster(flags: &[&str]) -> (Vec<Server>, Vec<String>) {
    let links: Vec<String> = (0..NODES).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let start = |link: &String| Server::bare(&[flags, &["--cluster-addr", link]].concat());
    let nodes: Vec<Server> = links.iter().map(start).collect();
    for node in &nodes {
        harness::until(harness::DEADLINE, || (get(node.management(), "/readyz").status == 200).then_some(()))
            .expect("the node joins its cluster");
    }
    (nodes, links)
}

/// Waits until so many clients have connected.
fn wait_for_handshakes(nodes: &[Server], clients: usize) {
    let accepted =
        || nodes.iter().map(|node| sum(node, "signalbox_handshakes_total", "accepted")).sum::<f64>();
    harness::until(harness::DEADLINE, || (accepted() >= clients as f64).then_some(()))
        .expect("the crowd is there");
}

fn number(phase: &Value, field: &str) -> u64 {
    phase[field].as_u64().expect("a number")
}

fn p99(phase: &Value) -> u64 {
    phase["latency"]["p99"].as_u64().expect("latencies")
}

/// The clients that talk while an operator looks and acts: 10,000, or as many as ADMIN_TALKERS says.
fn talkers() -> usize {
    std::env::var("ADMIN_TALKERS").map_or(10_000, |count| count.parse().expect("ADMIN_TALKERS is a number"))
}

/// What an operator's tools do with clients that talk, one thing after the other: path and body.
fn order(number: usize, rooms: usize) -> (&'static str, String) {
    let room = |shift: usize| format!("fanout-{}", (number + shift) % rooms);
    let event =
        |shift| format!(r#"{{"to":{{"rooms":["{}"]}},"event":"note","args":[{number}]}}"#, room(shift));
    match number % 4 {
        0 => ("emit", event(0)),
        1 => ("join", format!(r#"{{"to":{{"rooms":["{}"]}},"rooms":["noted"]}}"#, room(0))),
        2 => ("batch", format!(r#"{{"events":[{}]}}"#, (0..10).map(event).collect::<Vec<_>>().join(","))),
        _ => ("leave", r#"{"to":{"rooms":["noted"]},"rooms":["noted"]}"#.to_owned()),
    }
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_the_admin_api_costs_ten_thousand_talking_clients_nothing() {
    /// How long the neighbours are measured each time.
    const MEASURED: Duration = Duration::from_secs(20);
    /// Between two requests: an operator's tools ask ten times a second, and every fifth time they order something.
    const BETWEEN: Duration = Duration::from_millis(100);
    /// No answer may be later.
    const ANSWER: Duration = Duration::from_secs(2);

    let redis = Redis::start();
    let (nodes, _) = cluster(&["--redis-url", &redis.url()]);
    // In rooms of ten.
    let rooms = talkers() / 10;
    let rate = 3 * rooms;
    let talking = format!(
        "fanout --rooms {rooms} --members 10 --rate {rate} --seconds 75 --warm-up 1 --patience 20 --processes 2"
    );
    let talking = Load::start_behind("talkers", &nodes, &talking);
    wait_for_handshakes(&nodes, talkers());

    let before = neighbours(&nodes, "unasked", MEASURED).phase("measure");
    let managed: Vec<String> = nodes.iter().map(|node| node.management().to_owned()).collect();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let operator = std::thread::spawn(move || {
        let (mut asked, mut ordered, mut slowest, mut after) =
            (0_usize, 0_usize, Duration::ZERO, String::new());
        while stopped.recv_timeout(BETWEEN).is_err() {
            if asked >= 4 * (ordered + 1) {
                let (path, body) = order(ordered, rooms);
                let node = &managed[ordered % managed.len()];
                let began = Instant::now();
                let answer = request(node, "POST", &format!("/admin/v1/{path}"), &[], &body);
                slowest = slowest.max(began.elapsed());
                assert_eq!(answer.status, 200, "{path}: {}", answer.body);
                let body: Value = serde_json::from_str(&answer.body).expect("JSON");
                // Those of its room are let in, or out, together.
                let is_whole = match path {
                    "join" | "leave" => body["matched"] == 10 && body["done"] == 10,
                    "batch" => body["results"].as_array().is_some_and(|results| results.len() == 10),
                    _ => true,
                };
                assert!(is_whole, "{path}: {body}");
                ordered += 1;
                continue;
            }
            let lists = [
                "cluster",
                "nodes",
                "rates",
                "namespaces",
                "rooms?limit=1000",
                "rooms?order=members&limit=10",
                "sockets?limit=1000",
            ];
            // Every second request goes on through all sockets, page by page.
            let path = match asked % 2 {
                0 => format!("sockets?limit=1000{after}"),
                _ => lists[asked / 2 % lists.len()].to_owned(),
            };
            let began = Instant::now();
            let answer = get(&managed[asked % managed.len()], &format!("/admin/v1/{path}"));
            slowest = slowest.max(began.elapsed());
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let body: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(body["partial"].as_array().map(Vec::len), Some(0), "{path}: {}", body["partial"]);
            if asked % 2 == 0 {
                after = body["next"].as_str().map(|next| format!("&after={next}")).unwrap_or_default();
            }
            asked += 1;
        }
        (asked, ordered, slowest)
    });
    let meanwhile = neighbours(&nodes, "asked", MEASURED).phase("measure");
    stop.send(()).expect("the operator waits for it");
    let (asked, ordered, slowest) = operator.join().expect("the operator's end");
    let talkers = talking.phase("measure");
    #[expect(clippy::print_stderr, reason = "the figures are what the soak lane is for")]
    {
        eprintln!(
            "neighbours: p99 {} us before, {} us meanwhile, {} lost; {asked} looks and {ordered} orders, the slowest answer after {slowest:?}; \
             the crowd: {} deliveries, {} lost, p99 {} us",
            p99(&before),
            p99(&meanwhile),
            number(&meanwhile, "lost"),
            number(&talkers, "delivered"),
            number(&talkers, "lost"),
            p99(&talkers),
        );
    }
    for phase in [&meanwhile, &talkers] {
        for field in ["lost", "duplicates", "misdirected", "closed"] {
            assert_eq!(number(phase, field), 0, "{field}");
        }
    }
    assert!(asked >= 80 && ordered >= 20, "{asked} looks, {ordered} orders");
    assert!(slowest <= ANSWER, "{slowest:?}");
    assert!(p99(&meanwhile) <= 2 * p99(&before).max(RESOLUTION), "p99 {} us", p99(&meanwhile));
}

#[test]
#[ignore = "takes minutes: cargo xtask soak"]
fn soak_a_crowd_and_attackers_cost_neighbours_nothing() {
    let redis = Redis::start();
    let (nodes, links) = cluster(&["--redis-url", &redis.url(), "--memory-budget", &BUDGET.to_string()]);
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
    let crowd = Load::start_behind("crowd", &nodes, &crowd);
    wait_for_handshakes(&nodes, NEIGHBOURS + CROWD);
    let until = Instant::now() + SIEGE;
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|number| {
            let target = targets[number % targets.len()].clone();
            std::thread::spawn(move || {
                attack(&target, number, SIEGE / ROWS.len() as u32, until);
            })
        })
        .collect();
    let besieged = neighbours(&nodes, "besieged", SIEGE - Duration::from_secs(5)).phase("measure");
    for attacker in attackers {
        attacker.join().expect("an attacker's end");
    }
    let crowd = crowd.phase("churn");

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
