//! The cluster as a node's shards see it. In a cluster of one the model is the store, and every step is taken at once under one
//! lock; with a shared store the calls go to its driver, and their replies come back from there. Messages to peers that are here
//! take no lock at all.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use ahash::{AHashMap, RandomState};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::{
    Config,
    address::{Address, NodeTag, Owner, ShardId},
    command::{BusDelivery, Command, Delivery, DeliverySink, PeerAt, PeerMessage, RealmId},
    link::{Link, RemoteNode},
    machine::{Machine, Output, Outputs, Pending, Status},
    model::Model,
    record::{Record, RoomName},
    route::Route,
    store::{Call, DirectMessage, NodeInfo, Reply, RoomDelta},
};

type Directory = papaya::HashMap<Arc<str>, PeerAt, RandomState>;

/// A node's part of the cluster.
pub struct Cluster {
    sink: Arc<dyn DeliverySink>,
    /// Who holds which id on this node, per realm; read without a lock, written under the core's.
    directories: Vec<Directory>,
    core: Mutex<Core>,
    nodes: RwLock<Arc<AHashMap<NodeTag, NodeInfo>>>,
    status: AtomicU8,
    link: OnceLock<Link>,
}

struct Core {
    machine: Machine,
    store: Store,
    outputs: Outputs,
    /// Messages dropped, and waits opened, so far.
    overflows: u64,
    waits: u64,
}

enum Store {
    /// In a cluster of one.
    Local(Box<Model>),
    /// Shared; its driver listens here.
    Remote(UnboundedSender<ToDriver>),
}

/// What the driver of a shared store is asked for, in order.
#[derive(Debug)]
pub(crate) enum ToDriver {
    /// Make this call, and give its reply back with what it answers.
    Call(Box<(Call, Pending)>),
    /// Hear a room, and say once that is so.
    Subscribe(RoomName),
    /// Do not hear it any more.
    Unsubscribe(RoomName),
    /// Say something in a room, or everywhere.
    Publish { from: Owner, room: Option<RoomName>, payload: Bytes },
    /// All that was asked for before is done: say so, and end.
    End(oneshot::Sender<()>),
}

/// Where something is said.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// To the nodes with members of a room.
    Room(&'a RoomName),
    /// To all nodes.
    Everywhere,
}

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is on its way, or waits for its addressee with earlier ones.
    Taken,
    /// It is the first of its sender that waits for its addressee.
    Waits,
    /// It was dropped: its sender does not hold its id any more.
    Fenced,
    /// It was dropped: an inbox is full, or too much waits already.
    Overflow,
}

/// A session that moves to another node: its memberships and sockets, as [`Command::AdoptSession`] takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionRecords {
    /// The rooms its sockets are in, and what is recorded there.
    pub memberships: Vec<(RoomName, Record)>,
    /// Its sockets: namespace, id, profile.
    pub sockets: Vec<(Arc<str>, Address, Arc<str>)>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster of one, whose deliveries go to `sink`.
    pub fn standalone(config: &Config, sink: Arc<dyn DeliverySink>) -> Self {
        let model = Model::new(config, Instant::now(), wall_clock());
        Self::with(config, Machine::standalone(config), Store::Local(Box::new(model)), sink, Status::Online)
    }

    /// A node of a larger cluster; `driver` makes its calls, and gives back what comes of them.
    pub(crate) fn shared(
        config: &Config,
        node: NodeInfo,
        sink: Arc<dyn DeliverySink>,
        driver: UnboundedSender<ToDriver>,
    ) -> Self {
        Self::shared_at(config, node, sink, driver, Instant::now(), wall_clock())
    }

    /// The same, on a clock that shows `wall_clock` (microseconds since 1970) at `now`.
    pub(crate) fn shared_at(
        config: &Config,
        node: NodeInfo,
        sink: Arc<dyn DeliverySink>,
        driver: UnboundedSender<ToDriver>,
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
            core: Mutex::new(Core { machine, store, outputs: Outputs::new(), overflows: 0, waits: 0 }),
            nodes: RwLock::default(),
            link: OnceLock::new(),
            status: AtomicU8::new(status as u8 | if is_shared { SHARED } else { 0 }),
        }
    }

    /// Takes a command; its answer arrives in the inbox of the shard that asks.
    pub fn submit(&self, now: Instant, command: Command) {
        let congested = |shard| self.sink.is_congested(shard);
        self.step(now, |machine, out| machine.command(now, command, &congested, out));
    }

    /// Sends a message to whoever holds its addressee's id, or lets it wait. A sender whose id was taken over or given up is not
    /// heard any more. `shard` sends it (on).
    pub fn send(&self, now: Instant, shard: ShardId, peer_message: PeerMessage) -> SendOutcome {
        let directory = &self.directories[usize::from(peer_message.realm)];
        let is_held = || {
            directory
                .pin()
                .get(&*peer_message.src)
                .is_some_and(|at| at.generation == peer_message.from.generation)
        };
        if peer_message.hops == 0 && !is_held() {
            // A grant is told before it shows here; who has just heard of one waits until it does.
            drop(self.core.lock());
            if !is_held() {
                return SendOutcome::Fenced;
            }
        }
        // One that was sent on too often is judged by the store alone.
        if peer_message.hops < 2
            && let Some(to) = directory.pin().get(&*peer_message.dst).copied()
        {
            return self.offer(to, peer_message);
        }
        let core = &mut *self.core.lock();
        let (overflows, waits) = (core.overflows, core.waits);
        core.machine.peer_message(now, shard, peer_message, &mut core.outputs);
        self.run(core, now);
        match (core.overflows == overflows, core.waits == waits) {
            (_, false) => SendOutcome::Waits,
            (false, _) => SendOutcome::Overflow,
            (true, true) => SendOutcome::Taken,
        }
    }

    fn offer(&self, to: PeerAt, peer_message: PeerMessage) -> SendOutcome {
        let offered = self.sink.offer(to.shard, Delivery::PeerMessage { to, peer_message });
        if offered { SendOutcome::Taken } else { SendOutcome::Overflow }
    }

    /// Whether somebody is known to hold an id, here or (as far as this node remembers) on another node.
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

    /// Whatever other nodes said before this is in the inboxes of the shards that were on its route, and what they say from now on
    /// goes to those that are.
    pub fn barrier(&self) {
        drop(self.core.lock());
    }

    /// Whether there may be other nodes.
    pub fn is_shared(&self) -> bool {
        self.status.load(Ordering::Relaxed) & SHARED != 0
    }

    /// Whether the shared store can be relied on; always in a cluster of one.
    pub fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) & !SHARED {
            0 => Status::Joining,
            1 => Status::Online,
            _ => Status::Degraded,
        }
    }

    /// Whether the store was there for long enough that nodes have written their parts again, should it have been away.
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

    /// The way to other nodes past the store, once there is one.
    pub fn link(&self) -> Option<&Link> {
        self.link.get()
    }

    /// Where a node is reached over the link.
    pub fn peer(&self, tag: NodeTag) -> Option<RemoteNode> {
        Some(RemoteNode { tag, addr: self.nodes.read().get(&tag)?.link? })
    }

    /// Asks the store who is in the cluster; the answer shows in [`Cluster::nodes`] soon.
    pub fn refresh_nodes(&self, now: Instant) {
        self.step(now, |machine, out| machine.refresh_nodes(now, out));
    }

    /// Says something to other nodes: [`DeliverySink::deliver_broadcast`] brings it there. Not to this one; at most once; in the order in which it
    /// was said in the same scope. While the store is away nobody hears it.
    pub fn broadcast(&self, now: Instant, scope: Scope<'_>, payload: Bytes) {
        if !self.is_shared() {
            return;
        }
        let core = self.core.lock();
        if let Store::Remote(driver) = &core.store
            && core.machine.is_online(now)
        {
            let room = match scope {
                Scope::Room(room) => Some(room.clone()),
                Scope::Everywhere => None,
            };
            let _ = driver.send(ToDriver::Publish { from: core.machine.owner(), room, payload });
        }
    }

    /// Tells one node something: [`DeliverySink::deliver_node_message`] brings it there, at most once. `false` when the store is away.
    pub fn send_to_node(&self, now: Instant, to: NodeTag, payload: Bytes) -> bool {
        let core = self.core.lock();
        let Store::Remote(driver) = &core.store else { return false };
        let is_online = core.machine.is_online(now);
        if is_online {
            let call =
                Call::SendDirect { from: core.machine.owner(), to, message: DirectMessage::Payload(payload) };
            let _ = driver.send(ToDriver::Call(Box::new((call, Pending::None))));
        }
        is_online
    }

    /// What belongs to a session that is to move to another node. It stays this node's until [`Cluster::release_session`].
    pub fn session_records(
        &self,
        memberships: &[(RoomName, Address)],
        sockets: &[(Arc<str>, Address)],
    ) -> SessionRecords {
        self.core.lock().machine.session_records(memberships, sockets)
    }

    /// What belonged to a session is another node's now.
    pub fn release_session(&self, memberships: &[(RoomName, Address)], sockets: &[(Arc<str>, Address)]) {
        self.core.lock().machine.release_session(memberships, sockets);
    }

    /// This node drains, or not: others are told.
    pub fn set_draining(&self, now: Instant, is_draining: bool) {
        self.core.lock().machine.update_node_info(now, |node| node.is_draining = is_draining);
    }

    /// Leaves the cluster; what is left of this node's records goes with it. Done when the store has heard of it, or cannot be
    /// reached.
    pub async fn leave(&self, now: Instant) {
        self.step(now, |machine, out| machine.leave_cluster(now, out));
        let (end, ended) = oneshot::channel();
        send_to_driver(&self.core.lock().store, ToDriver::End(end));
        // Without a driver it is done at once.
        let _ = ended.await;
    }

    /// Ends the driver without a word, as a crash does.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        send_to_driver(&self.core.lock().store, ToDriver::End(oneshot::channel().0));
    }

    /// The machine, for a simulation to look at.
    #[cfg(test)]
    #[allow(dead_code, reason = "for the simulation")]
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.core.lock().machine)
    }

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
                        // Published before it is answered: whoever joins is told of what came before by the answer.
                        for delta in published {
                            core.machine.bus_delta(delta, &mut core.outputs);
                        }
                        core.machine.reply(now, pending, reply, &mut core.outputs);
                    }
                    Store::Remote(driver) => {
                        if let Err(refused) = driver.send(ToDriver::Call(Box::new((call, pending)))) {
                            // The driver is gone: the node stops.
                            let ToDriver::Call(call) = refused.0 else { continue };
                            let (_, pending) = *call;
                            let reply = Reply::Failed { may_have_run: false };
                            core.machine.reply(now, pending, reply, &mut core.outputs);
                        }
                    }
                },
                Output::Deliver(shard, delivery) => {
                    core.waits += u64::from(matches!(delivery, Delivery::Waiting { .. }));
                    self.sink.deliver(shard, delivery);
                }
                Output::Offer(to, peer_message) => {
                    if self.offer(to, peer_message) == SendOutcome::Overflow {
                        core.overflows += 1;
                    }
                }
                Output::ClaimHeld { realm, id, at } => {
                    self.directories[usize::from(realm)].pin().insert(id, at);
                }
                Output::ClaimFreed { realm, id, generation } => {
                    let directory = self.directories[usize::from(realm)].pin();
                    if directory.get(&*id).is_some_and(|at| at.generation == generation) {
                        directory.remove(&*id);
                    }
                }
                Output::Overflow => core.overflows += 1,
                Output::Subscribe(room) => send_to_driver(&core.store, ToDriver::Subscribe(room)),
                Output::Unsubscribe(room) => send_to_driver(&core.store, ToDriver::Unsubscribe(room)),
                Output::Nodes(nodes) => {
                    let nodes = nodes.into_iter().map(|node| (node.owner.tag, node)).collect();
                    *self.nodes.write() = Arc::new(nodes);
                }
                Output::Status(status) => self.status.store(status as u8 | SHARED, Ordering::Release),
            }
        }
    }
}

/// What the driver of a shared store brings.
impl Cluster {
    /// The node link is there.
    pub(crate) fn set_link(&self, link: Link) {
        let _ = self.link.set(link);
    }

    /// A call was answered.
    pub(crate) fn replied(&self, now: Instant, pending: Pending, reply: Reply) {
        self.step(now, |machine, out| machine.reply(now, pending, reply, out));
    }

    /// A room has changed.
    pub(crate) fn room_changed(&self, now: Instant, delta: RoomDelta) {
        self.step(now, |machine, out| machine.bus_delta(delta, out));
    }

    /// Something was said, in a room or everywhere.
    pub(crate) fn received_broadcast(&self, from: Owner, room: Option<RoomName>, payload: Bytes) {
        // Held until all shards have it: see [`Cluster::barrier`].
        let core = self.core.lock();
        if from.tag == core.machine.owner().tag || core.machine.is_dead(from) {
            return;
        }
        let (route, is_current) = match &room {
            Some(room) => match core.machine.find_route(room) {
                Some(route) => (Some(route), core.machine.is_current(room)),
                None => return,
            },
            None => (None, true),
        };
        self.sink.deliver_broadcast(BusDelivery { from, room, route, is_current, payload });
    }

    /// A node told this one something.
    pub(crate) fn received_direct(&self, now: Instant, from: Owner, message: DirectMessage) {
        match message {
            DirectMessage::Payload(payload) => {
                if !self.core.lock().machine.is_dead(from) {
                    self.sink.deliver_node_message(from, payload);
                }
            }
            message => self.step(now, |machine, out| machine.direct_message(now, from, message, out)),
        }
    }

    /// A room is heard.
    pub(crate) fn subscribed(&self, now: Instant, room: &RoomName) {
        self.step(now, |machine, out| machine.subscribed(now, room, out));
    }

    /// What was said in a room, or in all, may have been missed.
    pub(crate) fn subscription_lost(&self, room: Option<&RoomName>) {
        self.core.lock().machine.subscription_lost(room);
    }

    /// What is told to this node, or to all, may have been missed; its rooms were heard all the time.
    pub(crate) fn bus_lost(&self) {
        self.core.lock().machine.bus_lost();
    }

    /// What is told to this node is heard, again.
    pub(crate) fn bus_restored(&self, now: Instant) {
        self.step(now, |machine, out| machine.bus_restored(now, out));
    }

    /// The connection to the store was lost.
    pub(crate) fn store_lost(&self, now: Instant) {
        self.step(now, |machine, out| machine.store_lost(now, out));
    }

    /// Time has passed.
    pub(crate) fn tick(&self, now: Instant) {
        self.step(now, |machine, out| machine.tick(now, out));
    }
}

/// Marks, in [`Cluster::status`], a node whose store is shared.
const SHARED: u8 = 0x80;

fn send_to_driver(store: &Store, what: ToDriver) {
    if let Store::Remote(driver) = store {
        let _ = driver.send(what);
    }
}

/// Microseconds since 1970: what a later start grants is later than what an earlier one did.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

#[cfg(test)]
mod tests;
