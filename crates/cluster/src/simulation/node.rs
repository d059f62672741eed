//! One node: its machine, its connections, and a shard as far as the cluster sees one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_peerserver::Kind;
use signalbox_websocket::Frame;

use super::world::World;
use crate::{
    Address, Config, Owner, RoomName, Route,
    address::NodeTag,
    command::{Change, Claimed, Command, Delivery, PeerAt, Ticket},
    machine::{Machine, Output, Outputs, Pending},
    store::{Call, DirectMessage, NodeInfo, Reply, RoomDelta},
};

/// How long a command may take to be answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum BusMessage {
    Subscribed(RoomName),
    Changed(RoomDelta),
    Direct(Owner, DirectMessage),
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: Address,
    /// The rooms it is in, and who is there as far as it was told.
    pub(super) rooms: BTreeMap<String, BTreeSet<Address>>,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: Arc<str>,
    pub(super) at: PeerAt,
    /// Its claim's generation, once it is granted.
    pub(super) claim: Option<u64>,
}

/// What a ticket was for.
#[derive(Debug)]
pub(super) enum Asked {
    Join { socket: Address, room: String },
    Claim { key: u32 },
}

/// This shard's part of a room.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) route: Arc<Route>,
    pub(super) expected: u32,
}

pub(super) struct Node {
    pub(super) tag: NodeTag,
    pub(super) machine: Machine,
    pub(super) paused_until: Option<Instant>,
    pub(super) cut_until: Option<Instant>,
    /// The connection for calls breaks with the next call; that for heartbeats does not.
    pub(super) loses_calls: bool,
    pub(super) out: Outputs,
    /// Calls on their way to the store and replies on their way back; heartbeats have a connection of their own.
    pub(super) lanes: [Lane; 2],
    pub(super) bus: Option<VecDeque<(Instant, BusMessage)>>,
    pub(super) bus_back_at: Instant,
    pub(super) wanted: BTreeSet<RoomName>,
    pub(super) is_subscribed: BTreeSet<RoomName>,
    pub(super) next_tick: Instant,
    pub(super) mailbox: VecDeque<Delivery>,
    pub(super) directory: BTreeMap<Arc<str>, PeerAt>,
    pub(super) clients: Vec<Client>,
    pub(super) peers: BTreeMap<u32, Peer>,
    pub(super) rooms: BTreeMap<String, Room>,
    pub(super) asked: BTreeMap<Ticket, (Instant, Asked)>,
    pub(super) waits: VecDeque<(Instant, Arc<str>, Arc<str>, u64)>,
    pub(super) last: u64,
}

#[derive(Default)]
pub(super) struct Lane {
    requests: VecDeque<(Instant, Call, Pending)>,
    replies: VecDeque<(Instant, Pending, Reply)>,
}

/// Nothing overtakes what was sent before it.
fn in_order(at: Instant, last: Option<Instant>) -> Instant {
    last.map_or(at, |last| at.max(last))
}

impl Node {
    pub(super) fn new(tag: NodeTag, config: &Config, now: Instant, wall_clock: u64) -> Self {
        let owner = Owner { tag, epoch: 0 };
        let info = NodeInfo::new(owner, tag.to_string());
        Self {
            tag,
            machine: {
                let mut machine = Machine::shared(config, info, now, wall_clock);
                machine.set_token_secret(now, "the secret of the cluster", &mut Outputs::new());
                machine
            },
            paused_until: None,
            cut_until: None,
            loses_calls: false,
            out: Outputs::new(),
            lanes: Default::default(),
            bus: None,
            bus_back_at: now,
            wanted: BTreeSet::new(),
            is_subscribed: BTreeSet::new(),
            next_tick: now,
            mailbox: VecDeque::new(),
            directory: BTreeMap::new(),
            clients: Vec::new(),
            peers: BTreeMap::new(),
            rooms: BTreeMap::new(),
            asked: BTreeMap::new(),
            waits: VecDeque::new(),
            last: 0,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    fn is_cut(&self, now: Instant) -> bool {
        self.cut_until.is_some_and(|until| now < until)
    }

    /// Whether the store reaches it: also while it is paused.
    pub(super) fn has_bus(&self) -> bool {
        self.bus.is_some()
    }

    pub(super) fn is_subscribed(&self, room: &RoomName) -> bool {
        self.has_bus() && self.is_subscribed.contains(room)
    }

    pub(super) fn receive(&mut self, at: Instant, message: BusMessage) {
        if let Some(bus) = &mut self.bus {
            let at = in_order(at, bus.back().map(|(at, _)| *at));
            bus.push_back((at, message));
        }
    }

    /// The subscriber connection breaks; messages on their way are lost.
    pub(super) fn lose_bus(&mut self) {
        if self.bus.take().is_some() {
            self.is_subscribed.clear();
            self.machine.subscription_lost(None);
        }
    }

    pub(super) fn turn(&mut self, world: &mut World) {
        let now = world.now;
        self.serve_requests(world);
        if self.is_paused(now) {
            return;
        }
        if self.bus.is_none() && now >= self.bus_back_at {
            if world.is_store_there() && !self.is_cut(now) {
                self.bus = Some(VecDeque::new());
                self.is_subscribed = self.wanted.clone();
                self.machine.bus_restored(now, &mut self.out);
                self.outputs(world);
                for room in self.wanted.clone() {
                    let at = world.delay();
                    self.receive(at, BusMessage::Subscribed(room));
                }
            }
            self.bus_back_at = world.delay() + Duration::from_millis(200);
        }
        for lane in 0..self.lanes.len() {
            while self.lanes[lane].replies.front().is_some_and(|(at, ..)| *at <= now) {
                let Some((_, pending, reply)) = self.lanes[lane].replies.pop_front() else { break };
                world.trace(|| format!("node {}: {pending:?}: {reply:?}", self.tag));
                self.machine.reply(now, pending, reply, &mut self.out);
                self.outputs(world);
            }
        }
        while let Some((_, message)) = self
            .bus
            .as_mut()
            .filter(|bus| bus.front().is_some_and(|(at, _)| *at <= now))
            .and_then(VecDeque::pop_front)
        {
            world.trace(|| format!("node {}: is_subscribed {message:?}", self.tag));
            match message {
                BusMessage::Subscribed(room) => self.machine.subscribed(now, &room, &mut self.out),
                BusMessage::Changed(delta) => self.machine.room_changed(delta, &mut self.out),
                BusMessage::Direct(from, message) => {
                    self.machine.direct_message(now, from, message, &mut self.out)
                }
            }
            self.outputs(world);
        }
        if now >= self.next_tick {
            self.next_tick = now + Duration::from_millis(100);
            self.machine.tick(now, &mut self.out);
            self.outputs(world);
        }
        while self.waits.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, src, dst, number)) = self.waits.pop_front() {
                self.submit(world, Command::Expire { realm: 0, src, dst, number });
            }
        }
        while let Some(delivery) = self.mailbox.pop_front() {
            self.take(world, delivery);
        }
        let is_late = self.asked.values().any(|(at, _)| now > *at + ANSWER_WITHIN);
        let is_kept_waiting = is_late && self.paused_until.is_none_or(|until| now > until + ANSWER_WITHIN);
        assert!(!is_kept_waiting, "node {}: no answer to {:?}", self.tag, self.asked);
    }

    /// Calls of this node reach the store, also while the node is paused.
    fn serve_requests(&mut self, world: &mut World) {
        let now = world.now;
        for lane in 0..self.lanes.len() {
            while self.lanes[lane].requests.front().is_some_and(|(at, ..)| *at <= now) {
                let Some((_, call, pending)) = self.lanes[lane].requests.pop_front() else { break };
                let is_reached = world.is_store_there() && !self.is_cut(now);
                let is_broken = lane == 0 && std::mem::take(&mut self.loses_calls);
                let reply = if is_reached && !is_broken {
                    // Now and then the store refuses a call.
                    let is_refused = lane == 0 && world.chance(0.002);
                    if is_refused { Reply::Failed { may_have_run: false } } else { self.execute(world, call) }
                } else if is_reached {
                    // Its reply is lost.
                    if world.chance(0.5) {
                        self.execute(world, call);
                    }
                    Reply::Failed { may_have_run: true }
                } else {
                    // The call never arrived, which nobody on the node can tell for sure.
                    Reply::Failed { may_have_run: world.delay() > now + Duration::from_millis(15) }
                };
                let is_failed = is_broken || !is_reached;
                let at = in_order(world.delay(), self.lanes[lane].replies.back().map(|(at, ..)| *at));
                self.lanes[lane].replies.push_back((at, pending, reply));
                if is_failed {
                    // The connection is gone, and everything on it.
                    for (_, _, pending) in std::mem::take(&mut self.lanes[lane].requests) {
                        self.lanes[lane].replies.push_back((
                            at,
                            pending,
                            Reply::Failed { may_have_run: false },
                        ));
                    }
                }
            }
        }
    }

    fn execute(&mut self, world: &mut World, call: Call) -> Reply {
        world.execute(self, call)
    }

    pub(super) fn submit(&mut self, world: &mut World, command: Command) {
        self.machine.command(world.now, command, &|_| false, &mut self.out);
        self.outputs(world);
    }

    pub(super) fn outputs(&mut self, world: &mut World) {
        while let Some(output) = self.out.pop_front() {
            match output {
                Output::Call(call, pending) => {
                    let lane = usize::from(matches!(call, Call::Heartbeat { .. }));
                    let at = in_order(world.delay(), self.lanes[lane].requests.back().map(|(at, ..)| *at));
                    self.lanes[lane].requests.push_back((at, call, pending));
                }
                Output::Deliver(_, delivery) => self.mailbox.push_back(delivery),
                Output::Offer(to, peer_message) => {
                    self.mailbox.push_back(Delivery::PeerMessage { to, peer_message })
                }
                Output::ClaimHeld { id, at, .. } => {
                    self.directory.insert(id, at);
                }
                Output::ClaimFreed { id, generation, .. } => {
                    if self.directory.get(&id).is_some_and(|at| at.generation == generation) {
                        self.directory.remove(&id);
                    }
                }
                Output::Subscribe(room) => {
                    world.trace(|| format!("node {}: subscribes {}", self.tag, room.name));
                    self.wanted.insert(room.clone());
                    if self.has_bus() {
                        self.is_subscribed.insert(room.clone());
                        let at = world.delay();
                        self.receive(at, BusMessage::Subscribed(room));
                    }
                }
                Output::Unsubscribe(room) => {
                    world.trace(|| format!("node {}: unsubscribes {}", self.tag, room.name));
                    self.wanted.remove(&room);
                    self.is_subscribed.remove(&room);
                }
                Output::Status(status) => world.trace(|| format!("node {} is {status:?}", self.tag)),
                Output::Event(_)
                | Output::Dropped(_)
                | Output::Settled { .. }
                | Output::Nodes(_)
                | Output::WriteFormat(_) => {}
            }
        }
    }

    // What is delivered to the shard.

    fn take(&mut self, world: &mut World, delivery: Delivery) {
        match delivery {
            Delivery::Joined { ticket, members, .. } => {
                let Some((_, Asked::Join { socket, room: name })) = self.asked.remove(&ticket) else {
                    panic!("node {}: a join was answered twice", self.tag)
                };
                if let Some(local) = self.rooms.get_mut(&name) {
                    local.expected -= 1;
                }
                world.trace(|| format!("node {}: {socket} is in {name} with {}", self.tag, members.len()));
                let others = members.iter().map(|member| member.socket).filter(|other| *other != socket);
                let members = others.collect();
                match self.clients.iter_mut().find(|client| client.socket == socket) {
                    Some(client) => {
                        client.rooms.insert(name, members);
                    }
                    None => self.left(world, &name, socket),
                }
            }
            Delivery::RoomChanged { room, change, .. } => self.changed(world, &room.name, &change),
            Delivery::Claimed { ticket, claimed } => {
                let Some((_, Asked::Claim { key })) = self.asked.remove(&ticket) else {
                    panic!("node {}: a claim was answered twice", self.tag)
                };
                let Claimed::Granted { generation, waiting } = claimed else {
                    self.peers.remove(&key);
                    return;
                };
                for frame in waiting {
                    deliver(world, &frame);
                }
                world.trace(|| format!("node {}: key {key} is granted {generation}", self.tag));
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.claim = Some(generation);
                }
            }
            Delivery::Superseded(at) => {
                world.trace(|| format!("node {}: {at:?} is superseded", self.tag));
                if self.peers.get(&at.key).is_some_and(|peer| peer.claim == Some(at.generation)) {
                    self.end_peer(world, at.key);
                }
            }
            Delivery::PeerMessage { to, mut peer_message } => {
                let is_here = self.peers.get(&to.key).is_some_and(|peer| peer.claim == Some(to.generation));
                if is_here {
                    if peer_message.kind != Kind::Expire {
                        deliver(world, &peer_message.frame);
                    }
                } else if peer_message.hops < 2 && peer_message.kind != Kind::Expire {
                    peer_message.hops += 1;
                    self.post(world, peer_message);
                }
            }
            Delivery::Waiting { src, dst, number, .. } => {
                self.waits.push_back((world.now + Duration::from_secs(5), src, dst, number));
            }
            other => panic!("node {}: nobody asked for {other:?}", self.tag),
        }
    }

    /// Every member of the room on this node but the subject gets the change, which must be news to it.
    fn changed(&mut self, world: &mut World, name: &str, change: &Change) {
        let socket = change.record().socket;
        world.trace(|| format!("node {}: {name}: {change:?}", self.tag));
        for client in self.clients.iter_mut().filter(|client| client.socket != socket) {
            let Some(view) = client.rooms.get_mut(name) else { continue };
            let (is_news, what) = match change {
                Change::Joined(_) => (view.insert(socket), "joined"),
                Change::Updated(_) => (view.contains(&socket), "was updated"),
                Change::Left(_) => (view.remove(&socket), "left"),
            };
            assert!(is_news, "node {}: {}: {socket} {what} in vain in {name}", self.tag, client.socket);
        }
    }

    // The truth, for the comparison at the end.

    pub(super) fn members(&self, name: &str) -> Vec<Address> {
        let there = self.clients.iter().filter(|client| client.rooms.contains_key(name));
        there.map(|client| client.socket).collect()
    }

    pub(super) fn held(&self) -> Vec<Arc<str>> {
        self.peers.values().filter(|peer| peer.claim.is_some()).map(|peer| peer.id.clone()).collect()
    }

    pub(super) fn users(&self) -> Vec<Address> {
        self.clients.iter().map(|client| client.socket).collect()
    }

    pub(super) fn check_views(&self, name: &str, truth: &BTreeSet<Address>) {
        for client in &self.clients {
            let Some(view) = client.rooms.get(name) else { continue };
            let mut expected = truth.clone();
            expected.remove(&client.socket);
            assert_eq!(*view, expected, "node {}: what {} sees in {name}", self.tag, client.socket);
        }
    }

    pub(super) fn check_answers(&self) {
        assert!(self.asked.is_empty(), "node {}: not answered: {:?}", self.tag, self.asked);
    }
}

fn deliver(world: &mut World, frame: &Frame) {
    let text = String::from_utf8_lossy(frame.payload()).into_owned();
    let count = world.delivered.entry(text.clone()).or_default();
    *count += 1;
    assert_eq!(*count, 1, "{text} was delivered again");
}
