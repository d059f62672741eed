//! The cluster as a node's shards see it: the machine under one lock, over a store.
//!
//! - Alone, the node's store is the [`Model`] itself: a call is executed at once.
//! - In a cluster of several nodes, calls go to a [`Driver`], which gives their replies back later (`cluster/events.rs`); what is said to the
//!   other nodes goes through it too (`cluster/publishing.rs`).
//!
//! A peer message whose addressee is on this node takes no lock: the directories are read without one.

mod events;
mod publishing;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ahash::{AHashMap, RandomState};
use parking_lot::{Mutex, RwLock};
use signalbox_websocket::Frame;

use crate::{
    Config,
    address::{Address, NodeTag, ShardId},
    command::{Command, Delivery, DeliverySink, PeerAt, PeerMessage, RealmId},
    driver::{CallToken, Driver, UntilEnded, ending},
    envelope::Format,
    event::ClusterEvent,
    machine::{Charge, Machine, Output, Outputs, Status},
    model::Model,
    record::{RoomName, SessionRecords},
    route::Route,
    store::{NodeInfo, Reply},
};

type Directory = papaya::HashMap<Arc<str>, PeerAt, RandomState>;

/// A node's part of the cluster.
pub struct Cluster {
    sink: Arc<dyn DeliverySink>,
    /// The holders of ids on this node, per realm; read without a lock, written under the core's.
    directories: Vec<Directory>,
    core: Mutex<Core>,
    nodes: RwLock<Arc<AHashMap<NodeTag, NodeInfo>>>,
    status: AtomicU8,
    write_format: AtomicU8,
    /// Messages of other nodes are received.
    is_bus_there: AtomicBool,
    /// They were, at some time.
    was_bus_there: AtomicBool,
    /// A broadcast could not be published a moment ago.
    has_failed_to_publish: AtomicBool,
    /// How many broadcasts could not be published, or may not have been.
    publish_failures: AtomicU64,
}

struct Core {
    machine: Machine,
    store: Store,
    outputs: Outputs,
    /// What became of the message that is just being sent, in a cluster of one.
    settled: Option<bool>,
    /// When a broadcast could not be published.
    publish_failed: Option<Instant>,
}

enum Store {
    /// This node is alone.
    Local(Box<Model>),
    /// Other nodes share it.
    Remote(Arc<dyn Driver>),
}

/// The nodes that a broadcast is published to.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Those with members of a room.
    Room(&'a RoomName),
    /// All of them.
    Everywhere,
}

/// What became of a peer message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// It was handed on, or dropped; then its sender is told.
    Taken,
    /// It waits for its addressee.
    Waits,
    /// The store is asked, or the addressee's node is sent it: [`Delivery::PeerMessageSettled`] follows.
    UnderWay,
    /// It was dropped: its sender does not hold its id any more.
    Fenced,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// What shards call.
impl Cluster {
    /// A node that is alone. Its deliveries go to `sink`.
    pub fn standalone(config: &Config, sink: Arc<dyn DeliverySink>) -> Self {
        let model = Model::new(config, Instant::now(), wall_clock());
        let machine = Machine::standalone(config);
        Self::with(config, machine, Store::Local(Box::new(model)), sink, Status::Online)
    }

    /// A node that shares its store with others, through `driver`.
    pub fn shared(
        config: &Config,
        node: NodeInfo,
        sink: Arc<dyn DeliverySink>,
        driver: Arc<dyn Driver>,
    ) -> Self {
        Self::shared_at(config, node, sink, driver, Instant::now(), wall_clock())
    }

    /// The same, on a clock that shows `wall_clock` (microseconds since 1970) at `now`.
    pub fn shared_at(
        config: &Config,
        node: NodeInfo,
        sink: Arc<dyn DeliverySink>,
        driver: Arc<dyn Driver>,
        now: Instant,
        wall_clock: u64,
    ) -> Self {
        let machine = Machine::shared(config, node, now, wall_clock);
        Self::with(config, machine, Store::Remote(driver), sink, Status::Joining)
    }

    fn with(
        config: &Config,
        machine: Machine,
        store: Store,
        sink: Arc<dyn DeliverySink>,
        status: Status,
    ) -> Self {
        let is_shared = matches!(store, Store::Remote(_));
        Self {
            sink,
            directories: config.realms.iter().map(|_| Directory::default()).collect(),
            core: Mutex::new(Core {
                machine,
                store,
                outputs: Outputs::new(),
                settled: None,
                publish_failed: None,
            }),
            nodes: RwLock::default(),
            status: AtomicU8::new(status as u8 | if is_shared { SHARED } else { 0 }),
            // A node that is alone reads whatever it writes.
            is_bus_there: AtomicBool::new(false),
            was_bus_there: AtomicBool::new(false),
            has_failed_to_publish: AtomicBool::new(false),
            publish_failures: AtomicU64::new(0),
            write_format: AtomicU8::new(if is_shared { Format::V1 } else { Format::V2 }.byte()),
        }
    }

    /// Takes a command; its answer arrives in the mailbox of the shard that asks.
    pub fn submit(&self, now: Instant, command: Command) {
        let congested = |shard| self.sink.is_congested(shard);
        self.step(now, |machine, out| machine.command(now, command, &congested, out));
    }

    /// Sends a message to whoever holds its addressee's id, or lets it wait. It is dropped when its sender does not hold its own
    /// id any more. `shard` sends it (on).
    pub fn send(&self, now: Instant, shard: ShardId, peer_message: PeerMessage) -> SendOutcome {
        let directory = &self.directories[usize::from(peer_message.realm)];
        let is_held = || {
            directory
                .pin()
                .get(&*peer_message.src)
                .is_some_and(|at| at.generation == peer_message.from.generation)
        };
        if peer_message.hops == 0 && !is_held() {
            // The shard may learn of its grant a moment before the directory shows it: whoever granted it holds the lock until
            // then.
            drop(self.core.lock());
            if !is_held() {
                return SendOutcome::Fenced;
            }
        }
        // A message that was sent on too often goes where the store says.
        if peer_message.hops < 2
            && let Some(to) = directory.pin().get(&*peer_message.dst).copied()
        {
            let refused = self.offer(to, peer_message);
            if let Some(refused) = refused {
                self.step(now, |machine, out| machine.refuse_peer_message(now, refused, out));
            }
            return SendOutcome::Taken;
        }
        let core = &mut *self.core.lock();
        core.settled = None;
        let charge = Charge::of(&peer_message);
        let is_charged = charge.is_some();
        core.machine.route_peer_message(now, shard, peer_message, charge, &mut core.outputs);
        self.run(core, now);
        match (&core.store, core.settled) {
            (Store::Remote(_), _) if is_charged => SendOutcome::UnderWay,
            (Store::Local(_), Some(true)) => SendOutcome::Waits,
            _ => SendOutcome::Taken,
        }
    }

    /// Puts a message into a shard's mailbox; gives back the message without its payload if the mailbox is full.
    fn offer(&self, to: PeerAt, peer_message: PeerMessage) -> Option<PeerMessage> {
        let PeerMessage { from, realm, kind, ref src, ref dst, hops, ref sender, ref trace, .. } =
            peer_message;
        let (src, dst, sender, trace) = (src.clone(), dst.clone(), sender.clone(), trace.clone());
        let is_offered = self.sink.offer(to.shard, Delivery::PeerMessage { to, peer_message });
        let frame = || Frame::text("");
        (!is_offered).then(|| PeerMessage {
            from,
            realm,
            kind,
            src,
            dst,
            frame: frame(),
            hops,
            sender,
            trace,
        })
    }

    /// The connection of this node that holds an id.
    pub fn local_peer(&self, realm: RealmId, id: &str) -> Option<PeerAt> {
        self.directories.get(usize::from(realm))?.pin().get(id).copied()
    }

    /// Whether somebody is known to hold an id, on this node or (as far as this node remembers) on another.
    pub fn is_held(&self, now: Instant, realm: RealmId, id: &str) -> bool {
        let is_here = self.directories[usize::from(realm)].pin().get(id).is_some();
        is_here || self.is_shared() && self.core.lock().machine.remembers(now, realm, id)
    }

    /// The route of a room, made if there is none. Give it back with [`Cluster::release_route`].
    pub fn route(&self, room: &RoomName) -> Arc<Route> {
        self.core.lock().machine.route(room)
    }

    /// The route of a room, if anybody on this node is in it.
    pub fn find_route(&self, room: &RoomName) -> Option<Arc<Route>> {
        self.core.lock().machine.find_route(room)
    }

    /// A shard has no member in the room any more, and none that is about to join.
    pub fn release_route(&self, now: Instant, room: &RoomName, route: Arc<Route>, shard: ShardId) {
        let mut core = self.core.lock();
        route.remove(shard);
        drop(route);
        core.machine.forget_route(room, now);
    }

    /// Returns when every broadcast of another node that has arrived is in the mailboxes of the shards that were on its route. What
    /// arrives from now on goes to the shards that are on it now.
    pub fn barrier(&self) {
        drop(self.core.lock());
    }

    /// How many rooms have members on this node, or had some a moment ago.
    pub fn rooms(&self) -> usize {
        self.core.lock().machine.rooms()
    }

    /// Whether there may be other nodes.
    pub fn is_shared(&self) -> bool {
        self.status.load(Ordering::Relaxed) & SHARED != 0
    }

    /// How long ago the last renewal of the lease was sent that the store confirmed; `None` when there was none yet, or the node is
    /// alone.
    pub fn lease_age(&self, now: Instant) -> Option<Duration> {
        self.core.lock().machine.lease_age(now)
    }

    /// Whether the shared store can be relied on; always when the node is alone.
    pub fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) & !SHARED {
            0 => Status::Joining,
            1 => Status::Online,
            _ => Status::Degraded,
        }
    }

    /// The format in which messages to other nodes and records are written: the newest that every node of the cluster reads.
    /// Format 1 until this node knows the others.
    pub fn write_format(&self) -> Format {
        Format::of_byte(self.write_format.load(Ordering::Acquire)).unwrap_or(Format::V1)
    }

    /// The cluster's secret: tokens of peers are hashed with a key that follows from it before they leave this node.
    pub fn set_token_secret(&self, now: Instant, secret: &str) {
        self.step(now, |machine, out| machine.set_token_secret(now, secret, out));
    }

    /// Whether the store has been there for long enough that, after an outage, every node has written its records again.
    pub fn is_stable(&self) -> bool {
        self.core.lock().machine.is_stable()
    }

    /// A node of the cluster, as far as this one knows.
    pub fn node(&self, tag: NodeTag) -> Option<NodeInfo> {
        self.nodes.read().get(&tag).cloned()
    }

    /// All nodes that this one knows, itself included.
    pub fn nodes(&self) -> Arc<AHashMap<NodeTag, NodeInfo>> {
        self.nodes.read().clone()
    }

    /// Where a node's link listens. Remembered while the store is away.
    pub fn link_addr(&self, tag: NodeTag) -> Option<SocketAddr> {
        self.nodes.read().get(&tag)?.link
    }

    /// Asks the store which nodes are in the cluster; [`Cluster::nodes`] shows the answer soon.
    pub fn refresh_nodes(&self, now: Instant) {
        self.step(now, |machine, out| machine.refresh_nodes(now, out));
    }

    /// What the store has of a session that is to move to another node. It stays this node's until [`Cluster::release_session`].
    pub fn session_records(
        &self,
        memberships: &[(RoomName, Address)],
        sockets: &[(Arc<str>, Address)],
    ) -> SessionRecords {
        self.core.lock().machine.session_records(memberships, sockets)
    }

    /// The records of a session are another node's from now on.
    pub fn release_session(
        &self,
        now: Instant,
        memberships: &[(RoomName, Address)],
        sockets: &[(Arc<str>, Address)],
    ) {
        self.core.lock().machine.release_session(now, memberships, sockets);
    }

    /// Tells the other nodes whether this one drains.
    pub fn set_draining(&self, now: Instant, is_draining: bool) {
        self.core.lock().machine.update_node_info(now, |node| node.is_draining = is_draining);
    }

    /// Leaves the cluster: this node's records are removed, and its lease ends. The future resolves when the driver has done
    /// that, or cannot reach the store.
    pub fn leave(&self, now: Instant) -> UntilEnded {
        self.step(now, |machine, out| machine.leave_cluster(now, out));
        self.end_driver()
    }

    /// Ends the driver without leaving: to the others, this node is as dead as one that was killed.
    pub fn end_driver(&self) -> UntilEnded {
        let (ended, until_ended) = ending();
        // Without a driver `ended` is dropped, and that is all.
        if let Store::Remote(driver) = &self.core.lock().store {
            driver.end(ended);
        }
        until_ended
    }
}

impl Cluster {
    /// One step of the machine, and everything that follows from it.
    fn step(&self, now: Instant, step: impl FnOnce(&mut Machine, &mut Outputs)) {
        let core = &mut *self.core.lock();
        step(&mut core.machine, &mut core.outputs);
        self.run(core, now);
    }

    fn run(&self, core: &mut Core, now: Instant) {
        while let Some(output) = core.outputs.pop_front() {
            match output {
                Output::Call(call, pending) => match &mut core.store {
                    Store::Local(model) => {
                        let (reply, published) = model.execute(call, now);
                        // Changes first, then the reply: the answer to a join includes every change before it.
                        for delta in published {
                            core.machine.room_changed(delta, &mut core.outputs);
                        }
                        core.machine.reply(now, pending, reply, &mut core.outputs);
                    }
                    Store::Remote(driver) => {
                        if let Err(token) = driver.call(call, CallToken(pending)) {
                            let reply = Reply::Failed { may_have_run: false };
                            core.machine.reply(now, token.0, reply, &mut core.outputs);
                        }
                    }
                },
                Output::Deliver(shard, delivery) => self.sink.deliver(shard, delivery),
                Output::Offer(to, peer_message) => {
                    if let Some(refused) = self.offer(to, peer_message) {
                        core.machine.refuse_peer_message(now, refused, &mut core.outputs);
                    }
                }
                Output::Dropped(count) => self.sink.deliver(0, Delivery::PeerMessagesDropped(count)),
                Output::Settled { from, bytes, waits } => match core.store {
                    Store::Local(_) => core.settled = Some(waits),
                    Store::Remote(_) => {
                        self.sink.deliver(from.shard, Delivery::PeerMessageSettled { from, bytes, waits });
                    }
                },
                Output::ClaimHeld { realm, id, at } => {
                    self.directories[usize::from(realm)].pin().insert(id, at);
                }
                Output::ClaimFreed { realm, id, generation } => {
                    let directory = self.directories[usize::from(realm)].pin();
                    if directory.get(&*id).is_some_and(|at| at.generation == generation) {
                        directory.remove(&*id);
                    }
                }
                Output::Subscribe(room) => {
                    if let Store::Remote(driver) = &core.store {
                        driver.subscribe(room);
                    }
                }
                Output::Unsubscribe(room) => {
                    if let Store::Remote(driver) = &core.store {
                        driver.unsubscribe(room);
                    }
                }
                Output::Nodes(nodes) => {
                    let nodes: Arc<AHashMap<NodeTag, NodeInfo>> =
                        Arc::new(nodes.into_iter().map(|node| (node.owner.tag, node)).collect());
                    let known = std::mem::replace(&mut *self.nodes.write(), nodes.clone());
                    let own = core.machine.owner().tag;
                    let not_in =
                        |other: &AHashMap<_, _>, tag: &NodeTag| *tag != own && !other.contains_key(tag);
                    for tag in nodes.keys().filter(|tag| not_in(&known, tag)) {
                        self.sink.observe(ClusterEvent::NodeSeen(*tag));
                    }
                    for tag in known.keys().filter(|tag| not_in(&nodes, tag)) {
                        self.sink.observe(ClusterEvent::NodeGone(*tag));
                    }
                }
                Output::WriteFormat(format) => self.write_format.store(format.byte(), Ordering::Release),
                Output::Event(event) => self.sink.observe(event),
                Output::Status(status) => self.status.store(status as u8 | SHARED, Ordering::Release),
            }
        }
    }
}

/// Marks, in [`Cluster::status`], a node whose store is shared.
const SHARED: u8 = 0x80;

/// Microseconds since 1970: a later start grants larger generations than an earlier one.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
