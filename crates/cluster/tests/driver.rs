//! Nodes over a driver of one's own, from outside the crate and on a clock of one's own: as a simulation drives them.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use signalbox_cluster::{
    Address, Cluster, Command, Config, Delivery, NodeInfo, NodeTag, Owner, Record, RoomName, Scope, Status,
    driver::{CallToken, Driver, DriverEnded},
    envelope::{Format, FormatRange},
    model::Model,
    store::{Call, DirectMessage, Reply, RoomDelta},
};
use signalbox_test_support::Mailboxes;

/// What the clusters of these tests ask their drivers for.
enum Asked {
    Call(Box<(Call, CallToken)>),
    Subscribe(RoomName),
    Unsubscribe(RoomName),
    Publish(Owner, Option<RoomName>, Bytes),
}

#[derive(Default)]
struct Queue(Mutex<VecDeque<Asked>>);

impl Queue {
    fn push(&self, asked: Asked) {
        self.0.lock().unwrap().push_back(asked);
    }
}

impl Driver for Queue {
    fn call(&self, call: Call, token: CallToken) -> Result<(), Box<CallToken>> {
        self.push(Asked::Call(Box::new((call, token))));
        Ok(())
    }
    fn subscribe(&self, room: RoomName) {
        self.push(Asked::Subscribe(room));
    }
    fn unsubscribe(&self, room: RoomName) {
        self.push(Asked::Unsubscribe(room));
    }
    fn publish(&self, from: Owner, room: Option<RoomName>, payload: Bytes) {
        self.push(Asked::Publish(from, room, payload));
    }
    fn end(&self, ended: DriverEnded) {
        drop(ended);
    }
}

struct Node {
    tag: NodeTag,
    cluster: Cluster,
    queue: Arc<Queue>,
    mailboxes: Arc<Mailboxes>,
    rooms: BTreeSet<RoomName>,
}

struct World {
    now: Instant,
    model: Model,
    nodes: Vec<Node>,
    /// Calls that put a record, so far.
    puts: usize,
}

fn config() -> Config {
    Config {
        realms: vec!["peerjs".into()],
        concurrent_limit: None,
        room_members: None,
        presence_limit: None,
        expire_timeout: Duration::from_secs(5),
    }
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, model: Model::new(&config(), now, 1_000_000), nodes: Vec::new(), puts: 0 }
    }

    fn start(&mut self, tag: u32, reads: FormatRange) {
        let tag = NodeTag(tag);
        let (queue, mailboxes) = (Arc::new(Queue::default()), Arc::new(Mailboxes::default()));
        let info = NodeInfo { reads, ..NodeInfo::new(Owner { tag, epoch: 0 }, tag.to_string()) };
        let cluster =
            Cluster::shared_at(&config(), info, mailboxes.clone(), queue.clone(), self.now, 1_000_000);
        cluster.bus_restored(self.now);
        self.nodes.push(Node { tag, cluster, queue, mailboxes, rooms: BTreeSet::new() });
    }

    /// Lets time pass, and does what is asked for.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(100);
            for index in 0..self.nodes.len() {
                self.nodes[index].cluster.tick(self.now);
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        while let Some((index, asked)) = (0..self.nodes.len())
            .find_map(|index| Some((index, self.nodes[index].queue.0.lock().unwrap().pop_front()?)))
        {
            match asked {
                Asked::Call(call) => self.call(index, *call),
                Asked::Subscribe(room) => {
                    self.nodes[index].rooms.insert(room.clone());
                    self.nodes[index].cluster.subscribed(self.now, &room);
                }
                Asked::Unsubscribe(room) => drop(self.nodes[index].rooms.remove(&room)),
                Asked::Publish(from, room, payload) => {
                    for node in &self.nodes {
                        if room.as_ref().is_none_or(|room| node.rooms.contains(room)) {
                            node.cluster.received_broadcast(from, room.clone(), None, payload.clone());
                        }
                    }
                }
            }
        }
    }

    fn call(&mut self, index: usize, (call, token): (Call, CallToken)) {
        self.puts += usize::from(matches!(call, Call::Put { .. }));
        let (reply, published) = match call {
            Call::SendDirect { from, to, message } => (self.send_direct(from, to, &message), Vec::new()),
            call => self.model.execute(call, self.now),
        };
        for delta in &published {
            self.publish(delta);
        }
        self.nodes[index].cluster.replied(self.now, token, reply);
    }

    fn send_direct(&self, from: Owner, to: NodeTag, message: &DirectMessage) -> Reply {
        let receivers: Vec<&Node> = self.nodes.iter().filter(|node| node.tag == to).collect();
        for node in &receivers {
            node.cluster.received_direct(self.now, from, message.clone());
        }
        Reply::Receivers(receivers.len() as u64)
    }

    fn publish(&self, delta: &RoomDelta) {
        for node in self.nodes.iter().filter(|node| node.rooms.contains(&delta.room)) {
            node.cluster.room_changed(self.now, delta.clone());
        }
    }

    fn join(&mut self, index: usize, ticket: u64) -> Address {
        let node = &self.nodes[index];
        let socket = Address::random(node.tag, 0);
        node.cluster.route(&room()).add(0);
        let record = Record { socket, profile: "{}".into(), joined: None, updated: None, left: None };
        let join =
            Command::Join { shard: 0, ticket, room: room(), record: record.into(), list: true, most: None };
        node.cluster.submit(self.now, join);
        self.settle();
        socket
    }

    fn formats(&self) -> Vec<Format> {
        self.nodes.iter().map(|node| node.cluster.write_format()).collect()
    }
}

fn room() -> RoomName {
    RoomName { namespace: "/".into(), name: "r".into() }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nodes_meet_over_a_driver_of_ones_own() {
    let mut world = World::new();
    world.start(1, FormatRange::CURRENT);
    world.start(2, FormatRange::CURRENT);
    world.pass(2 * SECOND);
    for node in &world.nodes {
        assert_eq!(node.cluster.status(), Status::Online);
        assert_eq!(node.cluster.nodes().len(), 2);
    }
    let first = world.join(0, 1);
    let second = world.join(1, 2);
    let members: Option<BTreeSet<Address>> =
        world.nodes[1].mailboxes.deliveries.lock().iter().find_map(|delivery| match delivery {
            Delivery::Joined { ticket: 2, members, .. } => {
                Some(members.iter().map(|member| member.socket).collect())
            }
            _ => None,
        });
    assert_eq!(members, Some([first, second].into()));
    world.nodes[0].cluster.broadcast(world.now, Scope::Room(&room()), Bytes::from_static(b"hello"));
    world.nodes[0].cluster.send_to_node(world.now, NodeTag(2), Bytes::from_static(b"you"));
    world.settle();
    assert_eq!(*world.nodes[1].mailboxes.broadcasts.lock(), ["hello"]);
    assert_eq!(*world.nodes[1].mailboxes.node_messages.lock(), ["you"]);
    assert!(world.nodes[0].mailboxes.broadcasts.lock().is_empty());
}

#[test]
fn format_2_is_written_while_every_node_reads_it() {
    let mut world = World::new();
    world.start(1, FormatRange::CURRENT);
    assert_eq!(world.formats(), [Format::V1], "the others are not known yet");
    world.start(2, FormatRange::UNSTATED);
    world.pass(2 * SECOND);
    assert_eq!(world.formats()[0], Format::V1);

    // The last node of the earlier version leaves in order.
    let earlier = world.nodes.pop().unwrap();
    drop(earlier.cluster.leave(world.now));
    while let Some(asked) = earlier.queue.0.lock().unwrap().pop_front() {
        if let Asked::Call(call) = asked {
            let _ = world.model.execute(call.0, world.now);
        }
    }
    world.start(3, FormatRange::CURRENT);
    world.pass(2 * SECOND);
    assert_eq!(world.formats(), [Format::V2; 2]);

    // One joins again. Records that it could not read are written again.
    world.join(0, 1);
    let puts = world.puts;
    world.start(4, FormatRange::UNSTATED);
    world.pass(2 * SECOND);
    assert_eq!(world.formats()[..2], [Format::V1; 2]);
    assert_eq!(world.puts, puts + 1);

    // It dies; its lease runs out.
    world.nodes.pop();
    world.pass(12 * SECOND);
    assert_eq!(world.formats(), [Format::V2; 2]);
}

#[test]
fn a_node_that_is_alone_writes_the_newest_format() {
    let cluster = Cluster::standalone(&config(), Arc::new(Mailboxes::default()));
    assert_eq!(cluster.write_format(), Format::V2);
}

#[test]
fn leaving_ends_with_the_driver() {
    let mut world = World::new();
    world.start(1, FormatRange::CURRENT);
    world.pass(2 * SECOND);
    let mut left = Box::pin(world.nodes[0].cluster.leave(world.now));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    // This driver ends as soon as it is told to.
    assert!(left.as_mut().poll(&mut context).is_ready());
}
