//! What waits to be sent to the application is in order, bounded, and belongs to one node at a time.

use std::{sync::Arc, time::Duration};

use signalbox_telemetry::Metrics;

use super::server::Server;
use crate::{HOOK_LANES, HookEntry, HookQueue, HookQueueAway, RedisAccess, backend::Backend};

fn queue(server: &Server, most: usize) -> HookQueue {
    let url = format!("redis://127.0.0.1:{}", server.port);
    let backend = Arc::new(Backend::new(&url, None).unwrap());
    HookQueue::new(&RedisAccess::new(backend, &url, None), "test", Metrics::new(), most)
}

fn entry(text: &str) -> HookEntry {
    HookEntry { text: text.to_owned(), node: None }
}

fn node(text: &str, node: &str, is_there: bool) -> HookEntry {
    HookEntry { text: text.to_owned(), node: Some((node.to_owned(), is_there)) }
}

async fn texts(queue: &HookQueue, lane: usize) -> Vec<String> {
    queue.read(&[lane], 100).await.unwrap().remove(0).into_iter().map(|hook| hook.text).collect()
}

#[tokio::test]
async fn a_lane_keeps_its_order_and_is_bounded() {
    let server = Server::start();
    let queue = queue(&server, 3);
    assert_eq!(queue.append(0, &["a", "b"].map(entry)).await, Ok(2));
    assert_eq!(queue.append(0, &["c", "d", "e"].map(entry)).await, Ok(1));
    assert_eq!(queue.append(1, &[entry("other")]).await, Ok(1));
    assert_eq!(texts(&queue, 0).await, ["a", "b", "c"]);
    let first = queue.read(&[0], 2).await.unwrap().remove(0);
    queue.remove(0, &first.iter().map(|hook| hook.id.clone()).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(queue.append(0, &["d", "e"].map(entry)).await, Ok(2));
    assert_eq!(texts(&queue, 0).await, ["c", "d", "e"]);
    let (waiting, since) = queue.waiting().await.unwrap();
    assert_eq!(waiting, 4);
    assert!(since.is_some_and(|since| since > 1_700_000_000_000));
}

#[tokio::test]
async fn what_every_node_says_of_another_is_kept_once() {
    let server = Server::start();
    let queue = queue(&server, 100);
    let said = [
        node("up", "n", true),
        node("up again", "n", true),
        node("up too", "m", true),
        node("down", "n", false),
    ];
    assert_eq!(queue.append(0, &said).await, Ok(4));
    assert_eq!(queue.append(0, &[node("down again", "n", false), node("back", "n", true)]).await, Ok(2));
    assert_eq!(texts(&queue, 0).await, ["up", "up too", "down", "back"]);
}

#[tokio::test]
async fn a_lane_is_one_nodes_until_that_is_gone_or_gives_it_up() {
    let server = Server::start();
    let queue = queue(&server, 100);
    let all: Vec<usize> = (0..HOOK_LANES).collect();
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(60));
    assert_eq!(queue.lease(&all, "one", short).await, Ok(vec![true; HOOK_LANES]));
    assert_eq!(queue.lease(&[0], "two", long).await, Ok(vec![false]));
    tokio::time::sleep(short * 2).await;
    assert_eq!(queue.lease(&[0], "two", long).await, Ok(vec![true]));
    assert_eq!(queue.lease(&[0], "one", short).await, Ok(vec![false]));
    assert_eq!(queue.lease(&[0], "one", Duration::ZERO).await, Ok(vec![false]));
    assert_eq!(queue.lease(&[0], "two", Duration::ZERO).await, Ok(vec![false]));
    assert_eq!(queue.lease(&[0], "one", short).await, Ok(vec![true]));
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_and_no_loss() {
    let mut server = Server::start();
    let queue = queue(&server, 100);
    assert_eq!(queue.append(0, &[entry("a")]).await, Ok(1));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert_eq!(queue.append(0, &[entry("b")]).await, Err(HookQueueAway));
    server.child = Server::spawn(server.port, &[]);
    let mut answer = Err(HookQueueAway);
    for _ in 0..100 {
        answer = queue.append(0, &[entry("b")]).await;
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(answer, Ok(1));
}
