use std::{collections::VecDeque, time::Duration};

use super::*;
use crate::{Config, Owner, address::NodeTag, command::Command, model::Model, store::NodeInfo};

/// Nodes on one model of the store.
struct Nodes {
    model: Model,
    machines: Vec<Machine>,
    now: Instant,
    /// The store cannot be reached.
    is_away: bool,
    /// Nodes that do nothing any more.
    dead: Vec<usize>,
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
            Machine::shared(&config, NodeInfo::new(owner, String::new()), now, wall_clock)
        };
        let machines = (0..count).map(machine).collect();
        let model = Model::new(&config, now, wall_clock);
        let mut nodes = Self { model, machines, now, is_away: false, dead: Vec::new() };
        nodes.wait(Duration::from_secs(7));
        nodes
    }

    /// What the node answers, if it does.
    fn step(
        &mut self,
        node: usize,
        step: impl FnOnce(&mut Machine, Instant, &mut Outputs),
    ) -> Option<Counted> {
        let (mut outputs, mut answer) = (VecDeque::new(), None);
        step(&mut self.machines[node], self.now, &mut outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Call(call, pending) => {
                    let reply = match self.is_away {
                        true => Reply::Failed { may_have_run: false },
                        false => self.model.execute(call, self.now).0,
                    };
                    self.machines[node].reply(self.now, pending, reply, &mut outputs);
                }
                Output::Deliver(_, Delivery::ConnectionCounted { counted, .. }) => answer = Some(counted),
                _ => {}
            }
        }
        answer
    }

    fn ask(&mut self, node: usize, command: Command) -> Option<Counted> {
        self.step(node, |machine, now, out| machine.command(now, command, &|_| false, out))
    }

    fn count(&mut self, node: usize, connection: u8, most: u64) -> Counted {
        let (list, connection) = (list(), address(connection));
        let command = Command::CountConnection { shard: 0, ticket: 1, list, connection, most };
        self.ask(node, command).expect("an answer")
    }

    fn uncount(&mut self, node: usize, connection: u8) {
        self.ask(node, Command::UncountConnection { list: list(), connection: address(connection) });
    }

    /// Whose each connection is that the store has.
    fn stored(&mut self) -> Vec<(u8, u32)> {
        let all = (0..20).filter_map(|connection| {
            let call = Call::FindUser { namespace: list().name().clone(), socket: address(connection) };
            match self.model.execute(call, self.now).0 {
                Reply::User(node) => node.map(|node| (connection, node.0)),
                reply => panic!("{reply:?}"),
            }
        });
        all.collect()
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(100);
            for node in (0..self.machines.len()).filter(|node| !self.dead.contains(node)).collect::<Vec<_>>()
            {
                self.step(node, |machine, now, out| machine.tick(now, out));
            }
        }
    }
}

fn list() -> SubjectList {
    SubjectList::of(None, "alice")
}

fn address(number: u8) -> Address {
    Address::from_bytes([number; 15])
}

#[test]
fn connections_on_all_nodes_count_together_and_a_place_is_free_at_once() {
    let mut nodes = Nodes::new(3);
    for connection in 0..3 {
        assert_eq!(nodes.count(usize::from(connection), connection, 3), Counted::Within);
    }
    assert_eq!(nodes.count(0, 3, 3), Counted::TooMany);
    // Another subject's limit may be another.
    assert_eq!(nodes.count(0, 3, 4), Counted::Within);
    nodes.uncount(0, 3);
    nodes.uncount(1, 1);
    assert_eq!(nodes.stored(), [(0, 0), (2, 2)]);
    assert_eq!(nodes.count(2, 4, 3), Counted::Within);
    assert_eq!(nodes.count(1, 5, 3), Counted::TooMany);
    assert_eq!(nodes.count(1, 5, 0), Counted::TooMany);
}

#[test]
fn who_takes_a_place_over_is_counted_once() {
    let mut nodes = Nodes::new(2);
    assert_eq!(nodes.count(0, 1, 1), Counted::Within);
    // On the same node, and on another one; the former holder ends afterwards.
    assert_eq!(nodes.count(0, 1, 1), Counted::Within);
    nodes.uncount(0, 1);
    assert_eq!(nodes.stored(), [(1, 0)]);
    assert_eq!(nodes.count(1, 1, 1), Counted::Within);
    nodes.uncount(0, 1);
    assert_eq!(nodes.stored(), [(1, 1)]);
    nodes.uncount(1, 1);
    assert_eq!(nodes.stored(), []);
}

#[test]
fn a_session_that_moves_is_counted_once_and_never_refused() {
    let mut nodes = Nodes::new(2);
    assert_eq!(nodes.count(0, 1, 1), Counted::Within);
    let adopted = Command::AdoptSession {
        shard: 0,
        ticket: 2,
        from: NodeTag(0),
        sid: address(1),
        memberships: Vec::new(),
        sockets: Vec::new(),
        counted: vec![list()],
    };
    nodes.ask(1, adopted);
    assert_eq!(nodes.count(0, 2, 1), Counted::TooMany);
    nodes.uncount(0, 1);
    assert_eq!(nodes.stored(), [(1, 1)]);
    nodes.uncount(1, 1);
    assert_eq!(nodes.count(0, 2, 1), Counted::Within);
}

#[test]
fn a_dead_nodes_connections_count_no_more() {
    let mut nodes = Nodes::new(2);
    assert_eq!(nodes.count(0, 1, 1), Counted::Within);
    nodes.dead.push(0);
    assert_eq!(nodes.count(1, 2, 1), Counted::TooMany);
    nodes.wait(Duration::from_secs(10));
    assert_eq!(nodes.count(1, 2, 1), Counted::Within);
}

#[test]
fn while_the_store_is_away_a_node_counts_its_own_and_writes_them_afterwards() {
    let mut nodes = Nodes::new(2);
    assert_eq!(nodes.count(0, 1, 2), Counted::Within);
    nodes.is_away = true;
    // Before it has noticed, and after that.
    assert_eq!(nodes.count(1, 2, 2), Counted::WithinHere);
    nodes.wait(Duration::from_secs(7));
    assert_eq!(nodes.count(1, 3, 2), Counted::WithinHere);
    assert_eq!(nodes.count(1, 4, 2), Counted::TooMany);
    nodes.uncount(0, 1);
    nodes.is_away = false;
    nodes.wait(Duration::from_secs(10));
    assert_eq!(nodes.stored(), [(2, 1), (3, 1)]);
    assert_eq!(nodes.count(0, 5, 2), Counted::TooMany);
    nodes.uncount(1, 2);
    assert_eq!(nodes.count(0, 5, 2), Counted::Within);
}
