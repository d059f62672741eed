//! Clients that are sent away, so that other nodes have them.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use signalbox_admin::orders::NodeOutcome;
use tokio::time::sleep;

use super::Peering;
use crate::{
    protocol::inquiry::Answer,
    routing::Reply,
    shard::mailbox::{ShardMessage, ShedOrder},
};

/// Most clients of one order.
const MOST: u64 = 10_000;
/// An order is spread over so many slices, less than a second together: who gave it is answered in time.
const SLICES: u64 = 8;
const SLICE: Duration = Duration::from_millis(110);

impl Peering {
    /// Sends so many Socket.IO clients of this node away, those that have been here longest first. They are told nothing but that their
    /// transport is closed, so they connect again.
    pub(super) async fn shed_here(self: &Arc<Self>, clients: u64) -> Answer {
        let clients = clients.min(MOST);
        let shards = self.mailboxes.shards().count() as u64;
        let (mut done, mut ordered, mut turn) = (0, 0, 0);
        for slice in 1..=SLICES {
            // What is even, whatever it divides into.
            let count = clients * slice / SLICES - ordered;
            ordered += count;
            let mut parts = Vec::new();
            for nth in 0..shards {
                let sessions = count / shards + u64::from(nth < count % shards);
                if sessions > 0 {
                    let (reply, part) = Reply::channel();
                    let order =
                        ShedOrder { sessions: sessions as usize, done: 0, turns: shards as usize - 1, reply };
                    self.mailboxes.push(((turn + nth) % shards) as u8, ShardMessage::Shed(order));
                    parts.push(part);
                }
            }
            turn = (turn + count) % shards;
            done += join_all(parts).await.into_iter().filter_map(Result::ok).sum::<usize>() as u64;
            if slice < SLICES {
                sleep(SLICE).await;
            }
        }
        Answer::Done(vec![NodeOutcome { node: self.node.to_string(), matched: clients, done }], Vec::new())
    }
}
