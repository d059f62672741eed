//! The clock, and everything on it.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use signalbox_cluster::{Address, NodeTag, ShardId};
use signalbox_telemetry::Metrics;

use super::{
    answers::Answers,
    check::Checks,
    client::Client,
    edge::{Http, WebSocket},
    event::{Event, Place},
    faults::Injection,
    links::Links,
    node::Node,
    orders::Orders,
    store::Store,
};

pub(super) type NodeId = usize;
pub(super) type ClientId = usize;

/// How long everything has to come to rest after the last fault: leases run out, records are written again, removals are held back.
pub(super) const REST: Duration = Duration::from_secs(20);

thread_local! {
    /// Where addresses come from: the same ones for the same seed.
    static ADDRESSES: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

/// As `Address::random`, but the same for the same seed.
pub(super) fn seeded_address(node: NodeTag, shard: ShardId) -> Address {
    let mut bytes = [0; 15];
    bytes[..4].copy_from_slice(&node.0.to_be_bytes());
    bytes[4] = shard;
    ADDRESSES.with_borrow_mut(|rng| rng.fill_bytes(&mut bytes[5..]));
    Address::from_bytes(bytes)
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) began: Instant,
    pub(super) now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    /// The events, by their place in the queue.
    events: BTreeMap<u64, Event>,
    sequence: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) store: Store,
    pub(super) links: Links,
    pub(super) clients: Vec<Client>,
    pub(super) websockets: Vec<WebSocket>,
    pub(super) http: BTreeMap<u64, Http>,
    pub(super) last_http: u64,
    pub(super) answers: Answers,
    pub(super) checks: Checks,
    pub(super) injection: Injection,
    pub(super) orders: Orders,
    /// Some of what is sent takes much longer than the rest.
    pub(super) has_slow_messages: bool,
    pub(super) traces: bool,
}

impl World {
    pub(super) fn new(seed: u64, traces: bool, metrics: &Metrics) -> Self {
        ADDRESSES.set(StdRng::seed_from_u64(seed));
        let began = Instant::now();
        let nodes = (0..super::NODES).map(|index| Node::new(index, began, metrics)).collect();
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            began,
            now: began,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            nodes,
            store: Store::new(began),
            links: Links::default(),
            clients: Vec::new(),
            websockets: Vec::new(),
            http: BTreeMap::new(),
            last_http: 0,
            answers: Answers::default(),
            checks: Checks::default(),
            injection: Injection::default(),
            orders: Orders::default(),
            has_slow_messages: false,
            traces,
        };
        for node in 0..super::NODES {
            let at = began + Duration::from_millis(30 * node as u64);
            world.schedule_at(at, Event::Tick(node));
            world.schedule_at(at, Event::BusRetry(node));
        }
        world
    }

    #[expect(clippy::print_stderr, reason = "a trace that was asked for")]
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{:>9.4} {}", (self.now - self.began).as_secs_f64(), what());
        }
    }

    /// Seconds since the beginning.
    pub(super) fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.began).as_secs_f64()
    }

    // Time.

    pub(super) fn schedule_at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    pub(super) fn schedule_in(&mut self, delay: Duration, event: Event) {
        self.schedule_at(self.now + delay, event);
    }

    /// How long something that is sent now is on its way.
    pub(super) fn delay(&mut self) -> Duration {
        if self.has_slow_messages && self.rng.random_bool(0.02) {
            return Duration::from_millis(self.rng.random_range(10..150));
        }
        Duration::from_micros(self.rng.random_range(50..2_000))
    }

    /// When something arrives that must not overtake what was sent before it.
    pub(super) fn arrival(&mut self, lane: &mut Instant) -> Instant {
        let at = (self.now + self.delay()).max(*lane);
        *lane = at;
        at
    }

    /// Lets time pass.
    pub(super) fn run_until(&mut self, until: Instant) {
        while let Some(Reverse((at, sequence))) = self.queue.peek().copied().filter(|next| next.0.0 <= until)
        {
            self.queue.pop();
            self.now = at.max(self.now);
            let Some(event) = self.events.remove(&sequence) else { continue };
            self.process(event);
        }
        self.now = until;
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    fn process(&mut self, event: Event) {
        let place = event.place(self);
        let Some(event) = self.unless_stopped(place, event) else { return };
        self.next_step(place);
        // The fault may have been one of this very node.
        let Some(event) = self.unless_stopped(place, event) else { return };
        self.happen(event);
        self.settle();
    }

    /// Nothing happens on a node that is dead; on one that is paused, it happens later.
    fn unless_stopped(&mut self, place: Place, event: Event) -> Option<Event> {
        let (Place::Node(node) | Place::Bus(node)) = place else { return Some(event) };
        let node = &mut self.nodes[node];
        if node.is_paused && !node.is_dead {
            node.deferred.push(event);
            return None;
        }
        (!node.is_dead).then_some(event)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(node) => {
                self.schedule_in(Duration::from_millis(100), Event::Tick(node));
                self.nodes[node].cluster.tick(self.now);
                self.touched(node);
            }
            Event::Mailbox(node, shard) => self.take_message(node, shard),
            Event::Timer(node, shard) => self.fire_timers(node, shard),
            Event::AtStore(from, lane, generation, operation) => {
                self.at_store(from, lane, generation, operation);
            }
            Event::StoreReply(node, token, reply) => self.store_replied(node, token, reply),
            Event::Bus(node, connection, message) => self.bus_message(node, connection, message),
            Event::BusLost(node) => self.bus_lost(node),
            Event::BusRetry(node) => self.bus_retry(node),
            Event::Link(connection, direction, frame) => self.link_frame(connection, direction, frame),
            Event::LinkEnd(connection, direction) => self.link_end(connection, direction),
            Event::LinkConnect(connection) => self.link_connect_timeout(connection),
            Event::LinkBeat(connection) => self.link_beat(connection),
            Event::AnswerTimeout(connection, number) => self.answer_timeout(connection, number),
            Event::HttpArrives(http) => self.http_arrives(http),
            Event::HttpDropped(node, http) => self.http_dropped(node, http),
            Event::CanTakeSession(http, until) => self.can_take_session(http, until),
            Event::HttpDone(http, result) => self.http_done(http, result),
            Event::WebSocketIn(websocket, input) => self.websocket_input(websocket, input),
            Event::WebSocketRead(websocket) => self.read_websocket(websocket),
            Event::WebSocketOut(websocket, output) => self.websocket_output(websocket, output),
            Event::ClientActs(client, action) => self.client_acts(client, action),
            Event::Order(node, number) => self.order_arrives(node, number),
            Event::NamespaceBroadcast(node) => self.namespace_broadcast(node),
            Event::Heal(fault) => self.heal(fault),
            Event::Inject(fault) => self.inject(fault),
        }
    }

    /// Everything that follows at once.
    fn settle(&mut self) {
        loop {
            let answers = self.answers.take();
            if answers.is_empty() {
                break;
            }
            for (asker, answer) in answers {
                self.answered(asker, answer);
            }
        }
        for node in 0..self.nodes.len() {
            if std::mem::take(&mut self.nodes[node].is_touched) {
                self.schedule_node(node);
            }
        }
        if std::mem::take(&mut self.checks.has_flushed) {
            self.check_owners();
        }
    }

    /// Something was done on a node: what follows is scheduled when the event is over.
    pub(super) fn touched(&mut self, node: NodeId) {
        self.nodes[node].is_touched = true;
    }

    /// What goes from the node to the store, and what its shards have to do.
    fn schedule_node(&mut self, node: NodeId) {
        if self.nodes[node].is_dead {
            return;
        }
        for operation in self.nodes[node].driver.take() {
            self.send_to_store(node, operation);
        }
        for shard in 0..super::SHARDS {
            let state = &self.nodes[node].shards[shard];
            let (has_messages, is_scheduled) = (!state.mailbox.is_empty(), state.is_scheduled);
            let (next, timer_at) = (state.shard.next_timer(), state.timer_at);
            if has_messages && !is_scheduled {
                self.nodes[node].shards[shard].is_scheduled = true;
                let delay = Duration::from_micros(self.rng.random_range(5..200));
                self.schedule_in(delay, Event::Mailbox(node, shard));
            }
            if let Some(next) = next
                && timer_at.is_none_or(|at| next < at)
            {
                self.nodes[node].shards[shard].timer_at = Some(next);
                self.schedule_at(next.max(self.now), Event::Timer(node, shard));
            }
        }
    }

    /// The node with this tag.
    pub(super) fn node_of(&self, tag: NodeTag) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.tag == tag)
    }
}
