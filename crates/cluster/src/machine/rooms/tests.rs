use std::time::Duration;

use super::*;
use crate::{Config, Owner, address::NodeTag, command::Command, model::Model, store::NodeInfo};

/// More than are compared at once.
const ROOMS: usize = 3 * MAX_COMPARING;

/// A node, and a store that can be away, and that answers comparisons only when it is told to.
struct World {
    now: Instant,
    model: Model,
    machine: Machine,
    is_away: bool,
    comparisons: Vec<(Call, Pending)>,
    most: usize,
}

impl World {
    fn new() -> Self {
        let config = Config {
            realms: Vec::new(),
            concurrent_limit: None,
            room_members: None,
            presence_limit: None,
            expire_timeout: Duration::from_secs(5),
        };
        let (now, wall_clock) = (Instant::now(), 1_000_000);
        let node = NodeInfo::new(Owner { tag: NodeTag(1), epoch: 0 }, String::new());
        let machine = Machine::shared(&config, node, now, wall_clock);
        let model = Model::new(&config, now, wall_clock);
        Self { now, model, machine, is_away: false, comparisons: Vec::new(), most: 0 }
    }

    fn step(&mut self, step: impl FnOnce(&mut Machine, Instant, &mut Outputs)) {
        let mut outputs = Outputs::new();
        step(&mut self.machine, self.now, &mut outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Call(call, pending) if matches!(pending, Pending::Compare { .. }) => {
                    self.comparisons.push((call, pending));
                    self.most = self.most.max(self.comparisons.len());
                }
                Output::Call(call, pending) => {
                    let reply = match self.is_away {
                        true => Reply::Failed { may_have_run: false },
                        false => self.model.execute(call, self.now).0,
                    };
                    self.machine.reply(self.now, pending, reply, &mut outputs);
                }
                Output::Subscribe(room) => self.machine.subscribed(self.now, &room, &mut outputs),
                _ => {}
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now += Duration::from_millis(100);
            self.step(|machine, now, out| machine.tick(now, out));
        }
    }

    /// Answers comparisons until there are none; how many there were.
    fn compare_all(&mut self) -> usize {
        let mut count = 0;
        while let Some((call, pending)) = self.comparisons.pop() {
            count += 1;
            let reply = self.model.execute(call, self.now).0;
            self.step(|machine, now, out| machine.reply(now, pending, reply, out));
        }
        count
    }

    fn is_online(&self) -> bool {
        self.machine.lease.is_valid(self.now)
    }
}

#[test]
fn after_an_outage_rooms_are_compared_a_few_at_once_and_all_of_them() {
    let mut world = World::new();
    world.wait(1);
    for number in 0..ROOMS {
        let socket = Address::random(NodeTag(1), 0);
        let record = Record { socket, profile: "{}".into(), joined: None, updated: None, left: None };
        let room = RoomName { namespace: "/".into(), name: number.to_string().into() };
        let join =
            Command::Join { shard: 0, ticket: 0, room, record: record.into(), list: false, most: None };
        world.step(|machine, now, out| machine.command(now, join, &|_| false, out));
    }
    world.compare_all();
    for outages in 1..=2 {
        // In the second outage the first has left comparisons that were never answered.
        world.is_away = true;
        world.wait(10);
        assert!(!world.is_online());
        let left = std::mem::take(&mut world.comparisons);
        for (_, pending) in left {
            let failed = Reply::Failed { may_have_run: false };
            world.step(|machine, now, out| machine.reply(now, pending, failed, out));
        }
        (world.is_away, world.most) = (false, 0);
        world.wait(2);
        assert!(world.is_online());
        assert_eq!((world.comparisons.len(), world.most), (MAX_COMPARING, MAX_COMPARING), "outage {outages}");
    }
    assert_eq!(world.compare_all(), ROOMS);
    assert_eq!(world.most, MAX_COMPARING);
}

#[test]
fn members_are_listed_at_once_up_to_the_limit_and_beyond_it_in_pages() {
    let record = |_| {
        let socket = Address::random(NodeTag(1), 0);
        Arc::new(Record { socket, profile: "{}".into(), joined: None, updated: None, left: None })
    };
    let records: Vec<_> = (0..2_500).map(record).collect();
    let sockets = |page: &MembersPage| page.members.iter().map(|it| it.socket).collect::<Vec<_>>();
    let all = page_of(records.clone(), None, 2_500);
    assert_eq!((all.members.len(), all.count, all.more), (2_500, 2_500, false));
    let (mut listed, mut after) = (Vec::new(), None);
    for expected in [(1_000, true), (1_000, true), (500, false)] {
        let page = page_of(records.clone(), after, 2_499);
        assert_eq!((page.members.len(), page.more), expected);
        assert_eq!(page.count, 2_500);
        listed.extend(sockets(&page));
        after = listed.last().copied();
    }
    assert_eq!(listed, sockets(&all), "each of them once, in one order");
    // In one tick a first page is collected once, also of a room that changes; how many there are is told as it is.
    let mut state = RoomState::new(RoomVersion::default(), records.clone());
    let first = state.page(None, 10, 7);
    let gone = first.members[0].socket;
    state.records_mut().remove(&gone);
    let again = state.page(None, 10, 7);
    assert!(Arc::ptr_eq(&first.members, &again.members));
    assert_eq!((again.count, again.more), (2_499, true));
    let next = state.page(None, 10, 8);
    assert_eq!(next.members[0].socket, first.members[1].socket);
    // Without ticks, and of as many as fit into it, it is always a new one.
    assert!(!Arc::ptr_eq(&state.page(None, 10, 0).members, &next.members));
    let mut few = RoomState::new(RoomVersion::default(), records[..1_000].iter().cloned());
    assert!(!Arc::ptr_eq(&few.page(None, 10, 9).members, &few.page(None, 10, 9).members));
    // Whoever goes on with a list that has become short gets its rest.
    assert_eq!(page_of(records, after, 5_000).members.len(), 0);
}
