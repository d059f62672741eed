//! A crowd joins one room of a cluster: what it costs those who are there.

use std::{
    process::Command,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Cluster, sample};
use crate::harness::{
    self, Server,
    websocket::{Frame, WebSocket},
};

/// What somebody heard who is in the room all the time.
#[derive(Debug, Default)]
struct Heard {
    joined: usize,
    left: usize,
    counts: Vec<u64>,
    others: usize,
}

/// A member that reads until somebody says `end`.
fn watcher(node: &Server) -> JoinHandle<Heard> {
    let mut socket = WebSocket::socketio(node.public());
    socket.send(r#"420["join","crowd"]"#);
    while !socket.text().starts_with("430[{\"ok\":true") {}
    thread::spawn(move || {
        let mut heard = Heard::default();
        while let Some(Frame::Text(text)) = socket.next() {
            if text == "2" {
                socket.send("3");
                continue;
            }
            let event: Value = serde_json::from_str(text.trim_start_matches("42")).unwrap_or_default();
            match event[0].as_str() {
                Some("joined") => heard.joined += 1,
                Some("left") => heard.left += 1,
                Some("presence") => heard.counts.push(event[1]["count"].as_u64().expect("a number")),
                Some("message") if event[1] == "end" => break,
                _ => heard.others += 1,
            }
        }
        heard
    })
}

/// So many clients join one room of three nodes at the same moment, and leave it. Returns within what time all were in.
fn a_crowd_joins(clients: usize, limit: usize) -> Duration {
    let cluster = Cluster::start(3, &["--presence-limit", &limit.to_string()]);
    let nodes = &cluster.nodes;
    let watchers: Vec<_> = nodes.iter().map(watcher).collect();
    let report = harness::scratch(&format!("presence-{clients}")).join("report.json");
    let mut command = Command::new(harness::loadtest_program());
    let processes = clients.div_ceil(15_000);
    let options =
        format!("crowd --clients {clients} --rest 3 --patience 30 --processes {processes} --strict");
    command.args(options.split(' ')).arg("--json").arg(&report);
    for node in nodes {
        command.args(["--target", node.public()]);
    }
    let began = Instant::now();
    assert!(command.status().expect("the load generator runs").success(), "everybody is answered");
    let report = std::fs::read_to_string(&report).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let join = report["phases"].as_array().and_then(|all| all.iter().find(|it| it["name"] == "join"));
    let join = join.expect("the phase");
    assert_eq!(join["delivered"], clients, "{join}");
    let took = Duration::from_secs_f64(join["seconds"].as_f64().expect("seconds"));

    // All have gone: the last ones were told one by one.
    let mut last = WebSocket::socketio(nodes[0].public());
    last.send(r#"420["join","crowd"]"#);
    while !last.text().starts_with("430[{\"ok\":true") {}
    harness::until(harness::DEADLINE, || {
        last.send(r#"421["members","crowd"]"#);
        let answer = loop {
            let text = last.text();
            if text.starts_with("431[") {
                break text;
            }
            if text == "2" {
                last.send("3");
            }
        };
        (answer.matches("\"id\"").count() == watchers.len() + 1).then_some(())
    })
    .expect("nobody but the watchers is left");
    last.send(r#"42["message","crowd","end"]"#);
    let seconds = began.elapsed().as_secs() as usize;
    for watcher in watchers {
        let heard = watcher.join().expect("it has heard the end");
        assert_eq!(heard.counts.iter().max(), Some(&((clients + nodes.len()) as u64)), "{heard:?}");
        // The later watchers and the last one were told of, too. Who is gone was counted until there were few.
        let few = limit + nodes.len() + 1;
        assert!(heard.joined <= few && heard.left <= few && heard.counts.len() <= seconds + 3, "{heard:?}");
        assert!(heard.left >= limit / 2, "{heard:?}");
    }
    for node in nodes {
        for event in ["degraded_no_answer", "degraded_lease_expired", "degraded_lease_lost"] {
            let event = format!("signalbox_cluster_events_total{{event=\"{event}\"}}");
            assert_eq!(sample(node, &event), 0.0, "{event}");
        }
    }
    took
}

#[test]
fn cluster_members_of_a_crowd_are_told_how_many_they_are() {
    a_crowd_joins(2_000, 100);
}

#[test]
#[ignore = "takes a minute: cargo xtask soak"]
fn soak_cluster_twenty_thousand_join_one_room() {
    let took = a_crowd_joins(20_000, 1_000);
    #[expect(clippy::print_stderr, reason = "the figure is what the soak lane is for")]
    {
        eprintln!("20,000 clients of three nodes have joined one room within {took:?}");
    }
    if !cfg!(debug_assertions) {
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
