//! Redis goes away, comes back empty or fails over; nodes die.

use std::time::Instant;

use bytes::Bytes;
use redis::{Value, cmd};
use signalbox_cluster::{ClusterEvent, DegradedReason, Scope, Status, command::Delivery};
use signalbox_node_link::RemoteNode;

use super::{
    node::{Node, room},
    server::{Server, until},
};
use crate::{Keys, RESPONSE, backend::Backend, calls::Context, commands::Commands, scripts::Scripts};

#[test]
fn nodes_find_each_other_past_redis() {
    let mut server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let peer = until(|| RemoteNode::find(&one.cluster, two.tag));
    let link = until(|| one.link.get());
    until(|| two.link.get());
    // The address is remembered through an outage.
    server.stop();
    one.wait_until(Status::Degraded);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(link.request(peer, 1, Bytes::from_static(b"hello")));
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
}

#[test]
fn what_happens_is_told() {
    let mut server = Server::start();
    let one = Node::start(&server, 1);
    let happened = |what: &dyn Fn(&ClusterEvent) -> bool| {
        until(|| one.mailboxes.events.lock().iter().any(what).then_some(()));
    };
    happened(&|event| matches!(event, ClusterEvent::Online { epoch: 1, degraded_for: None }));
    assert!(one.cluster.can_publish());
    let broadcast = || one.cluster.broadcast(Instant::now(), Scope::Everywhere, Bytes::from_static(b"x"));
    assert!(broadcast());
    // A message of a later version, and one that is nonsense.
    let all = String::from_utf8(Keys::new("test").everywhere().to_vec()).unwrap();
    until(|| server.ask(&format!("PUBLISH {all} \"S\\x09later\"")).starts_with(":1").then_some(()));
    happened(&|event| *event == ClusterEvent::UnknownFormat);
    server.ask(&format!("PUBLISH {all} nonsense"));
    happened(&|event| *event == ClusterEvent::UnreadableMessage);

    server.stop();
    // What is published before the node has noticed is not lost in silence.
    broadcast();
    happened(&|event| *event == ClusterEvent::BroadcastFailed);
    assert!(!one.cluster.can_publish());
    happened(&|event| *event == ClusterEvent::SubscriptionsLost);
    happened(&|event| *event == ClusterEvent::Degraded(DegradedReason::NoAnswer));
    assert!(!broadcast() && !one.cluster.can_publish());
    server.restart();
    happened(&|event| matches!(event, ClusterEvent::Online { epoch: 2.., degraded_for: Some(_) }));
    happened(&|event| *event == ClusterEvent::SubscriptionsRestored);
    until(|| one.cluster.can_publish().then_some(()));
    server.ask("FLUSHALL");
    happened(&|event| *event == ClusterEvent::Degraded(DegradedReason::LeaseLost));
}

#[test]
fn the_links_secret_survives_an_emptied_redis() {
    let server = Server::start();
    let mut nodes = vec![Node::start(&server, 1), Node::start(&server, 2)];
    for node in &nodes {
        until(|| node.link.get());
    }
    server.ask("FLUSHALL");
    // It comes before the others have written the secret again, or after that.
    nodes.push(Node::start(&server, 3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.tag != one.tag) {
            until(|| {
                let link = one.link.get()?;
                let peer = RemoteNode::find(&one.cluster, other.tag)?;
                let answer = runtime.block_on(link.request(peer, 1, Bytes::from_static(b"hello")));
                (answer == Ok(Bytes::from_static(b"hello"))).then_some(())
            });
        }
    }
}

#[test]
fn a_dead_node_is_reaped_and_its_members_say_farewell() {
    let server = Server::start();
    reaping(&Node::start(&server, 1), &Node::start(&server, 2));
}

pub(super) fn reaping(one: &Node, two: &Node) {
    let (_, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert!(two.claim(7, "x", "t").is_some());
    while one.change() != ("joined", second) {}
    // Its driver ends without a word: to the others it is as dead as one that was killed.
    two.cluster.end_driver();
    assert_eq!(one.change(), ("left", second));
    until(|| one.claim(8, "x", "other"));
}

#[test]
fn what_a_node_wrote_after_its_lease_was_deleted_is_reaped_too() {
    let server = Server::start();
    let one = Node::start(&server, 1);
    let two = Node::start(&server, 2);
    // It has just joined. Until its next heartbeat, a second later, it cannot know that its lease is gone.
    server.ask("FLUSHALL");
    assert!(two.claim(7, "x", "t").is_some());
    let (second, _) = two.join(&room(), 2);
    two.cluster.end_driver();
    one.wait_until(Status::Degraded);
    one.wait_until(Status::Online);
    let (_, others) = one.join(&room(), 1);
    assert_eq!(others, [second]);
    // Nobody remembers its lease: it shows in what it wrote.
    assert_eq!(one.change(), ("left", second));
    until(|| one.claim(8, "x", "other"));
}

#[test]
fn an_empty_redis_is_filled_again_and_nobody_is_told_of_it() {
    let mut server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let (first, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert_eq!(one.change(), ("joined", second));
    assert!(one.claim(7, "x", "t").is_some());
    server.restart();
    one.wait_until(Status::Degraded);
    one.wait_until(Status::Online);
    two.wait_until(Status::Online);
    until(|| two.claim(8, "x", "other").is_none().then_some(()));
    let (third, others) = two.join(&room(), 3);
    let mut expected = vec![first, second];
    expected.sort_unstable();
    let mut others = others;
    others.sort_unstable();
    assert_eq!(others, expected);
    assert_eq!(one.change(), ("joined", third), "the others never left");
}

#[test]
fn nodes_follow_a_failover() {
    let mut master = Server::with(&["--repl-diskless-sync-delay", "0"]);
    let port = master.port.to_string();
    let replica = Server::with(&["--replicaof", "127.0.0.1", &port]);
    until(|| replica.ask("INFO replication").contains("master_link_status:up").then_some(()));
    let sentinel = Server::sentinel(master.port);
    until(|| sentinel.ask("SENTINEL REPLICAS main").contains(&replica.port.to_string()).then_some(()));
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let (one, two) = (Node::at(&url, 1), Node::at(&url, 2));
    let (_, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert_eq!(one.change(), ("joined", second));
    assert!(one.claim(7, "x", "t").is_some());
    master.stop();
    one.wait_until(Status::Degraded);
    one.wait_until(Status::Online);
    two.wait_until(Status::Online);
    until(|| two.claim(8, "x", "other").is_none().then_some(()));
    let (third, others) = two.join(&room(), 3);
    assert_eq!(others.len(), 2);
    assert_eq!(one.change(), ("joined", third), "the others never left");
}

#[test]
fn scripts_that_were_flushed_are_loaded_again() {
    let server = Server::start();
    let one = Node::start(&server, 1);
    assert!(one.claim(1, "a", "t").is_some());
    assert!(server.ask("SCRIPT FLUSH").starts_with("+OK"));
    assert!(one.claim(2, "b", "t").is_some());
    assert_eq!(one.cluster.status(), Status::Online);
}

#[test]
fn without_redis_a_node_goes_on_by_itself() {
    let mut server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let (first, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    while one.change() != ("joined", second) {}
    let a = one.claim(1, "a", "t").expect("free");
    server.stop();
    one.wait_until(Status::Degraded);
    two.wait_until(Status::Degraded);
    // Known members stay, local ones come and go.
    let (third, mut others) = one.join(&room(), 3);
    others.sort_unstable();
    let mut expected = vec![first, second];
    expected.sort_unstable();
    assert_eq!(others, expected);
    assert_eq!(one.change(), ("joined", third));
    let b = one.claim(2, "b", "t").expect("free, as far as this node knows");
    one.send(1, a, "a", "b", "local");
    assert_eq!(one.peer_message(), "local");
    let _ = b;
    // The same id on the other node: it was claimed later, and loses it when both meet again.
    let late = two.claim(5, "b", "other").expect("free, as far as that node knows");
    assert!(late > b);
    server.restart();
    one.wait_until(Status::Online);
    two.wait_until(Status::Online);
    let lost = two.delivery(|delivery| match delivery {
        Delivery::Superseded(at) => Some(at.generation),
        _ => None,
    });
    assert_eq!(lost, late);
    // The other node's client hears of who joined meanwhile.
    while two.change() != ("joined", third) {}
}

/// A connection that is used seldom would be found broken by what it is to send.
#[test]
fn where_one_connection_was_lost_the_others_are_made_again_before_they_are_used() {
    let mut server = Server::start();
    let backend = Backend::new(&server.url(), None).unwrap();
    let context = std::sync::Arc::new(Context {
        keys: Keys::new("test"),
        scripts: Scripts::new(),
        realms: Vec::new(),
        expire_timeout_ms: 1_000,
        publish: "PUBLISH",
        metrics: signalbox_telemetry::Metrics::new(),
    });
    let (mut one, mut other) =
        (Commands::new(&backend, context.clone(), RESPONSE), Commands::new(&backend, context, RESPONSE));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let publish = |commands: &mut Commands| {
        let mut publish = cmd("PUBLISH");
        publish.arg("channel").arg("said");
        runtime.block_on(commands.send(vec![publish])).pop().unwrap()
    };
    assert_eq!([publish(&mut one), publish(&mut other)], [Ok(Value::Int(0)), Ok(Value::Int(0))]);
    server.stop();
    assert!(publish(&mut one).is_err());
    server.restart();
    until(|| std::net::TcpStream::connect(("127.0.0.1", server.port)).ok());
    assert_eq!([publish(&mut one), publish(&mut other)], [Ok(Value::Int(0)), Ok(Value::Int(0))]);
}
