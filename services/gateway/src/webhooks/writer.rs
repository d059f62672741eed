//! Takes what happens on this node, and puts it into the queue, in order.

use std::time::Duration;

use signalbox_admin::events::{Event, EventKind};
use signalbox_cluster_redis::HookEntry;
use signalbox_node::{Metrics, admin::EventFeed};
use tokio::{sync::Notify, time::sleep};

use super::{
    message,
    queue::{LANES, Queue},
};

/// Events that are written at once.
const BATCH: usize = 256;
/// How long a queue is left alone that is full.
const FULL: Duration = Duration::from_millis(20);
/// How long one is left alone that is away.
const AWAY: Duration = Duration::from_millis(250);

/// Writes for as long as the node runs. `pending` is what was taken and is not written yet; `written` is told that there is more to send.
pub(super) async fn run(
    feed: &mut EventFeed,
    queue: &Queue,
    metrics: &Metrics,
    pending: &mut Vec<Event>,
    written: &Notify,
) {
    loop {
        if pending.is_empty() {
            feed.next(pending, BATCH).await;
        }
        count_dropped(metrics, pending);
        write(queue, pending).await;
        written.notify_one();
    }
}

/// Writes what there is now.
pub(super) async fn finish(feed: &mut EventFeed, queue: &Queue, metrics: &Metrics, pending: &mut Vec<Event>) {
    loop {
        if pending.is_empty() {
            feed.take(pending, BATCH);
        }
        if pending.is_empty() {
            return;
        }
        count_dropped(metrics, pending);
        write(queue, pending).await;
    }
}

fn count_dropped(metrics: &Metrics, events: &[Event]) {
    let dropped = events.iter().filter(|event| event.kind == EventKind::Dropped);
    metrics.webhook_dropped.inc_by(dropped.filter_map(|event| event.count).sum());
}

/// Writes what can be written, and waits if that is not all. What is not written stays, so that nothing of its lane overtakes it.
async fn write(queue: &Queue, pending: &mut Vec<Event>) {
    let mut pause = None;
    for lane in 0..LANES {
        let of_lane: Vec<HookEntry> =
            pending.iter().filter(|event| message::lane(event) == lane).map(message::entry).collect();
        if of_lane.is_empty() {
            continue;
        }
        // Where it is not known what was written, it is written again: the ids of the events are the same.
        let appended = queue.append(lane, &of_lane).await;
        let mut left = appended.unwrap_or(0);
        if left < of_lane.len() {
            pause = Some(if appended.is_ok() { FULL } else { AWAY });
        }
        pending.retain(|event| {
            let is_taken = left > 0 && message::lane(event) == lane;
            left -= usize::from(is_taken);
            !is_taken
        });
    }
    if let Some(pause) = pause {
        sleep(pause).await;
    }
}
