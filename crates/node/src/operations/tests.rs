//! Operations of a node whose program does nothing of what it is asked, and of records that do not stay as they were written.

use std::time::Duration;

use signalbox_admin::operations::OperationStatus::*;

use super::{drain::Draining, rebalance::Rebalance, *};
use crate::{App, Config, Metrics, Node, operation_store::OperationStore};

fn node() -> Node {
    Node::new(Config { shards: 1, ..Config::default() }, App::new(), Metrics::new())
}

fn new(key: Option<&str>) -> NewOperation {
    let until = Instant::now() + Duration::from_secs(5);
    NewOperation { started_by: "a test".to_owned(), key: key.map(str::to_owned), until }
}

/// What the store has of an operation.
async fn stored(node: &Node, id: &str) -> Versioned {
    let all = node.shared.operations.read(false).await.unwrap();
    all.into_iter().find(|it| it.operation.id == id).unwrap()
}

/// Until an operation has this status; what it says then.
async fn reached(node: &Node, id: &str, status: OperationStatus) -> Operation {
    for _ in 0..100 {
        let known = stored(node, id).await.operation;
        if known.status == status {
            return known;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", stored(node, id).await);
}

#[actix_rt::test]
async fn a_drain_that_the_program_does_not_begin_can_be_stopped_and_stays_stopped() {
    let node = node();
    actix_rt::spawn(run(node.shared.clone()));
    let id = node.begin_drain(&node.tag(), &new(None)).await.unwrap().id;
    // Its own look has had the node asked for it.
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if stored(&node, &id).await.version > 1 {
            break;
        }
    }
    node.stop_operation(&id, Instant::now() + Duration::from_secs(5)).await.unwrap().unwrap();
    let OperationStore::Alone(table) = &node.shared.operations else { panic!("it is alone") };
    let before = table.lock().clone();
    let stopped = reached(&node, &id, Stopped).await;
    assert!(!node.is_draining());
    // The program asks too late.
    let asked = tokio::time::timeout(Duration::from_millis(50), node.drain_requested()).await;
    assert!(asked.is_err(), "there is nothing to drain");
    // The store forgets that it is over.
    *table.lock() = before;
    assert_eq!(stored(&node, &id).await.operation.status, Stopping);
    assert_eq!(reached(&node, &id, Stopped).await, stopped);
}

#[actix_rt::test]
async fn a_drain_that_does_not_begin_has_failed_and_another_one_may_begin() {
    let node = node();
    let begun = node.begin_drain(&node.tag(), &new(None)).await.unwrap();
    let mut own = None;
    for _ in 0..100 {
        let of = stored(&node, &begun.id).await;
        if of.operation.status.is_over() {
            break;
        }
        Draining::look(&mut own, &node.shared, of).await;
    }
    let failed = stored(&node, &begun.id).await.operation;
    assert_eq!(failed.status, Failed);
    assert!(failed.detail.contains("drain_requested"), "{}", failed.detail);
    assert!(own.is_none() && node.shared.lifecycle.request_drain());
}

#[actix_rt::test]
async fn a_request_that_is_sent_again_with_its_key_begins_what_it_has_begun() {
    let node = node();
    let first = node.begin_drain(&node.tag(), &new(Some("key"))).await.unwrap();
    let again = node.begin_drain(&node.tag(), &new(Some("key"))).await.unwrap();
    assert_eq!((&first.id, first.started_at), (&again.id, again.started_at));
    for other in [None, Some("another")] {
        let refused = node.begin_drain(&node.tag(), &new(other)).await;
        assert_eq!(refused, Err(CannotBegin::Busy(first.id.clone())));
    }
    // The same key for something else is another operation.
    let other = node.begin_rebalance(5, &new(Some("key"))).await.unwrap();
    assert!(other.id != first.id && other.kind == OperationKind::Rebalance, "{other:?}");
}

#[actix_rt::test]
async fn a_rebalance_knows_what_it_has_done_though_somebody_has_written_meanwhile() {
    let node = node();
    let begun = node.begin_rebalance(5, &new(None)).await.unwrap();
    let mut stale = stored(&node, &begun.id).await;
    stale.version += 7;
    stale.operation.done = 23;
    let kept = Rebalance::new(&stale.operation).step(&node.shared, stale.clone()).await;
    assert!(kept.is_some_and(|kept| kept.done == 23));
    stale.operation.status = Stopping;
    assert!(Rebalance::new(&stale.operation).step(&node.shared, stale).await.is_some());
}

#[actix_rt::test]
async fn a_drain_of_a_node_that_had_drained_when_it_was_begun_is_done() {
    let node = node();
    let mut ids = Vec::new();
    for (runner, earlier) in [(NodeTag(7), Some(Done)), (NodeTag(8), Some(Stopped)), (NodeTag(9), None)] {
        if let Some(status) = earlier {
            let begun =
                node.shared.begin_operation(OperationKind::Drain, runner, None, &new(None)).await.unwrap();
            node.shared.end(&mut stored(&node, &begun.id).await, status, "at an earlier time").await;
        }
        let begun =
            node.shared.begin_operation(OperationKind::Drain, runner, None, &new(None)).await.unwrap();
        ids.push(begun.id);
    }
    // None of the nodes is there.
    actix_rt::spawn(run(node.shared.clone()));
    for (id, status) in ids.iter().zip([Done, Failed, Failed]) {
        reached(&node, id, status).await;
    }
}
