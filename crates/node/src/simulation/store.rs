//! The store that the nodes share: the model, behind connections that take time and break.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::RngExt as _;
use signalbox_cluster::{
    Config, NodeTag, Owner, RoomName,
    driver::{CallToken, Driver, DriverEnded},
    model::Model,
    store::{Call, DirectMessage, Reply, RoomDelta},
};

use super::{
    event::Event,
    world::{NodeId, World},
};

/// Microseconds that the store's clock shows at the beginning.
pub(super) const ORIGIN: u64 = 1_000_000_000_000;
/// How often a node tries to subscribe again.
const BUS_RETRY: Duration = Duration::from_millis(200);

pub(super) fn config() -> Config {
    Config {
        realms: vec!["peerjs".into()],
        concurrent_limit: None,
        room_members: None,
        presence_limit: None,
        expire_timeout: Duration::from_secs(5),
    }
}

/// What a node's cluster asks of its driver.
#[derive(Debug)]
pub(super) enum Operation {
    Call(Box<(Call, CallToken)>),
    Publish(Owner, Option<RoomName>, Bytes),
    Subscribe(RoomName),
    Unsubscribe(RoomName),
}

/// Keeps what is asked for until the world takes it.
#[derive(Debug, Default)]
pub(super) struct SimulatedDriver(Mutex<VecDeque<Operation>>);

impl SimulatedDriver {
    fn push(&self, operation: Operation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(operation);
    }

    pub(super) fn take(&self) -> VecDeque<Operation> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Driver for SimulatedDriver {
    fn call(&self, call: Call, token: CallToken) -> Result<(), Box<CallToken>> {
        self.push(Operation::Call(Box::new((call, token))));
        Ok(())
    }

    fn subscribe(&self, room: RoomName) {
        self.push(Operation::Subscribe(room));
    }

    fn unsubscribe(&self, room: RoomName) {
        self.push(Operation::Unsubscribe(room));
    }

    fn publish(&self, from: Owner, room: Option<RoomName>, payload: Bytes) {
        self.push(Operation::Publish(from, room, payload));
    }

    fn end(&self, _: DriverEnded) {}
}

/// A node's connections to the store: heartbeats have their own, and so has what is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Calls,
    Heartbeats,
    Subscriptions,
}

/// What a node receives.
#[derive(Debug)]
pub(super) enum BusMessage {
    Subscribed(RoomName),
    Changed(RoomDelta),
    Broadcast(Owner, Option<RoomName>, Bytes),
    Direct(Owner, DirectMessage),
}

/// One node's connections.
pub(super) struct Connections {
    /// By lane: the connection's number, when the last operation arrives there, and when the last reply is back.
    lanes: [(u64, Instant, Instant); 3],
    /// When the last broadcast arrives that went before calls which concern other rooms, on the lane of calls.
    last_ahead: Instant,
    /// When the last operation of each room arrives that keeps its place.
    last_in_rooms: BTreeMap<RoomName, Instant>,
    /// The number of the bus' connection, and whether it is there.
    bus: u64,
    pub(super) has_bus: bool,
    subscribed: BTreeSet<RoomName>,
    wanted: BTreeSet<RoomName>,
    /// Messages of rooms and others keep their order among themselves only.
    bus_lanes: [Instant; 2],
}

impl Connections {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            lanes: [(0, now, now); 3],
            last_ahead: now,
            last_in_rooms: BTreeMap::new(),
            bus: 0,
            has_bus: false,
            subscribed: BTreeSet::new(),
            wanted: BTreeSet::new(),
            bus_lanes: [now; 2],
        }
    }
}

pub(super) struct Store {
    pub(super) model: Model,
    pub(super) is_away: bool,
    /// How often it began anew.
    starts: u64,
}

impl Store {
    pub(super) fn new(began: Instant) -> Self {
        Self { model: Model::new(&config(), began, ORIGIN), is_away: false, starts: 0 }
    }

    /// It begins anew, with nothing: another start shows another run, and a clock that is ahead of the former.
    pub(super) fn restart_empty(&mut self, now: Instant, began: Instant) {
        self.starts += 1;
        let origin = ORIGIN + self.starts * 1_000_000 + (now - began).as_micros() as u64;
        self.model = Model::new(&config(), now, origin);
    }
}

/// The room in whose channel something is said.
fn room_of(operation: &Operation) -> Option<&RoomName> {
    match operation {
        Operation::Call(call) => match &call.0 {
            Call::Put { room, .. } | Call::Remove { room, .. } | Call::Rehome { room, .. } => Some(room),
            _ => None,
        },
        Operation::Publish(_, room, _) => room.as_ref(),
        Operation::Subscribe(_) | Operation::Unsubscribe(_) => None,
    }
}

impl World {
    pub(super) fn send_to_store(&mut self, node: NodeId, operation: Operation) {
        let lane = match &operation {
            Operation::Call(call) if matches!(call.0, Call::Heartbeat { .. }) => Lane::Heartbeats,
            Operation::Call(..) | Operation::Publish(..) => Lane::Calls,
            Operation::Subscribe(room) => {
                self.nodes[node].connections.wanted.insert(room.clone());
                Lane::Subscriptions
            }
            Operation::Unsubscribe(room) => {
                self.nodes[node].connections.wanted.remove(room);
                Lane::Subscriptions
            }
        };
        let (connection, mut last, _) = self.nodes[node].connections.lanes[lane as usize];
        let room = room_of(&operation);
        let is_behind =
            |room| self.nodes[node].connections.last_in_rooms.get(room).is_some_and(|last| *last >= self.now);
        let at = match (&operation, room) {
            // It waits for nothing but what concerns the same room.
            (Operation::Publish(..), Some(room)) if !is_behind(room) => {
                let mut last = self.nodes[node].connections.last_ahead;
                let at = self.arrival(&mut last);
                self.nodes[node].connections.last_ahead = last;
                at
            }
            (_, room) => {
                if lane == Lane::Calls {
                    last = last.max(self.nodes[node].connections.last_ahead);
                }
                let at = self.arrival(&mut last);
                self.nodes[node].connections.lanes[lane as usize].1 = last;
                if let Some(room) = room {
                    self.nodes[node].connections.last_in_rooms.insert(room.clone(), at);
                }
                at
            }
        };
        self.schedule_at(at, Event::AtStore(node, lane, connection, operation));
    }

    /// Something arrives at the store. What was sent before its node died still arrives.
    pub(super) fn at_store(&mut self, node: NodeId, lane: Lane, connection: u64, operation: Operation) {
        match operation {
            Operation::Call(call) => {
                let (call, token) = *call;
                let is_same = connection == self.nodes[node].connections.lanes[lane as usize].0;
                let reply = if !is_same {
                    Reply::Failed { may_have_run: false }
                } else if self.store.is_away {
                    // The connection is gone, with everything on it. Whether this was done, the node cannot tell.
                    self.nodes[node].connections.lanes[lane as usize].0 += 1;
                    Reply::Failed { may_have_run: self.rng.random_bool(0.5) }
                } else {
                    self.execute(call)
                };
                let mut last = self.nodes[node].connections.lanes[lane as usize].2;
                let at = self.arrival(&mut last);
                self.nodes[node].connections.lanes[lane as usize].2 = last;
                self.schedule_at(at, Event::StoreReply(node, token, reply));
            }
            Operation::Publish(from, room, payload) => {
                let is_same = connection == self.nodes[node].connections.lanes[lane as usize].0;
                if is_same && !self.store.is_away {
                    for to in 0..self.nodes.len() {
                        if self.is_subscribed(to, room.as_ref()) {
                            let message = BusMessage::Broadcast(from, room.clone(), payload.clone());
                            self.put_on_bus(to, room.is_some(), message);
                        }
                    }
                }
            }
            Operation::Subscribe(room) => {
                if !self.store.is_away && self.nodes[node].connections.has_bus {
                    self.nodes[node].connections.subscribed.insert(room.clone());
                    self.put_on_bus(node, true, BusMessage::Subscribed(room));
                }
            }
            Operation::Unsubscribe(room) => {
                self.nodes[node].connections.subscribed.remove(&room);
            }
        }
    }

    fn execute(&mut self, call: Call) -> Reply {
        if let Call::SendDirect { from, to, message } = call {
            let to = self.node_of(to).filter(|to| self.is_subscribed(*to, None));
            if let Some(to) = to {
                self.put_on_bus(to, false, BusMessage::Direct(from, message));
            }
            return Reply::Receivers(to.is_some().into());
        }
        let (reply, published) = self.store.model.execute(call, self.now);
        for delta in published {
            for to in 0..self.nodes.len() {
                if self.is_subscribed(to, Some(&delta.room)) {
                    self.put_on_bus(to, true, BusMessage::Changed(delta.clone()));
                }
            }
        }
        reply
    }

    fn is_subscribed(&self, node: NodeId, room: Option<&RoomName>) -> bool {
        let node = &self.nodes[node];
        let is_there = !node.is_dead && node.connections.has_bus;
        is_there && room.is_none_or(|room| node.connections.subscribed.contains(room))
    }

    fn put_on_bus(&mut self, to: NodeId, is_room: bool, message: BusMessage) {
        let lane = usize::from(is_room);
        let mut last = self.nodes[to].connections.bus_lanes[lane];
        let at = self.arrival(&mut last);
        self.nodes[to].connections.bus_lanes[lane] = last;
        let connection = self.nodes[to].connections.bus;
        self.schedule_at(at, Event::Bus(to, connection, message));
    }

    pub(super) fn store_replied(&mut self, node: NodeId, token: CallToken, reply: Reply) {
        self.trace(|| format!("node {node}: {token:?}: {reply:?}"));
        self.nodes[node].cluster.replied(self.now, token, reply);
        self.touched(node);
    }

    pub(super) fn bus_message(&mut self, node: NodeId, connection: u64, message: BusMessage) {
        let node_state = &self.nodes[node];
        if connection != node_state.connections.bus {
            return;
        }
        let cluster = node_state.cluster.clone();
        self.trace(|| format!("node {node} receives {message:?}"));
        match message {
            BusMessage::Subscribed(room) => cluster.subscribed(self.now, &room),
            BusMessage::Changed(delta) => cluster.room_changed(self.now, delta),
            BusMessage::Broadcast(from, room, payload) => {
                cluster.received_broadcast(from, room, None, payload)
            }
            BusMessage::Direct(from, message) => cluster.received_direct(self.now, from, message),
        }
        self.touched(node);
    }

    /// The connection on which a node receives the bus breaks, with what is on it. The node notices soon.
    pub(super) fn break_bus(&mut self, node: NodeId) {
        let connections = &mut self.nodes[node].connections;
        if std::mem::take(&mut connections.has_bus) {
            connections.bus += 1;
            connections.subscribed.clear();
            let delay = self.delay();
            self.schedule_in(delay, Event::BusLost(node));
        }
    }

    pub(super) fn bus_lost(&mut self, node: NodeId) {
        self.nodes[node].cluster.subscription_lost(None);
        self.touched(node);
        self.schedule_in(BUS_RETRY, Event::BusRetry(node));
    }

    /// A node tries to subscribe again to everything.
    pub(super) fn bus_retry(&mut self, node: NodeId) {
        if self.store.is_away {
            self.schedule_in(BUS_RETRY, Event::BusRetry(node));
            return;
        }
        if std::mem::replace(&mut self.nodes[node].connections.has_bus, true) {
            return;
        }
        self.nodes[node].connections.subscribed = self.nodes[node].connections.wanted.clone();
        self.nodes[node].cluster.bus_restored(self.now);
        for room in self.nodes[node].connections.wanted.clone() {
            self.put_on_bus(node, true, BusMessage::Subscribed(room));
        }
        self.touched(node);
    }

    /// The address of nobody in particular: all that counts is that a node has one.
    pub(super) fn is_linked(&self, node: NodeId, to: NodeTag) -> bool {
        self.nodes[node].cluster.link_addr(to).is_some()
    }
}
