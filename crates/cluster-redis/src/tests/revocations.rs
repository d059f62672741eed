//! What is revoked is known to every node: at once, to those that start later, and after an outage.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    node::Node,
    server::{Server, until},
};
use crate::{CannotRevoke, Cutoff, StoredRevocation, revoke_in};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn revocation(what: &str, seconds: Option<u64>) -> StoredRevocation {
    StoredRevocation { what: what.into(), until: seconds.map(|seconds| now() + seconds), cutoff: None }
}

/// Revokes what was issued to somebody before a time.
fn before(name: &str, before: u64, seconds: Option<u64>) -> StoredRevocation {
    let cutoff = Some(Cutoff { name: name.into(), before });
    StoredRevocation { cutoff, ..revocation(&format!("{name} {before}"), seconds) }
}

fn revoke(node: &Node, revocations: &[StoredRevocation]) -> Result<(), CannotRevoke> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(node.revoker.revoke(revocations.to_vec()))
}

/// The key of what is revoked.
fn key() -> String {
    String::from_utf8(crate::Keys::new("test").nodes("revoked").to_vec()).unwrap()
}

fn knows(node: &Node, what: &str) -> bool {
    node.revoked.list.lock().contains_key(what)
}

fn until_known(node: &Node, what: &str) {
    until(|| knows(node, what).then_some(()));
}

#[test]
fn what_is_revoked_is_known_everywhere_within_a_second_and_to_who_comes_later() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let began = Instant::now();
    assert_eq!(revoke(&one, &[revocation("alice", Some(60)), revocation("bob", None)]), Ok(()));
    for node in [&one, &two] {
        until_known(node, "bob");
        until_known(node, "alice");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let list = two.revoked.list.lock().clone();
    assert_eq!(list["bob"], None);
    assert!(list["alice"].is_some_and(|until| until.abs_diff(now() + 60) < 10), "{list:?}");
    until_known(&Node::start(&server, 3), "alice");
}

#[test]
fn a_program_that_is_no_node_revokes_too() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let of_alice = |time: u64| {
        assert!(time.abs_diff(now()) < 10, "the time of Redis: {time}");
        vec![revocation("alice", None)]
    };
    assert_eq!(revoke_in(&server.url(), None, "test", of_alice).unwrap(), Ok(()));
    until_known(&node, "alice");
    assert!(revoke_in("nonsense", None, "test", |_| Vec::new()).is_err());
    let nobody = signalbox_test_support::free_port();
    let refused = revoke_in(&format!("redis://127.0.0.1:{nobody}"), None, "test", of_alice);
    assert_eq!(refused.unwrap(), Err(CannotRevoke::Unreachable));
}

#[test]
fn a_redis_that_forgets_is_told_again_and_a_node_that_cannot_know_says_so() {
    let mut server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    revoke(&one, &[revocation("alice", Some(600))]).unwrap();
    until_known(&two, "alice");
    server.ask("FLUSHALL");
    until(|| server.ask(&format!("ZCARD {}", key())).starts_with(":1").then_some(()));
    until_known(&Node::start(&server, 3), "alice");

    let is_current = |node: &Node| node.revoked.is_current.load(Ordering::Acquire);
    until(|| is_current(&one).then_some(()));
    server.stop();
    until(|| (!is_current(&one) && !is_current(&two)).then_some(()));
    assert_eq!(revoke(&two, &[revocation("bob", None)]), Err(CannotRevoke::Unreachable));
    // What a node knows on its own the others learn when Redis is back, which has come back empty.
    two.revoked.list.lock().insert("bob".into(), None);
    server.restart();
    until_known(&one, "bob");
    until(|| is_current(&one).then_some(()));
    let later = Node::start(&server, 4);
    until_known(&later, "alice");
    until_known(&later, "bob");
}

#[test]
fn what_is_over_is_forgotten_and_the_longer_time_counts() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let of = |what: &str| node.revoked.list.lock().get(what).copied();
    revoke(&node, &[revocation("alice", Some(3600)), revocation("past", Some(1))]).unwrap();
    revoke(&node, &[revocation("alice", Some(60))]).unwrap();
    until_known(&node, "alice");
    assert!(of("alice").flatten().is_some_and(|until| until > now() + 3000));
    revoke(&node, &[revocation("alice", None)]).unwrap();
    until(|| (of("alice") == Some(None)).then_some(()));
    let key = key();
    until(|| {
        revoke(&node, &[revocation("carol", Some(60))]).unwrap();
        server.ask(&format!("ZSCORE {key} past")).starts_with("$-1").then_some(())
    });
    assert!(server.ask(&format!("TTL {key}")).starts_with(":-1"), "one of them is for ever");
}

#[test]
fn there_is_an_end_to_how_many_are_kept() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let many: Vec<_> = (0..100_000).map(|number| revocation(&number.to_string(), None)).collect();
    assert_eq!(revoke_in(&server.url(), None, "test", |_| many).unwrap(), Ok(()));
    assert_eq!(revoke(&node, &[revocation("more", None)]), Err(CannotRevoke::Full));
    assert_eq!(revoke(&node, &[revocation("5", None)]), Ok(()), "it is there already");
    // What revokes many tokens at once has room of its own.
    assert_eq!(revoke(&node, &[before("subject:alice", 5, None), before("all", 7, None)]), Ok(()));
    // One that has none keeps no other out.
    let mixed = [revocation("more", None), before("subject:bob", 5, None)];
    assert_eq!(revoke(&node, &mixed), Err(CannotRevoke::Full));
    until_known(&node, "subject:bob 5");
    until(|| (node.revoked.list.lock().len() == 100_003).then_some(()));
}

#[test]
fn all_nodes_hear_of_what_is_over_already() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let over = StoredRevocation { what: "over".into(), until: Some(now() - 60), cutoff: None };
    assert_eq!(revoke_in(&server.url(), None, "test", |_| vec![over]).unwrap(), Ok(()));
    until_known(&node, "over");
}

#[test]
fn of_one_subject_the_latest_time_is_kept_for_as_long_as_any() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let count = || server.ask(&format!("ZCARD {}", key()));
    for time in [3, 9, 6, 9] {
        revoke(&node, &[before("subject:alice", time, Some(60 + time)), before("all", time, Some(60))])
            .unwrap();
    }
    revoke(&node, &[before("subject:alice", 5, Some(3600)), revocation("one", Some(60))]).unwrap();
    assert!(count().starts_with(":3"), "{}", count());
    let later = Node::start(&server, 2);
    until_known(&later, "one");
    let mut known: Vec<_> = later.revoked.list.lock().clone().into_iter().collect();
    known.sort();
    let whats: Vec<_> = known.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(whats, ["all 9", "one", "subject:alice 9"]);
    assert!(known[2].1.is_some_and(|until| until > now() + 3000), "{known:?}");
    // One that an earlier version has written is known by its text.
    revoke(&node, &[revocation("subject:bob 5", Some(60))]).unwrap();
    revoke(&node, &[before("subject:bob", 5, Some(60))]).unwrap();
    assert!(count().starts_with(":4"), "{}", count());
    // What is over leaves nothing behind.
    let names = String::from_utf8(crate::Keys::new("test").nodes("cutoffs").to_vec()).unwrap();
    revoke(&node, &[before("subject:past", 5, Some(1))]).unwrap();
    assert!(server.ask(&format!("HLEN {names}")).starts_with(":6"));
    until(|| {
        revoke(&node, &[revocation("one", Some(60))]).unwrap();
        server.ask(&format!("HLEN {names}")).starts_with(":4").then_some(())
    });
}
