//! The clock, the store, the faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::node::{BusMessage, Node};
use crate::{
    Address, Config, RoomName,
    address::NodeTag,
    model::Model,
    store::{Call, Reply, RoomDelta},
};

/// One step of the clock.
const STEP: Duration = Duration::from_millis(20);
/// How long faults go on, and how long everything has to come to rest afterwards.
const FAULTS: Duration = Duration::from_secs(40);
const REST: Duration = Duration::from_secs(30);
/// Microseconds that the store's clock shows at the beginning.
const ORIGIN: u64 = 1_000_000_000_000;

pub(super) const ROOMS: [&str; 3] = ["red", "green", "blue"];
pub(super) const IDS: [&str; 4] = ["ann", "bob", "cid", "dan"];
pub(super) const TOKENS: [&str; 2] = ["one", "two"];

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) began: Instant,
    pub(super) now: Instant,
    config: Config,
    model: Model,
    /// How often the store began anew.
    starts: u64,
    store_back_at: Option<Instant>,
    nodes: Vec<Node>,
    tags: u32,
    traces: bool,
    /// Messages by their texts: how often each was delivered.
    pub(super) delivered: BTreeMap<String, u32>,
    peer_messages: u64,
}

pub(super) fn room(name: &str) -> RoomName {
    RoomName { namespace: "/".into(), name: name.into() }
}

impl World {
    pub(super) fn new(seed: u64, traces: bool) -> Self {
        let config = Config {
            realms: vec!["peerjs".into()],
            concurrent_limit: None,
            room_members: None,
            presence_limit: None,
            expire_timeout: Duration::from_secs(5),
        };
        let began = Instant::now();
        Self {
            rng: StdRng::seed_from_u64(seed),
            began,
            now: began,
            model: Model::new(&config, began, ORIGIN),
            config,
            starts: 0,
            store_back_at: None,
            nodes: Vec::new(),
            tags: 0,
            traces,
            delivered: BTreeMap::new(),
            peer_messages: 0,
        }
    }

    #[expect(clippy::print_stderr, reason = "a trace that was asked for")]
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{:>8.3} {}", (self.now - self.began).as_secs_f64(), what());
        }
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    fn pick<'a>(&mut self, names: &[&'a str]) -> &'a str {
        names[self.rng.random_range(0..names.len())]
    }

    fn start_node(&mut self) {
        self.tags += 1;
        let tag = NodeTag(self.tags);
        self.trace(|| format!("node {tag} starts"));
        self.nodes.push(Node::new(tag, &self.config, self.now, ORIGIN));
    }

    pub(super) fn run(mut self) {
        for _ in 0..3 {
            self.start_node();
        }
        while self.now < self.began + FAULTS {
            self.now += STEP;
            self.clients();
            self.faults();
            self.turn();
        }
        self.trace(|| "the faults are over".to_owned());
        self.store_back_at = None;
        for node in &mut self.nodes {
            // Nodes that were paused have the time to answer only from now on.
            node.paused_until = node.paused_until.map(|until| until.min(self.now));
            node.cut_until = None;
        }
        self.turn_for(REST);
        self.check();
    }

    /// Clients come, go and speak.
    fn clients(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_paused(self.now) {
                continue;
            }
            for _ in 0..4 {
                if !self.chance(0.05) {
                    continue;
                }
                let (what, name) = (self.rng.random_range(0..8), self.pick(&ROOMS));
                let (id, token, to) = (self.pick(&IDS), self.pick(&TOKENS), self.pick(&IDS));
                let random = self.rng.random_range(0..1_000_000_usize);
                let mut node = self.nodes.swap_remove(index);
                match what {
                    0 => node.connect(self, random),
                    1 | 2 => node.join(self, random, name),
                    3 => node.leave(self, random),
                    4 => node.disconnect(self, random),
                    5 => node.claim(self, id, token),
                    6 => node.release(self, random),
                    _ => {
                        self.peer_messages += 1;
                        let text = format!("peer_message {}", self.peer_messages);
                        node.send(self, random, to, text);
                    }
                }
                self.put_back(index, node);
            }
        }
    }

    /// Nothing fails, and one client's connections claim one id at the same time, on all nodes: one of them stays.
    pub(super) fn run_parallel_claims(mut self) {
        const CONNECTIONS: usize = 12;
        for _ in 0..3 {
            self.start_node();
        }
        self.turn_for(Duration::from_secs(3));
        for id in IDS {
            for connection in 0..CONNECTIONS {
                let index = connection % self.nodes.len();
                let mut node = self.nodes.swap_remove(index);
                node.claim(&mut self, id, TOKENS[0]);
                self.put_back(index, node);
            }
        }
        self.turn_for(Duration::from_secs(5));
        self.check();
        for id in IDS {
            let held = self.nodes.iter().flat_map(Node::held).filter(|held| **held == *id).count();
            assert_eq!(held, 1, "holders of {id}");
        }
    }

    fn turn_for(&mut self, period: Duration) {
        let until = self.now + period;
        while self.now < until {
            self.now += STEP;
            self.turn();
        }
    }

    fn put_back(&mut self, index: usize, node: Node) {
        self.nodes.push(node);
        let last = self.nodes.len() - 1;
        self.nodes.swap(index, last);
    }

    fn faults(&mut self) {
        if let Some(at) = self.store_back_at.filter(|at| *at <= self.now) {
            let _ = at;
            self.store_back_at = None;
            self.trace(|| "the store is back".to_owned());
        }
        if self.store_back_at.is_none() && self.chance(0.0015) {
            let away = Duration::from_millis(self.rng.random_range(100..12_000));
            self.store_back_at = Some(self.now + away);
            let is_emptied = self.chance(0.6);
            self.trace(|| format!("the store goes away for {away:?}, emptied: {is_emptied}"));
            if is_emptied {
                self.starts += 1;
                // A new start has another run id, and a clock that is ahead of the former.
                let origin = ORIGIN + self.starts * 1_000_000 + (self.now - self.began).as_micros() as u64;
                self.model = Model::new(&self.config, self.now, origin);
            }
            for node in &mut self.nodes {
                node.lose_bus();
            }
        }
        if self.chance(0.001) {
            self.trace(|| "everything in the store is deleted".to_owned());
            self.model.forget_everything(&self.config);
        }
        for index in 0..self.nodes.len() {
            if self.chance(0.0008) {
                let until = self.now + Duration::from_millis(self.rng.random_range(200..15_000));
                let node = &mut self.nodes[index];
                node.cut_until = Some(until);
                node.lose_bus();
                let tag = node.tag;
                self.trace(|| format!("node {tag} is cut off"));
            }
            if self.chance(0.002) {
                self.nodes[index].loses_calls = true;
                let tag = self.nodes[index].tag;
                self.trace(|| format!("node {tag} loses its calls"));
            }
            if self.chance(0.001) {
                self.nodes[index].lose_bus();
                let tag = self.nodes[index].tag;
                self.trace(|| format!("node {tag} loses the bus"));
            }
            if self.chance(0.0006) {
                let until = self.now + Duration::from_millis(self.rng.random_range(500..20_000));
                self.nodes[index].paused_until = Some(until);
                let tag = self.nodes[index].tag;
                self.trace(|| format!("node {tag} is paused"));
            }
        }
        if self.chance(0.0008) && self.nodes.len() > 1 {
            let index = self.rng.random_range(0..self.nodes.len());
            let node = self.nodes.swap_remove(index);
            self.trace(|| format!("node {} is killed", node.tag));
            self.start_node();
        }
    }

    pub(super) fn is_store_there(&self) -> bool {
        self.store_back_at.is_none()
    }

    /// Everybody has a turn, in any order.
    fn turn(&mut self) {
        for index in 0..self.nodes.len() {
            let mut node = self.nodes.swap_remove(index);
            node.turn(self);
            self.put_back(index, node);
        }
    }

    /// The store executes a call, and publishes what follows.
    pub(super) fn execute(&mut self, from: &mut Node, call: Call) -> Reply {
        if let Call::SendDirect { from: owner, to, message } = call {
            let delay = self.delay();
            let others = self.nodes.iter_mut().chain(std::iter::once(&mut *from));
            let receivers: Vec<&mut Node> = others.filter(|node| node.tag == to && node.has_bus()).collect();
            let count = receivers.len() as u64;
            for node in receivers {
                node.receive(delay, BusMessage::Direct(owner, message.clone()));
            }
            return Reply::Receivers(count);
        }
        let is_listed = matches!(
            call,
            Call::Claim { .. }
                | Call::Reclaim { .. }
                | Call::Release { .. }
                | Call::CountTakeover { .. }
                | Call::PutUsers { .. }
        );
        let what = (self.traces && is_listed).then(|| format!("{call:?}"));
        let (reply, published) = self.model.execute(call, self.now);
        if let Some(what) = what {
            self.trace(|| format!("the store: {what}: {reply:?}"));
        }
        for delta in published {
            self.publish(from, &delta);
        }
        reply
    }

    fn publish(&mut self, from: &mut Node, delta: &RoomDelta) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_subscribed(&delta.room) {
                let delay = self.delay();
                self.nodes[index].receive(delay, BusMessage::Changed(delta.clone()));
            }
        }
        if from.is_subscribed(&delta.room) {
            let delay = self.delay();
            from.receive(delay, BusMessage::Changed(delta.clone()));
        }
    }

    /// When something that is sent now arrives.
    pub(super) fn delay(&mut self) -> Instant {
        let millis =
            if self.chance(0.02) { self.rng.random_range(100..800) } else { self.rng.random_range(0..30) };
        self.now + Duration::from_millis(millis)
    }

    /// Everything has come to rest: the clients' views, the store and the truth must be the same.
    fn check(&mut self) {
        let now = self.now;
        for node in &self.nodes {
            assert!(node.machine.is_online(now), "node {} is not online", node.tag);
            node.check_answers();
        }
        for name in ROOMS {
            let truth: BTreeSet<Address> = self.nodes.iter().flat_map(|node| node.members(name)).collect();
            for node in &self.nodes {
                node.check_views(name, &truth);
            }
            let Reply::Records { records, .. } =
                self.model.execute(Call::Records { room: room(name) }, now).0
            else {
                panic!("records")
            };
            let stored: BTreeSet<Address> = records.iter().map(|record| record.socket).collect();
            assert_eq!(stored, truth, "the store's members of {name}");
        }
        let mut holders = BTreeMap::new();
        for node in &self.nodes {
            for id in node.held() {
                let other = holders.insert(id.clone(), node.tag);
                assert_eq!(other, None, "{id} is held twice, by {} too", node.tag);
            }
        }
        let Reply::Peers(mut ids) = self.model.execute(Call::Peers { realm: 0 }, now).0 else {
            panic!("peers")
        };
        ids.sort_unstable();
        let held: Vec<_> = holders.keys().cloned().collect();
        assert_eq!(ids, held, "the store's ids");
        let users: BTreeSet<Address> = self.nodes.iter().flat_map(Node::users).collect();
        let call = Call::Users { namespace: "/".into(), after: None };
        let Reply::Users(listed, _) = self.model.execute(call, now).0 else { panic!("users") };
        let listed: BTreeSet<Address> = listed.into_iter().map(|(socket, _)| socket).collect();
        assert_eq!(listed, users, "the store's users");
        assert!(self.delivered.values().all(|count| *count == 1), "a peer_message was delivered twice");
    }
}
