//! What nodes share: ids, peer messages, rooms, users.

use std::time::{Duration, Instant};

use bytes::Bytes;
use signalbox_cluster::{
    PeerAt, Scope,
    command::{Claimed, Command, Delivery},
};

use super::{
    node::{Node, room},
    server::{Server, until},
};

#[test]
fn an_id_has_one_holder_among_nodes_and_peer_messages_find_it() {
    let server = Server::start();
    ids_and_peer_messages(&Node::start(&server, 1), &Node::start(&server, 2));
}

pub(super) fn ids_and_peer_messages(one: &Node, two: &Node) {
    let a = one.claim(1, "a", "t").expect("free");
    assert_eq!(two.claim(1, "a", "other"), None);
    let b = two.claim(2, "b", "t").expect("free");
    one.send(1, a, "a", "b", "hello");
    assert_eq!(two.peer_message(), "hello");
    // Remembered, and answered.
    one.send(1, a, "a", "b", "again");
    two.send(2, b, "b", "a", "back");
    assert_eq!((two.peer_message().as_str(), one.peer_message().as_str()), ("again", "back"));
    // The same token takes over from another node.
    let later = two.claim(3, "a", "t").expect("the same token");
    assert!(later > a);
    let superseded = one.delivery(|delivery| match delivery {
        Delivery::Superseded(at) => Some(at.generation),
        _ => None,
    });
    assert_eq!(superseded, a);
}

#[test]
fn tokens_of_peers_stand_nowhere_as_they_are() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    // Both know of each other, and of the secret.
    until(|| (one.cluster.nodes().len() == 2 && two.cluster.nodes().len() == 2).then_some(()));
    until(|| (one.link.get().is_some() && two.link.get().is_some()).then_some(()));
    let commands = server.monitor();
    let a = one.claim(1, "a", "hush-hush").expect("free");
    // To a peer elsewhere, to one that is absent, and about its end.
    two.claim(2, "b", "hush-hush-too").expect("free");
    one.send(1, a, "a", "b", "hello");
    assert_eq!(two.peer_message(), "hello");
    one.send(1, a, "a", "nobody", "lost");
    let number = one.delivery(|delivery| match delivery {
        Delivery::Waiting { number, .. } => Some(*number),
        _ => None,
    });
    one.submit(Command::Expire { realm: 0, src: "a".into(), dst: "nobody".into(), number });
    assert!(one.peer_message().contains("EXPIRE"));
    assert_eq!(two.claim(3, "a", "other"), None);
    two.claim(3, "a", "hush-hush").expect("the same token");
    let log = commands.until("the-end");
    assert!(log.to_ascii_lowercase().contains("evalsha"), "{log}");
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn peer_messages_keep_their_order_while_their_peer_is_looked_for() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let a = one.claim(1, "a", "t").expect("free");
    for peer in 0..20 {
        let id = format!("b{peer}");
        assert!(two.claim(100 + peer, &id, "t").is_some());
        let sent: Vec<String> = (0..50).map(|number| format!("{peer}/{number}")).collect();
        for text in &sent {
            one.send(1, a, "a", &id, text);
            // The store answers somewhere in between.
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(50) {}
        }
        let heard: Vec<String> = sent.iter().map(|_| two.peer_message()).collect();
        assert_eq!(heard, sent);
    }
}

#[test]
fn a_node_that_joins_a_healthy_cluster_is_whole_at_once() {
    let server = Server::start();
    let one = Node::start(&server, 1);
    assert!(!one.cluster.is_stable(), "an empty store may have lost everything just now");
    until(|| one.cluster.is_stable().then_some(()));
    let two = Node::start(&server, 2);
    assert!(two.cluster.is_stable());
    server.ask("FLUSHALL");
    let three = Node::start(&server, 3);
    assert!(!three.cluster.is_stable());
}

#[test]
fn a_peer_message_waits_for_a_claim_elsewhere_or_expires() {
    let server = Server::start();
    peer_messages_wait(&Node::start(&server, 1), &Node::start(&server, 2));
}

pub(super) fn peer_messages_wait(one: &Node, two: &Node) {
    let a = one.claim(1, "a", "t").expect("free");
    one.send(1, a, "a", "b", "early");
    let number = one.delivery(|delivery| match delivery {
        Delivery::Waiting { number, .. } => Some(*number),
        _ => None,
    });
    let at = PeerAt { shard: 0, key: 9, generation: 0 };
    two.submit(Command::Claim { at, ticket: 9, realm: 0, id: "b".into(), token: "t".into() });
    let waiting = two.delivery(|delivery| match delivery {
        Delivery::Claimed { claimed: Claimed::Granted { waiting, .. }, .. } => {
            Some(waiting.iter().map(|frame| frame.payload().to_vec()).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(waiting, [b"early"]);
    one.submit(Command::Expire { realm: 0, src: "a".into(), dst: "b".into(), number });

    one.send(1, a, "a", "nobody", "lost");
    let number = one.delivery(|delivery| match delivery {
        Delivery::Waiting { number, .. } => Some(*number),
        _ => None,
    });
    one.submit(Command::Expire { realm: 0, src: "a".into(), dst: "nobody".into(), number });
    assert!(one.peer_message().contains("EXPIRE"));
}

#[test]
fn rooms_and_users_are_shared() {
    let server = Server::start();
    rooms_and_users(&Node::start(&server, 1), &Node::start(&server, 2));
}

pub(super) fn rooms_and_users(one: &Node, two: &Node) {
    let (first, others) = one.join(&room(), 1);
    assert_eq!(others, []);
    let (second, others) = two.join(&room(), 2);
    assert_eq!(others, [first]);
    assert_eq!(one.change(), ("joined", second));

    one.cluster.broadcast(Instant::now(), Scope::Room(&room()), Bytes::from_static(b"to the room"));
    one.cluster.broadcast(Instant::now(), Scope::Everywhere, Bytes::from_static(b"to all"));
    until(|| (two.mailboxes.broadcasts.lock().len() == 2).then_some(()));
    assert!(one.mailboxes.broadcasts.lock().is_empty());
    assert!(one.cluster.send_to_node(Instant::now(), two.tag, Bytes::from_static(b"you")));
    until(|| (*two.mailboxes.node_messages.lock() == ["you"]).then_some(()));

    let users = |node: &Node, ticket| {
        node.submit(Command::Users { shard: 0, ticket, namespace: "/".into(), after: None });
        node.delivery(|delivery| match delivery {
            Delivery::Users { users, .. } => {
                Some(users.iter().map(|(socket, _)| *socket).collect::<Vec<_>>())
            }
            _ => None,
        })
    };
    until(|| (users(one, 5) == [first, second]).then_some(()));

    two.submit(Command::Leave { room: room(), socket: second });
    assert_eq!((one.change(), two.change()), (("left", second), ("left", second)));
}

#[test]
fn a_node_that_leaves_is_forgotten_with_what_it_had() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let (_, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert_eq!(one.change(), ("joined", second));
    until(|| (one.cluster.nodes().len() == 2).then_some(()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(two.cluster.leave(Instant::now()));
    assert_eq!(one.change(), ("left", second));
    until(|| (one.cluster.nodes().len() == 1).then_some(()));
}

#[test]
fn a_user_with_a_password_and_a_database_of_its_own() {
    let server = Server::start();
    let rights = "on >open-sesame ~test:* &test:* +@all";
    assert!(server.ask(&format!("ACL SETUSER ann {rights}")).starts_with("+OK"));
    let url = format!("redis://ann:open-sesame@127.0.0.1:{}/3", server.port);
    let one = Node::at(&url, 1);
    assert!(one.claim(1, "a", "t").is_some());
    assert!(server.ask("INFO keyspace").contains("db3:"));
}
