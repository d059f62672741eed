//! What an operator sees of a cluster: Debian's Prometheus scrapes three nodes while clients come, talk and go, Redis is away for a moment,
//! one node dies and another drains. Then every expression of every dashboard returns data.

mod harness;

use std::{collections::BTreeSet, time::Duration};

use harness::{
    DEADLINE, Server,
    http::{get, request},
    prometheus::{Prometheus, expressions},
    redis::Redis,
    scratch, until,
    websocket::WebSocket,
};

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
    let listeners: Vec<&str> = nodes.iter().map(Server::management).collect();
    let prometheus = Prometheus::start(&scratch("prometheus"), &listeners);
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

    // That of the TURN service is shown by its own tests.
    let expressions = expressions(|file| file != "turn.json");
    assert!(expressions.len() > 100);
    let mut missing: BTreeSet<&(String, String)> = expressions.iter().collect();
    until(Duration::from_secs(60), || {
        missing.retain(|(_, expression)| prometheus.series(expression) == 0);
        missing.is_empty().then_some(())
    });
    assert!(missing.is_empty(), "these returned nothing:\n{missing:#?}");
}
