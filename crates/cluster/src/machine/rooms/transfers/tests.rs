use std::time::Duration;

use super::*;
use crate::{
    Config, Owner,
    command::Command,
    machine::rooms::replica::change_id_of,
    model::Model,
    store::{NodeInfo, RoomDelta, RoomVersion},
};

/// Nodes on one model of the store; whatever they ask for is done at once.
struct Nodes {
    model: Model,
    machines: Vec<Machine>,
    now: Instant,
    deliveries: Vec<(usize, Delivery)>,
    /// Nodes that hear nothing of what changes in rooms.
    deaf: Vec<usize>,
}

impl Nodes {
    fn new(count: u32) -> Self {
        let config = Config {
            realms: Vec::new(),
            concurrent_limit: None,
            room_members: None,
            presence_limit: None,
            expire_timeout: Duration::from_secs(5),
        };
        let (now, wall_clock) = (Instant::now(), 1_000_000);
        let machine = |tag| {
            let owner = Owner { tag: NodeTag(tag), epoch: 0 };
            let node = NodeInfo::new(owner, String::new());
            Machine::shared(&config, node, now, wall_clock)
        };
        let machines = (0..count).map(machine).collect();
        let model = Model::new(&config, now, wall_clock);
        let mut nodes = Self { model, machines, now, deliveries: Vec::new(), deaf: Vec::new() };
        nodes.wait(100);
        nodes
    }

    fn step(&mut self, node: usize, step: impl FnOnce(&mut Machine, Instant, &mut Outputs)) {
        let mut outputs = Outputs::new();
        step(&mut self.machines[node], self.now, &mut outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Call(call, pending) => {
                    let (reply, published) = self.model.execute(call, self.now);
                    for delta in published {
                        self.publish(node, delta, &mut outputs);
                    }
                    self.machines[node].reply(self.now, pending, reply, &mut outputs);
                }
                Output::Subscribe(room) => self.machines[node].subscribed(self.now, &room, &mut outputs),
                Output::Deliver(_, delivery) => self.deliveries.push((node, delivery)),
                _ => {}
            }
        }
    }

    fn publish(&mut self, by: usize, delta: RoomDelta, outputs: &mut Outputs) {
        for node in 0..self.machines.len() {
            if self.deaf.contains(&node) {
                continue;
            }
            if node == by {
                self.machines[node].room_changed(delta.clone(), outputs);
            } else {
                let delta = delta.clone();
                self.step(node, |machine, _, out| machine.room_changed(delta, out));
            }
        }
    }

    fn ask(&mut self, node: usize, command: Command) {
        self.step(node, |machine, now, out| machine.command(now, command, &|_| false, out));
    }

    fn join(&mut self, node: usize, room: &RoomName, socket: Address) {
        let record = Record { socket, profile: "{}".into(), joined: None, updated: None, left: None };
        let room = room.clone();
        self.ask(
            node,
            Command::Join { shard: 0, ticket: 0, room, record: record.into(), list: false, most: None },
        );
    }

    fn wait(&mut self, milliseconds: u64) {
        let until = self.now + Duration::from_millis(milliseconds);
        while self.now < until {
            self.now += Duration::from_millis(100);
            for node in 0..self.machines.len() {
                self.step(node, |machine, now, out| machine.tick(now, out));
            }
        }
    }

    /// What nodes that wait for rooms were told since the last call.
    fn listening(&mut self) -> Vec<(Ticket, bool)> {
        let deliveries = std::mem::take(&mut self.deliveries).into_iter();
        let listening = deliveries.filter_map(|(_, delivery)| match delivery {
            Delivery::RoomsSubscribed { ticket, is_live } => Some((ticket, is_live)),
            _ => None,
        });
        listening.collect()
    }

    fn users(&mut self) -> usize {
        let call = Call::Users { namespace: "/".into(), after: None };
        match self.model.execute(call, self.now).0 {
            Reply::Users(users, _) => users.len(),
            reply => panic!("{reply:?}"),
        }
    }
}

fn room() -> RoomName {
    RoomName { namespace: "/".into(), name: "room".into() }
}

#[test]
fn a_user_that_moves_before_it_was_written_is_its_new_nodes() {
    for is_flushed in [true, false] {
        let mut nodes = Nodes::new(2);
        let socket = Address::random(NodeTag(0), 0);
        let (namespace, room): (Arc<str>, _) = ("/".into(), room());
        nodes.ask(0, Command::Connected { namespace: namespace.clone(), socket });
        nodes.join(0, &room, socket);
        if is_flushed {
            nodes.ask(0, Command::FlushOutgoing { shard: 0, ticket: 1, with_users: true });
        }
        let (memberships, sockets) = ([(room, socket)], [(namespace.clone(), socket)]);
        let SessionRecords { memberships: records, sockets: users } =
            nodes.machines[0].session_records(&memberships, &sockets);
        nodes.machines[0].release_session(nodes.now, &memberships, &sockets);
        let from = NodeTag(0);
        let adopted = Command::AdoptSession {
            shard: 0,
            ticket: 2,
            from,
            sid: socket,
            memberships: records,
            sockets: users,
            counted: Vec::new(),
        };
        nodes.ask(1, adopted);
        nodes.wait(300);
        assert_eq!(nodes.users(), 1);
        nodes.ask(1, Command::Disconnected { namespace, socket });
        nodes.wait(300);
        assert_eq!(nodes.users(), 0);
    }
}

#[test]
fn each_move_that_waits_for_a_room_has_its_own_time() {
    let mut nodes = Nodes::new(2);
    let room = room();
    let [first, second] = [1, 2].map(|ticket| Command::SubscribeRooms {
        shard: 0,
        ticket,
        rooms: vec![(room.clone(), change_id_of(RoomVersion { epoch: u64::MAX >> 16, version: 0 }))],
    });
    nodes.join(0, &room, Address::random(NodeTag(0), 0));
    // The room is known, but never that far.
    nodes.ask(1, first);
    nodes.wait(4_900);
    nodes.ask(1, second);
    nodes.wait(200);
    assert_eq!(nodes.listening(), [(1, false)]);
    nodes.wait(4_600);
    assert_eq!(nodes.listening(), []);
    nodes.wait(300);
    assert_eq!(nodes.listening(), [(2, false)]);
}

#[test]
fn a_move_waits_until_its_room_is_known_as_far_as_its_client_knows_it() {
    let mut nodes = Nodes::new(2);
    let room = room();
    nodes.join(0, &room, Address::random(NodeTag(0), 0));
    nodes.join(1, &room, Address::random(NodeTag(1), 0));
    nodes.deaf.push(1);
    nodes.join(0, &room, Address::random(NodeTag(0), 0));
    let Some(last_change) = nodes.machines[0].rooms.rooms.get(&room).map(|replica| replica.last_change)
    else {
        panic!("it is known")
    };
    nodes.deliveries.clear();
    nodes.ask(1, Command::SubscribeRooms { shard: 0, ticket: 1, rooms: vec![(room.clone(), last_change)] });
    assert_eq!(nodes.listening(), []);
    nodes.deaf.clear();
    nodes.join(0, &room, Address::random(NodeTag(0), 0));
    assert_eq!(nodes.listening(), [(1, true)]);
}
