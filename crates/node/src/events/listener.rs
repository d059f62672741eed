//! One who listens to what happens in the cluster, at this node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use signalbox_admin::events::{Event, EventFilter, EventKind, ToldEvent};

use super::{
    hub::{EventHub, Source},
    ring::Part,
};

/// Events that a listener gets at once.
const BATCH: usize = 256;
/// How often a listener that waits says that it is there.
const RENEW: Duration = Duration::from_secs(5);

/// Reads the events of the cluster at its own pace. Dropping it ends it; for a minute what happens is recorded on, so that it can come back
/// without a gap.
pub struct EventListener {
    hub: Arc<EventHub>,
    filter: EventFilter,
    run: u32,
    next: u64,
    seen: Arc<AtomicU64>,
    /// What it is told first: that it came back for something that is not known any more, and which nodes do not answer.
    first: Vec<Arc<Event>>,
}

/// Tells from outside how far a listener has come.
#[derive(Clone)]
pub struct ListenerGauge {
    hub: Arc<EventHub>,
    run: u32,
    next: Arc<AtomicU64>,
}

impl std::fmt::Debug for ListenerGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerGauge").field("next", &self.next).finish_non_exhaustive()
    }
}

impl ListenerGauge {
    /// Whether what it has to read next is not known any more.
    pub fn is_behind(&self) -> bool {
        let all = &self.hub.recording.lock().all;
        all.run != self.run || self.next.load(Ordering::Relaxed) < all.ring.start()
    }
}

/// A listener has read so slowly that events which it has not seen are not known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FellBehind {
    /// How many.
    pub missed: u64,
}

/// What a listener gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What its filter admits.
    pub events: Vec<ToldEvent>,
    /// Up to where it has come, which may be further than the last of them.
    pub position: String,
}

impl std::fmt::Debug for EventListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventListener").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        let recording = &mut *self.hub.recording.lock();
        recording.listeners -= 1;
        recording.all.want(Instant::now());
        self.hub.metrics.event_listeners.dec();
    }
}

impl EventListener {
    /// Goes on behind this position, if it is one of this node that is still known; else it is told to resync, and goes on from now.
    pub(crate) fn new(hub: &Arc<EventHub>, filter: EventFilter, after: Option<&str>) -> Self {
        let recording = &mut *hub.recording.lock();
        recording.listeners += 1;
        recording.all.want(Instant::now());
        hub.metrics.event_listeners.inc();
        let (run, start, end) = (recording.all.run, recording.all.ring.start(), recording.all.ring.end());
        let known = after
            .and_then(|after| read(after, &hub.tag))
            .filter(|(of, next)| *of == run && (start..=end).contains(next));
        let has_missed = after.is_some() && known.is_none();
        let resync = has_missed.then(|| Arc::new(hub.complete(Event::of(EventKind::Resync))));
        let missing = recording.sources.values().filter_map(|source| match source {
            Source::Missing(marker) => Some(marker.clone()),
            Source::Asked | Source::Attached => None,
        });
        let first = resync.into_iter().chain(missing).collect();
        let next = known.map_or(end, |(_, next)| next);
        Self { hub: hub.clone(), filter, run, next, seen: Arc::new(AtomicU64::new(next)), first }
    }

    /// What has happened since, as soon as there is something that it wants; nothing after some seconds, with the position that it has come to.
    ///
    /// # Errors
    /// It was too slow. It goes on with what is known.
    pub async fn next(&mut self) -> Result<Told, FellBehind> {
        let hub = self.hub.clone();
        let until = tokio::time::Instant::now() + RENEW;
        let first = std::mem::take(&mut self.first).into_iter();
        let mut events: Vec<ToldEvent> = first.map(|event| self.told(self.next, event)).collect();
        if !events.is_empty() {
            return Ok(Told { events, position: self.position() });
        }
        loop {
            let changed = hub.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let Part { events: found, first, missed } = {
                let all = &mut hub.recording.lock().all;
                all.want(Instant::now());
                all.ring.from(self.next, BATCH)
            };
            if missed > 0 {
                self.next = first;
                self.seen.store(first, Ordering::Relaxed);
                hub.metrics.events_dropped.with_label_values(&["slow_listener"]).inc_by(missed);
                return Err(FellBehind { missed });
            }
            let is_all = found.len() < BATCH;
            for event in found {
                self.next += 1;
                if self.filter.admits(&event) {
                    events.push(self.told(self.next, event));
                }
            }
            self.seen.store(self.next, Ordering::Relaxed);
            if !events.is_empty() {
                return Ok(Told { events, position: self.position() });
            }
            // What is not for it must not keep it silent.
            let is_over = tokio::time::Instant::now() >= until;
            if is_over || is_all && tokio::time::timeout_at(until, changed).await.is_err() {
                return Ok(Told { events, position: self.position() });
            }
        }
    }

    /// Tells from outside how far it has come.
    pub fn gauge(&self) -> ListenerGauge {
        ListenerGauge { hub: self.hub.clone(), run: self.run, next: self.seen.clone() }
    }

    /// A marker of its own, with the place where it is.
    pub fn marker(&self, kind: EventKind, count: u64, reason: &str) -> ToldEvent {
        let event = Event { count: Some(count), reason: Some(reason.to_owned()), ..Event::of(kind) };
        self.told(self.next, Arc::new(self.hub.complete(event)))
    }

    /// The position behind everything before this number.
    fn told(&self, next: u64, event: Arc<Event>) -> ToldEvent {
        ToldEvent { position: write(&self.hub.tag, self.run, next), event }
    }

    /// Up to where it has come.
    pub fn position(&self) -> String {
        write(&self.hub.tag, self.run, self.next)
    }
}

fn write(node: &str, run: u32, next: u64) -> String {
    format!("{node}.{run}.{next}")
}

fn read(position: &str, node: &str) -> Option<(u32, u64)> {
    let (run, next) = position.strip_prefix(node)?.strip_prefix('.')?.split_once('.')?;
    Some((run.parse().ok()?, next.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use signalbox_cluster::NodeTag;
    use signalbox_telemetry::Metrics;

    use super::*;
    use crate::events::hub::{OwnEvents, Progress, Reports};

    fn hub() -> Arc<EventHub> {
        Arc::new(EventHub::new(NodeTag(7), Some("seven"), Metrics::new()))
    }

    fn listen(hub: &Arc<EventHub>, after: Option<&str>) -> (EventListener, Option<Reports>) {
        let listener = EventListener::new(hub, EventFilter::default(), after);
        (listener, hub.take_reports())
    }

    fn report(hub: &EventHub, count: u64) {
        hub.report(Event { count: Some(count), ..Event::of(EventKind::Join) });
    }

    fn counts(told: &Told) -> Vec<(EventKind, Option<u64>)> {
        told.events.iter().map(|told| (told.event.kind, told.event.count)).collect()
    }

    #[test]
    fn nothing_is_wanted_before_somebody_listens() {
        let hub = hub();
        assert!(EventKind::ALL.into_iter().all(|kind| !hub.wants(kind)));
        report(&hub, 1);
        let (_listener, reports) = listen(&hub, None);
        assert!(
            hub.wants(EventKind::Join) && reports.is_some_and(|mut reports| reports.0.try_recv().is_err())
        );
    }

    #[tokio::test]
    async fn whoever_comes_back_goes_on_where_it_was() {
        let hub = hub();
        let (mut listener, reports) = listen(&hub, None);
        let mut reports = reports.unwrap();
        report(&hub, 1);
        hub.record(&mut reports).await;
        let told = listener.next().await.unwrap();
        assert_eq!(counts(&told), [(EventKind::Join, Some(1))]);
        assert_eq!((&*told.events[0].event.node, &*told.events[0].event.node_name), ("00000007", "seven"));
        drop(listener);
        report(&hub, 2);
        hub.record(&mut reports).await;
        let mut reports = hub.goes_on(reports).expect("it is recorded for a minute");
        let (mut listener, none) = listen(&hub, Some(&told.position));
        assert!(none.is_none());
        assert_eq!(counts(&listener.next().await.unwrap()), [(EventKind::Join, Some(2))]);
        // A place of another node, or of another time, is not known.
        for unknown in ["00000008.0.1", "00000007.9.1", "00000007.0.99", "x"] {
            let (mut other, _) = listen(&hub, Some(unknown));
            assert_eq!(counts(&other.next().await.unwrap()), [(EventKind::Resync, None)], "{unknown}");
            report(&hub, 3);
            hub.record(&mut reports).await;
            assert_eq!(counts(&other.next().await.unwrap()), [(EventKind::Join, Some(3))], "{unknown}");
        }
    }

    #[tokio::test]
    async fn whoever_is_too_slow_is_told_so_and_what_the_queue_drops_too() {
        let hub = hub();
        let (mut listener, reports) = listen(&hub, None);
        let mut reports = reports.unwrap();
        for round in 0..3 {
            for count in 0..10_000 {
                report(&hub, count);
            }
            // The queue holds 8,192 of them.
            for _ in 0..16 {
                hub.record(&mut reports).await;
            }
            assert_eq!(hub.lost.load(std::sync::atomic::Ordering::Relaxed), 0, "{round}");
        }
        assert!(matches!(listener.next().await, Err(FellBehind { missed: 1.. })));
        let mut dropped = Vec::new();
        while let Ok(Told { events, .. }) = listener.next().await {
            dropped.extend(
                events
                    .iter()
                    .filter(|told| told.event.kind == EventKind::Dropped)
                    .map(|told| told.event.count),
            );
            if listener.next == hub.recording.lock().all.ring.end() {
                break;
            }
        }
        assert!(dropped.contains(&Some(10_000 - 8_192)), "{dropped:?}");
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_named_once_and_so_is_its_return() {
        let hub = hub();
        let (mut listener, _reports) = listen(&hub, None);
        hub.set_sources(&[NodeTag(8)]);
        hub.remember_name(NodeTag(8), "eight");
        hub.missing(NodeTag(8), "eight", "timeout");
        hub.missing(NodeTag(8), "eight", "timeout");
        let progress = Progress { run: 0, next: 4 };
        hub.collected(NodeTag(8), OwnEvents { progress, missed: Some(3), events: Vec::new() });
        let told = listener.next().await.unwrap();
        assert_eq!(
            counts(&told),
            [(EventKind::Missing, None), (EventKind::Back, None), (EventKind::Dropped, Some(3))]
        );
        assert!(told.events.iter().all(|told| &*told.event.node_name == "eight"));
        // Whoever comes now is told of those that are missing now.
        let (mut late, _) = listen(&hub, None);
        hub.missing(NodeTag(8), "eight", "unreachable");
        let (mut later, _) = listen(&hub, None);
        for listener in [&mut late, &mut later] {
            assert_eq!(counts(&listener.next().await.unwrap()), [(EventKind::Missing, None)]);
        }
    }
}
