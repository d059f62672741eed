use std::time::Duration;

use super::*;
use crate::{
    Config, Owner,
    address::NodeTag,
    command::Command,
    model::{LEASE, Model, REWRITE_GRACE},
    record::Record,
    store::{NodeInfo, Reply},
};

const ROOMS: usize = 6 * AT_ONCE * PORTION;

/// A node, and a store that can be away, and that works on no portion while it is held up.
struct World {
    now: Instant,
    model: Model,
    machine: Machine,
    is_away: bool,
    is_held_up: bool,
    held_up: Vec<(Call, Pending)>,
    /// The rooms whose members were written, in their order.
    written: Vec<String>,
    /// What the node has said of itself with its heartbeats.
    said: Vec<bool>,
    events: Vec<ClusterEvent>,
}

fn config() -> Config {
    Config {
        realms: Vec::new(),
        concurrent_limit: None,
        room_members: None,
        presence_limit: None,
        expire_timeout: Duration::from_secs(5),
    }
}

fn node(tag: u32) -> NodeInfo {
    NodeInfo::new(Owner { tag: NodeTag(tag), epoch: 0 }, String::new())
}

fn room(number: usize) -> RoomName {
    RoomName { namespace: "/".into(), name: format!("{number:03}").into() }
}

impl World {
    /// A node with a member in each room.
    fn new() -> Self {
        let (now, wall_clock) = (Instant::now(), 1_000_000);
        let mut world = Self {
            now,
            model: Model::new(&config(), now, wall_clock),
            machine: Machine::shared(&config(), node(1), now, wall_clock),
            is_away: false,
            is_held_up: false,
            held_up: Vec::new(),
            written: Vec::new(),
            said: Vec::new(),
            events: Vec::new(),
        };
        world.wait(1_000);
        for number in 0..ROOMS {
            let socket = Address::random(NodeTag(1), 0);
            let record = Record { socket, profile: "{}".into(), joined: None, updated: None, left: None };
            let (room, record) = (room(number), record.into());
            let join = Command::Join { shard: 0, ticket: 0, room, record, list: false, most: None };
            world.step(|machine, now, out| machine.command(now, join, &|_| false, out));
        }
        world.written.clear();
        world
    }

    fn step(&mut self, step: impl FnOnce(&mut Machine, Instant, &mut Outputs)) {
        let mut outputs = Outputs::new();
        step(&mut self.machine, self.now, &mut outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Call(call, pending) => self.call(call, pending, &mut outputs),
                Output::Subscribe(room) => self.machine.subscribed(self.now, &room, &mut outputs),
                Output::Event(event) => self.events.push(event),
                _ => {}
            }
        }
    }

    fn call(&mut self, call: Call, pending: Pending, outputs: &mut Outputs) {
        match &call {
            Call::Put { room, .. } => self.written.push(room.name.to_string()),
            Call::Heartbeat { node, .. } => self.said.push(node.is_rewriting),
            _ => {}
        }
        if self.is_held_up && matches!(call, Call::Flush | Call::Put { .. }) {
            self.held_up.push((call, pending));
            return;
        }
        let reply = match self.is_away {
            true => Reply::Failed { may_have_run: false },
            false => self.model.execute(call, self.now).0,
        };
        self.machine.reply(self.now, pending, reply, outputs);
    }

    fn wait(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 100 {
            self.now += Duration::from_millis(100);
            self.step(|machine, now, out| machine.tick(now, out));
        }
    }

    /// The store works on what it had been given, and on everything that follows from that.
    fn go_on(&mut self) {
        self.is_held_up = false;
        for (call, pending) in std::mem::take(&mut self.held_up) {
            let reply = self.model.execute(call, self.now).0;
            self.step(|machine, now, out| machine.reply(now, pending, reply, out));
        }
    }

    /// The store goes away until the node has noticed, and comes back without anything.
    fn lose_the_store(&mut self) {
        self.is_away = true;
        self.wait(3_000);
        assert!(!self.machine.is_online(self.now));
        self.is_away = false;
        self.model = Model::new(&config(), self.now, 9_000_000);
    }

    fn members(&mut self) -> usize {
        let count = |number| match self.model.execute(Call::Records { room: room(number) }, self.now).0 {
            Reply::Records { records, .. } => records.len(),
            _ => 0,
        };
        (0..ROOMS).map(count).sum()
    }
}

fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| room(number).name.to_string()).collect()
}

#[test]
fn everything_is_written_again_a_few_portions_at_once() {
    let mut world = World::new();
    world.lose_the_store();
    world.is_held_up = true;
    world.wait(1_000);
    assert!(world.machine.is_online(world.now));
    assert_eq!(world.written, names(0..AT_ONCE * PORTION), "no more is under way");
    assert_eq!(world.said.last(), Some(&true), "the others are told that it takes a while");
    // However long it takes, the lease is renewed meanwhile.
    world.wait(3 * LEASE.as_millis() as u64);
    assert!(world.machine.is_online(world.now) && !world.machine.is_stable());
    assert_eq!(world.written.len(), AT_ONCE * PORTION);
    world.go_on();
    assert_eq!((world.written.clone(), world.members()), (names(0..ROOMS), ROOMS));
    world.wait(100);
    assert_eq!(world.said.last(), Some(&false), "the others are told at once that it is done");
    assert!(world.machine.is_stable());
    let is_rewritten = |event: &&ClusterEvent| matches!(event, ClusterEvent::Rewritten { .. });
    assert_eq!(world.events.iter().filter(is_rewritten).count(), 1);
}

#[test]
fn a_node_that_loses_its_lease_on_the_way_goes_on_with_what_was_not_written() {
    let mut world = World::new();
    world.lose_the_store();
    world.is_held_up = true;
    world.wait(1_000);
    // One portion is written; then the process is paused for longer than its lease.
    let first: Vec<_> = world.held_up.drain(..=PORTION).collect();
    for (call, pending) in first {
        let reply = world.model.execute(call, world.now).0;
        world.step(|machine, now, out| machine.reply(now, pending, reply, out));
    }
    let written = (AT_ONCE + 1) * PORTION;
    assert_eq!(world.written, names(0..written));
    world.now += LEASE;
    world.written.clear();
    world.wait(1_000);
    assert!(world.machine.is_online(world.now));
    assert_eq!(world.events.iter().filter(|event| event.name() == "degraded_lease_expired").count(), 1);
    world.go_on();
    let expected = [names(written..ROOMS), names(0..written)].concat();
    assert_eq!((world.written.clone(), world.members()), (expected, ROOMS));
    // A late reply to what was asked for under the former lease changes nothing.
    world.wait(1_000);
    assert!(world.machine.is_online(world.now) && world.machine.rewrite.is_done());
}

#[test]
fn others_keep_the_members_of_a_node_that_still_writes() {
    let mut world = World::new();
    let other = Address::random(NodeTag(2), 0);
    let record = Record { socket: other, profile: "{}".into(), joined: None, updated: None, left: None };
    let owner = Owner { tag: NodeTag(2), epoch: 1 };
    let put = |world: &mut World, is_rewriting: bool, record: Option<Record>| {
        let node = NodeInfo { owner, is_rewriting, ..node(2) }.into();
        let counters = crate::store::Counters { claims: 0 };
        world.model.execute(Call::Heartbeat { owner, joins: true, node, counters, reaps: false }, world.now);
        let Some(record) = record else { return };
        let (room, snapshot) = (room(0), SnapshotRequest::None(None));
        let call = Call::Put { owner, room, record: record.into(), snapshot, most: None };
        for delta in world.model.execute(call, world.now).1 {
            world.step(|machine, _, out| machine.room_changed(delta, out));
        }
    };
    let knows = |world: &mut World| world.machine.rooms.record(&room(0), other).is_some();
    put(&mut world, false, Some(record.clone()));
    assert!(knows(&mut world));
    world.lose_the_store();
    // The other node is back, and says that it needs a while; it needs longer than nodes usually may.
    for _ in 0..3 * REWRITE_GRACE.as_secs() {
        put(&mut world, true, None);
        world.wait(1_000);
    }
    assert!(world.machine.is_online(world.now) && knows(&mut world));
    // It says that everything is written, and this member is not.
    put(&mut world, false, None);
    world.wait(2_000);
    assert!(!knows(&mut world));
    assert_eq!(world.events.iter().filter(|event| event.name() == "degraded_no_answer").count(), 1);
    assert!(world.machine.lease.has_joined());
}
