//! What is wanted of what happens here, and where it is recorded.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use signalbox_admin::events::{Event, EventKind};
use signalbox_cluster::NodeTag;
use signalbox_telemetry::Metrics;
use tokio::sync::{Notify, mpsc};

use super::{
    ring::{Part, Ring},
    sink::Sink,
};

/// Events that may wait to be recorded.
const QUEUE: usize = 8_192;
/// For how long what happens is recorded on behalf of somebody who does not ask any more: whoever was cut off has that long to come back.
const LEASE: Duration = Duration::from_secs(60);
/// Longest text of a client that an event shows, in bytes.
const MAX_TEXT: usize = 256;
/// Nodes whose names are remembered when they are gone.
const MAX_NAMES: usize = 1_024;
/// What one node tells another at once.
const PART: usize = 512;

/// Who is told of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those who listen at any node.
    Cluster,
    /// Those who listen here: each node sees it for itself.
    Here,
}

/// What happens on this node.
pub(crate) struct EventHub {
    pub(super) tag: Arc<str>,
    name: Arc<str>,
    pub(super) metrics: Metrics,
    /// The kinds that somebody wants to know of, a bit each. 0 costs nothing.
    pub(super) wanted: AtomicU32,
    is_recording: AtomicBool,
    /// The number of the last event.
    number: AtomicU64,
    queue: mpsc::Sender<(Event, Reach)>,
    /// Events that did not fit into the queue.
    pub(super) lost: AtomicU64,
    pub(super) feed: OnceLock<Sink>,
    pub(super) recording: Mutex<Recording>,
    /// There is something new for those who read.
    pub(super) changed: Notify,
    /// A node has joined, or is gone.
    nodes_changed: Notify,
    /// The names of other nodes, also of those that are gone.
    names: Mutex<HashMap<NodeTag, Arc<str>>>,
}

/// The other end of the queue.
pub(crate) struct Reports(pub(super) mpsc::Receiver<(Event, Reach)>);

/// What is recorded.
pub(super) struct Recording {
    /// Nobody reads the queue.
    idle: Option<Reports>,
    /// What happens here.
    own: Track,
    /// What happens in the cluster, as far as it is known here.
    pub(super) all: Track,
    pub(super) listeners: usize,
    /// The other nodes, and what is known of their events.
    pub(super) sources: HashMap<NodeTag, Source>,
}

/// A buffer that is filled as long as somebody wants it.
#[derive(Default)]
pub(super) struct Track {
    /// Tells it from the one before, which had a gap.
    pub(super) run: u32,
    pub(super) ring: Ring,
    until: Option<Instant>,
}

impl Track {
    fn is_wanted(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub(super) fn want(&mut self, now: Instant) {
        self.until = Some(now + LEASE);
    }

    /// There will be a gap.
    fn interrupt(&mut self) {
        self.run = self.run.wrapping_add(1);
        self.ring = Ring::default();
        self.until = None;
    }
}

/// Whether a node tells what happens on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// It was asked, and has not answered yet.
    Asked,
    /// It does.
    Attached,
    /// It does not answer; what those who listen are told of that.
    Missing(Arc<Event>),
}

/// How far another node has come with the events of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) run: u32,
    pub(crate) next: u64,
}

/// What a node tells another one.
pub(crate) struct OwnEvents {
    pub(crate) progress: Progress,
    /// Events that are not known any more; `None`: nobody knows how many.
    pub(crate) missed: Option<u64>,
    pub(crate) events: Vec<Arc<Event>>,
}

impl EventHub {
    pub(crate) fn new(tag: NodeTag, name: Option<&str>, metrics: Metrics) -> Self {
        let (queue, reports) = mpsc::channel(QUEUE);
        let tag: Arc<str> = tag.to_string().into();
        Self {
            name: name.map_or_else(|| tag.clone(), Into::into),
            tag,
            metrics,
            wanted: AtomicU32::new(0),
            is_recording: AtomicBool::new(false),
            number: AtomicU64::new(0),
            queue,
            lost: AtomicU64::new(0),
            feed: OnceLock::new(),
            recording: Mutex::new(Recording {
                idle: Some(Reports(reports)),
                own: Track::default(),
                all: Track::default(),
                listeners: 0,
                sources: HashMap::new(),
            }),
            changed: Notify::new(),
            nodes_changed: Notify::new(),
            names: Mutex::default(),
        }
    }

    /// Whether somebody wants to know of such events. Ask this first: making an event for nobody costs more.
    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        self.wanted.load(Ordering::Relaxed) & kind.bit() != 0
    }

    /// Reports what has happened here. It never waits.
    pub(crate) fn report(&self, event: Event) {
        self.tell(event, Reach::Cluster);
    }

    /// Reports what every node sees for itself, of another node.
    pub(crate) fn report_node(&self, kind: EventKind, node: NodeTag) {
        if self.wants(kind) {
            let name = self.names.lock().get(&node).cloned();
            let node: Arc<str> = node.to_string().into();
            let node_name = name.unwrap_or_else(|| node.clone());
            self.tell(Event { node, node_name, ..Event::of(kind) }, Reach::Here);
        }
        self.nodes_changed.notify_one();
    }

    /// A node is called so.
    pub(crate) fn remember_name(&self, node: NodeTag, name: &str) {
        let names = &mut *self.names.lock();
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert(node, name.into());
    }

    fn tell(&self, event: Event, reach: Reach) {
        let event = self.complete(event);
        if let Some(feed) = self.feed.get() {
            feed.offer(&event);
        }
        if self.is_recording.load(Ordering::Relaxed) && self.queue.try_send((event, reach)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.events_dropped.with_label_values(&["queue"]).inc();
        }
    }

    /// Gives an event what all of them have.
    pub(super) fn complete(&self, mut event: Event) -> Event {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        event.id = format!("{}-{number}", self.tag).into();
        event.at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        if event.node.is_empty() {
            (event.node, event.node_name) = (self.tag.clone(), self.name.clone());
        }
        event
    }

    /// Has events recorded from now on; gives the queue to whoever is to read it, where nobody does yet.
    fn begin(&self, recording: &mut Recording) -> Option<Reports> {
        let mut reports = recording.idle.take()?;
        // What was left when it ended.
        while reports.0.try_recv().is_ok() {}
        self.lost.store(0, Ordering::Relaxed);
        self.is_recording.store(true, Ordering::Relaxed);
        self.wanted.store(u32::MAX, Ordering::Relaxed);
        Some(reports)
    }

    /// The queue, if nobody reads it although somebody should.
    pub(crate) fn take_reports(&self) -> Option<Reports> {
        let recording = &mut *self.recording.lock();
        let now = Instant::now();
        let is_wanted =
            recording.listeners > 0 || recording.own.is_wanted(now) || recording.all.is_wanted(now);
        if is_wanted { self.begin(recording) } else { None }
    }

    /// Takes what was reported out of the queue; at least one, unless nothing is reported any more.
    pub(crate) async fn record(&self, reports: &mut Reports) {
        let mut batch = Vec::new();
        reports.0.recv_many(&mut batch, PART).await;
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let recording = &mut *self.recording.lock();
        for (event, reach) in batch {
            let event = Arc::new(event);
            if reach == Reach::Cluster {
                recording.own.ring.push(event.clone());
            }
            recording.all.ring.push(event);
        }
        if lost > 0 {
            let dropped = Event {
                count: Some(lost),
                reason: Some("queue".to_owned()),
                ..Event::of(EventKind::Dropped)
            };
            let dropped = Arc::new(self.complete(dropped));
            recording.own.ring.push(dropped.clone());
            recording.all.ring.push(dropped);
        }
        self.changed.notify_waiters();
    }

    /// Whether events of other nodes are wanted here.
    pub(crate) fn wants_others(&self) -> bool {
        let recording = self.recording.lock();
        recording.listeners > 0 || recording.all.is_wanted(Instant::now())
    }

    /// To be asked every second by whoever reads the queue: whether it should go on. If not, it has given the queue back.
    pub(crate) fn goes_on(&self, reports: Reports) -> Option<Reports> {
        let recording = &mut *self.recording.lock();
        let now = Instant::now();
        let is_heard = recording.listeners > 0 || recording.all.is_wanted(now);
        if !is_heard && recording.all.until.is_some() {
            recording.all.interrupt();
            recording.sources.clear();
        }
        if is_heard || recording.own.is_wanted(now) {
            return Some(reports);
        }
        recording.own.interrupt();
        recording.idle = Some(reports);
        self.is_recording.store(false, Ordering::Relaxed);
        self.wanted.store(self.feed.get().map_or(0, Sink::kinds), Ordering::Relaxed);
        None
    }

    /// Another node asks for what has happened here since `after`; it is answered as soon as there is something, or with nothing.
    pub(crate) async fn own_events(&self, after: Option<Progress>, wait: Duration) -> OwnEvents {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(answer) = self.own_part(after) {
                return answer;
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                let recording = self.recording.lock();
                let progress = Progress { run: recording.own.run, next: recording.own.ring.end() };
                return OwnEvents { progress, missed: Some(0), events: Vec::new() };
            }
        }
    }

    /// `None`: there is nothing new.
    fn own_part(&self, after: Option<Progress>) -> Option<OwnEvents> {
        let own = &mut self.recording.lock().own;
        own.want(Instant::now());
        let from = match after {
            Some(after) if after.run == own.run => after.next,
            Some(_) => own.ring.start(),
            None => own.ring.end(),
        };
        let Part { events, first, missed } = own.ring.from(from, PART);
        let is_known = after.is_none_or(|after| after.run == own.run);
        if events.is_empty() && is_known && after.is_some() {
            return None;
        }
        let progress = Progress { run: own.run, next: first + events.len() as u64 };
        Some(OwnEvents { progress, missed: is_known.then_some(missed), events })
    }

    /// What another node has told of itself.
    pub(crate) fn collected(&self, node: NodeTag, answer: OwnEvents) {
        let recording = &mut *self.recording.lock();
        let known = recording.sources.insert(node, Source::Attached);
        let marker = |kind, count, reason: Option<&str>| {
            let name = self.names.lock().get(&node).cloned();
            let node: Arc<str> = node.to_string().into();
            let node_name = name.unwrap_or_else(|| node.clone());
            let reason = reason.map(str::to_owned);
            Arc::new(self.complete(Event { node, node_name, count, reason, ..Event::of(kind) }))
        };
        if matches!(known, Some(Source::Missing(_))) {
            recording.all.ring.push(marker(EventKind::Back, None, None));
        }
        if answer.missed != Some(0) {
            recording.all.ring.push(marker(EventKind::Dropped, answer.missed, Some("behind")));
            self.metrics.events_dropped.with_label_values(&["behind"]).inc_by(answer.missed.unwrap_or(1));
        }
        answer.events.into_iter().for_each(|event| recording.all.ring.push(event));
        self.changed.notify_waiters();
    }

    /// Another node does not answer: those who listen here are told once.
    pub(crate) fn missing(&self, node: NodeTag, name: &str, reason: &str) {
        let recording = &mut *self.recording.lock();
        if matches!(recording.sources.get(&node), Some(Source::Missing(_))) {
            return;
        }
        let reason = Some(reason.to_owned());
        let (of, node_name) = (node.to_string().into(), name.into());
        let marker = Event { node: of, node_name, reason, ..Event::of(EventKind::Missing) };
        let marker = Arc::new(self.complete(marker));
        recording.sources.insert(node, Source::Missing(marker.clone()));
        recording.all.ring.push(marker);
        self.changed.notify_waiters();
    }

    /// These are the other nodes. Gives back those that are new.
    pub(crate) fn set_sources(&self, nodes: &[NodeTag]) -> Vec<NodeTag> {
        let sources = &mut self.recording.lock().sources;
        sources.retain(|node, _| nodes.contains(node));
        let new: Vec<NodeTag> = nodes.iter().copied().filter(|node| !sources.contains_key(node)).collect();
        sources.extend(new.iter().map(|node| (*node, Source::Asked)));
        self.changed.notify_waiters();
        new
    }

    /// Whether every one of these nodes has answered, or is known not to.
    fn has_asked(&self, nodes: &[NodeTag]) -> bool {
        let sources = &self.recording.lock().sources;
        nodes.iter().all(|node| sources.get(node).is_some_and(|source| *source != Source::Asked))
    }

    /// Waits until it is known which of these nodes tell what happens on them.
    pub(crate) async fn asked(&self, nodes: &[NodeTag]) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has_asked(nodes) {
                return;
            }
            changed.await;
        }
    }

    /// Resolves when a node has joined, or is gone.
    pub(crate) async fn nodes_changed(&self) {
        self.nodes_changed.notified().await;
    }
}

/// A text of a client, no longer than an event may show.
pub(crate) fn shown(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or_default()].to_owned()
}
