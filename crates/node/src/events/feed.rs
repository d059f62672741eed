//! Events for somebody who has to get all of them: webhooks.

use std::sync::{Arc, atomic::Ordering};

use signalbox_admin::events::{Event, EventKind};
use tokio::sync::mpsc;

use super::{hub::EventHub, sink::Sink};

/// The events of this node, in their order, and those of the other nodes' coming and going.
pub struct EventFeed {
    hub: Arc<EventHub>,
    queue: mpsc::Receiver<Event>,
}

impl std::fmt::Debug for EventFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventFeed").finish_non_exhaustive()
    }
}

impl EventHub {
    /// Has events of these kinds fed to somebody, of whom there is one at most; `None` for another one. At most `queue` of them wait.
    pub(crate) fn feed(self: &Arc<Self>, kinds: &[EventKind], queue: usize) -> Option<EventFeed> {
        let (sender, receiver) = mpsc::channel(queue.max(1));
        let kinds = kinds.iter().fold(0, |kinds, kind| kinds | kind.bit());
        self.feed.set(Sink::new(kinds, sender)).ok()?;
        self.wanted.fetch_or(kinds, Ordering::Relaxed);
        Some(EventFeed { hub: self.clone(), queue: receiver })
    }
}

impl EventFeed {
    /// Puts the next events behind those that are in `batch`, at most so many, and waits for the first.
    pub async fn next(&mut self, batch: &mut Vec<Event>, most: usize) {
        self.queue.recv_many(batch, most).await;
        self.note_lost(batch);
    }

    /// The same without waiting.
    pub fn take(&mut self, batch: &mut Vec<Event>, most: usize) {
        for _ in 0..most {
            let Ok(event) = self.queue.try_recv() else { break };
            batch.push(event);
        }
        self.note_lost(batch);
    }

    /// A marker that so many events were lost, for this reason.
    pub fn dropped(&self, count: u64, reason: &str) -> Event {
        let reason = Some(reason.to_owned());
        self.hub.complete(Event { count: Some(count), reason, ..Event::of(EventKind::Dropped) })
    }

    fn note_lost(&self, batch: &mut Vec<Event>) {
        let lost = self.hub.feed.get().map_or(0, Sink::take_lost);
        if lost > 0 {
            batch.push(self.dropped(lost, "queue"));
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_cluster::NodeTag;
    use signalbox_telemetry::Metrics;

    use super::*;

    #[tokio::test]
    async fn a_feed_gets_what_it_wants_also_while_nobody_listens() {
        let hub = Arc::new(EventHub::new(NodeTag(7), None, Metrics::new()));
        let mut feed = hub.feed(&[EventKind::Join], 2).unwrap();
        assert!(hub.feed(&[EventKind::Leave], 2).is_none());
        assert!(hub.wants(EventKind::Join) && !hub.wants(EventKind::Leave));
        for kind in [EventKind::Join, EventKind::Leave, EventKind::Join, EventKind::Join] {
            hub.report(Event::of(kind));
        }
        let mut batch = Vec::new();
        feed.next(&mut batch, 10).await;
        let kinds: Vec<_> = batch.iter().map(|event| (event.kind, event.count)).collect();
        assert_eq!(kinds, [(EventKind::Join, None), (EventKind::Join, None), (EventKind::Dropped, Some(1))]);
    }
}
