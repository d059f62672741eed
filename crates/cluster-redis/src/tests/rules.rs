//! Rules are known to every node: within a second, to those that start later, and after an outage.

use std::time::{Duration, Instant};

use super::{
    node::Node,
    server::{Server, until},
};
use crate::{CannotPutRules, RulesHolder as _, VersionedRules};

fn put(node: &Node, text: &str, expected: Option<u64>) -> Result<u64, CannotPutRules> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(node.rules.put(text.to_owned(), expected))
}

fn until_has(node: &Node, version: u64, text: &str) {
    let wanted = VersionedRules { version, text: text.into() };
    until(|| (node.rules_held.latest() == wanted).then_some(()));
}

#[test]
fn rules_that_are_put_are_known_everywhere_within_a_second_and_to_who_comes_later() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let began = Instant::now();
    assert_eq!(put(&one, "first", None), Ok(1));
    assert_eq!(one.rules_held.latest(), VersionedRules { version: 1, text: "first".into() });
    until_has(&two, 1, "first");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    until_has(&Node::start(&server, 3), 1, "first");
    assert_eq!(put(&two, "other", Some(0)), Err(CannotPutRules::Changed(1)));
    assert_eq!(put(&two, "", Some(1)), Ok(2));
    until_has(&one, 2, "");
}

#[test]
fn a_redis_that_forgets_rules_is_told_again_and_one_that_is_away_takes_none() {
    let mut server = Server::start();
    let node = Node::start(&server, 1);
    assert_eq!((put(&node, "a", None), put(&node, "b", None)), (Ok(1), Ok(2)));
    server.ask("FLUSHALL");
    until_has(&Node::start(&server, 2), 2, "b");
    assert_eq!(put(&node, "c", Some(2)), Ok(3));
    server.stop();
    assert_eq!(put(&node, "d", None), Err(CannotPutRules::Unreachable));
    assert_eq!(node.rules_held.latest().version, 3);
}
