//! The same on a Redis Cluster, whose masters die and whose slots move.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use redis::{Connection, ConnectionLike as _, Value};

use super::*;
use signalbox_cluster::NodeTag;

use crate::keys::{self, Keys};

/// Rooms enough for each master to have some of them.
const ROOMS: usize = 12;
/// How soon a broadcast is tried again: nobody hears it while the store is away.
const AGAIN: Duration = Duration::from_millis(200);

/// A Redis Cluster in a directory of its own.
struct Servers {
    /// Masters first.
    servers: Vec<Server>,
    flags: Vec<String>,
    masters: usize,
    directory: PathBuf,
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.servers.clear();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Servers {
    fn start(masters: usize, replicas: usize) -> Self {
        let name = format!("signalbox-cluster-{}-{}", std::process::id(), free_port());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let bus: Vec<u16> = (0..masters + replicas).map(|_| free_port()).collect();
        let flags = bus.iter().map(|bus| {
            format!(
                "--cluster-enabled yes --cluster-node-timeout 1500 --cluster-replica-validity-factor 0 \
                 --repl-diskless-sync-delay 0 --dir {} --cluster-config-file nodes-{bus}.conf --cluster-port {bus}",
                directory.display(),
            )
        });
        let flags: Vec<String> = flags.collect();
        let start = |flags: &String| Server::with(&flags.split(' ').collect::<Vec<_>>());
        let servers = flags.iter().map(start).collect();
        let this = Self { servers, flags, masters, directory };
        let each = 16_384 / masters;
        for (index, server) in this.servers.iter().enumerate() {
            assert!(server.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)).starts_with("+OK"));
            if index < masters {
                let last = if index + 1 == masters { 16_383 } else { (index + 1) * each - 1 };
                let range = format!("CLUSTER ADDSLOTSRANGE {} {last}", index * each);
                assert!(server.ask(&range).starts_with("+OK"));
            }
            let first = &this.servers[0];
            assert!(
                server.ask(&format!("CLUSTER MEET 127.0.0.1 {} {}", first.port, bus[0])).starts_with("+OK")
            );
        }
        let count = format!("cluster_known_nodes:{}\r", masters + replicas);
        this.until_all(|server| {
            let info = server.ask("CLUSTER INFO");
            info.contains("cluster_state:ok") && info.contains(&count)
        });
        for (index, replica) in this.servers[masters..].iter().enumerate() {
            let master = id(&this.servers[index % masters]);
            assert!(replica.ask(&format!("CLUSTER REPLICATE {master}")).starts_with("+OK"));
        }
        this.until_all(|server| server.ask("CLUSTER NODES").matches("slave").count() == replicas);
        for replica in &this.servers[masters..] {
            until(|| replica.ask("INFO replication").contains("master_link_status:up").then_some(()));
        }
        this
    }

    fn until_all(&self, holds: impl Fn(&Server) -> bool) {
        for server in &self.servers {
            until(|| holds(server).then_some(()));
        }
    }

    fn url(&self) -> String {
        let hosts: Vec<String> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        // Any two of them will do.
        format!("redis+cluster://{}", hosts[hosts.len() - 2..].join(","))
    }

    fn nodes(&self, prefix: &str) -> [Node; 3] {
        [1, 2, 3].map(|tag| Node::of(&self.url(), prefix, tag))
    }

    /// Which master says that it owns a slot.
    fn owner(&self, slot: u16) -> usize {
        let owner = self.servers[..self.masters].iter().position(|server| {
            let nodes = server.ask("CLUSTER NODES");
            let own = nodes.lines().find(|connection| connection.contains("myself")).unwrap_or_default();
            own.split_whitespace().skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                first.parse().is_ok_and(|first: u16| first <= slot)
                    && last.parse().is_ok_and(|last: u16| last >= slot)
            })
        });
        owner.expect("an owner")
    }

    /// Moves a slot from whoever owns it to the next master, as `redis-cli --cluster reshard` does; it stays on its way for a
    /// moment.
    fn move_slot(&self, slot: u16, pause: Duration) {
        let masters = &self.servers[..self.masters];
        let mut all: Vec<Connection> = masters.iter().map(connection).collect();
        let from = self.owner(slot);
        let slot = slot.to_string();
        let to = (from + 1) % masters.len();
        let (from_id, to_id) = (id(&masters[from]), id(&masters[to]));
        ask(&mut all[to], &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        ask(&mut all[from], &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        let port = masters[to].port.to_string();
        while let Value::Array(keys) = ask(&mut all[from], &["CLUSTER", "GETKEYSINSLOT", &slot, "1"])
            && let [Value::BulkString(key)] = &keys[..]
        {
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(&port).arg("").arg(0).arg(5_000).arg("KEYS").arg(&key[..]);
            all[from].req_command(&migrate).and_then(Value::extract_error).unwrap();
            wait(pause);
        }
        ask(&mut all[to], &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        ask(&mut all[from], &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
}

fn connection(server: &Server) -> Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

fn ask(connection: &mut Connection, words: &[&str]) -> Value {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    connection
        .req_command(&command)
        .and_then(Value::extract_error)
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn id(server: &Server) -> String {
    server.ask("CLUSTER MYID").lines().nth(1).unwrap().trim().to_owned()
}

pub(super) fn wait(pause: Duration) {
    // The nodes have threads of their own.
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(pause);
}

fn rooms() -> Vec<RoomName> {
    (0..ROOMS).map(|room| RoomName { namespace: "/".into(), name: format!("r{room}").into() }).collect()
}

/// Members that both nodes have in every room, and an id that the first node holds for each.
struct Crowd {
    members: Vec<BTreeSet<Address>>,
}

impl Crowd {
    fn gather(one: &Node, two: &Node) -> Self {
        let all = rooms();
        let members = all.iter().enumerate().map(|(index, room)| {
            let index = index as u32;
            let (first, _) = one.join(room, 1_000 + u64::from(index));
            let (second, _) = two.join(room, 1_000 + u64::from(index));
            while one.change() != ("joined", second) {}
            assert!(one.claim(100 + index, &format!("id{index}"), "t").is_some());
            BTreeSet::from([first, second])
        });
        Self { members: members.collect() }
    }

    /// Everything works, both nodes say the same, and nobody was told that somebody left. `other`, which is in no room, finds
    /// everybody in the store.
    fn is_well(&self, one: &Node, two: &Node, other: &Node) {
        for node in [one, two, other] {
            node.wait_until(Status::Online);
        }
        for (room, members) in rooms().iter().zip(&self.members) {
            for (from, to) in [(one, two), (two, one)] {
                until_heard(from, to, Scope::Room(room), &room.name);
            }
            for node in [one, two, other] {
                until(|| (all_members(node, room) == *members).then_some(()));
            }
        }
        until_heard(one, two, Scope::Everywhere, "all");
        until_heard(two, one, Scope::Everywhere, "all");
        until(|| {
            two.cluster.send_to_node(Instant::now(), one.tag, Bytes::from_static(b"you"));
            wait(Duration::from_millis(50));
            one.mailboxes.node_messages.lock().pop()
        });
        for index in 0..ROOMS as u32 {
            until(|| two.claim(200 + index, &format!("id{index}"), "other").is_none().then_some(()));
        }
        for (node, other) in [(one, two), (two, one)] {
            let deliveries = node.mailboxes.deliveries.lock();
            let left = deliveries.iter().find(|delivery| match delivery {
                Delivery::RoomChanged { change: Change::Left(record), .. } => {
                    self.members.iter().any(|members| members.contains(&record.socket))
                }
                _ => false,
            });
            assert!(left.is_none(), "{left:?} of {:?} was deliveries", other.tag);
        }
    }
}

fn until_heard(from: &Node, to: &Node, scope: Scope<'_>, words: &str) {
    to.mailboxes.broadcasts.lock().clear();
    let mut said: Option<Instant> = None;
    until(|| {
        if said.is_none_or(|said| said.elapsed() >= AGAIN) {
            from.cluster.broadcast(Instant::now(), scope, Bytes::from(words.to_owned()));
            said = Some(Instant::now());
        }
        to.mailboxes.broadcasts.lock().iter().any(|heard| heard == words).then_some(())
    });
}

fn all_members(node: &Node, room: &RoomName) -> BTreeSet<Address> {
    node.submit(Command::Members { shard: 0, ticket: 7, room: room.clone(), after: None });
    node.delivery(|delivery| match delivery {
        Delivery::Members { members, .. } => Some(members.iter().map(|member| member.socket).collect()),
        _ => None,
    })
}

#[test]
fn a_redis_cluster_does_what_one_redis_does() {
    let servers = Servers::start(3, 0);
    for (prefix, scenario) in [
        ("ids", ids_and_peer_messages as fn(&Node, &Node)),
        ("peer_messages", peer_messages_wait),
        ("rooms", rooms_and_users),
        ("reaping", reaping),
    ] {
        let [one, two, _] = &servers.nodes(prefix);
        scenario(one, two);
        for node in [one, two] {
            node.cluster.end_driver();
        }
    }
}

#[test]
fn nodes_follow_failovers_of_a_redis_cluster() {
    let mut servers = Servers::start(3, 3);
    let [one, two, other] = servers.nodes("test");
    let crowd = Crowd::gather(&one, &two);
    crowd.is_well(&one, &two, &other);
    // A master dies.
    servers.servers[1].stop();
    one.wait_until(Status::Degraded);
    crowd.is_well(&one, &two, &other);
    // It comes back, and is a replica from now on. Another is paused, and does not know that it was replaced when it goes on.
    let (port, flags) = (servers.servers[1].port, &servers.flags[1]);
    servers.servers[1].child = Server::spawn(port, &flags.split(' ').collect::<Vec<_>>());
    let back = &servers.servers[1];
    until(|| TcpStream::connect(("127.0.0.1", port)).ok());
    until(|| back.ask("INFO replication").contains("master_link_status:up").then_some(()));
    servers.servers[2].signal("-STOP");
    one.wait_until(Status::Degraded);
    crowd.is_well(&one, &two, &other);
    servers.servers[2].signal("-CONT");
    crowd.is_well(&one, &two, &other);
    // The one with the leases is relieved.
    let replica = &servers.servers[3];
    assert!(replica.ask("CLUSTER FAILOVER").starts_with("+OK"));
    until(|| replica.ask("INFO replication").contains("role:master").then_some(()));
    crowd.is_well(&one, &two, &other);
}

#[test]
fn a_master_that_was_emptied_is_filled_again() {
    let mut servers = Servers::start(3, 0);
    let [one, two, other] = servers.nodes("test");
    let crowd = Crowd::gather(&one, &two);
    let server = &mut servers.servers[2];
    server.stop();
    one.wait_until(Status::Degraded);
    server.child = Server::spawn(server.port, &servers.flags[2].split(' ').collect::<Vec<_>>());
    crowd.is_well(&one, &two, &other);
    // One that was not away.
    let epoch = || one.cluster.node(one.tag).map(|node| node.owner.epoch);
    let before = epoch();
    assert!(servers.servers[1].ask("FLUSHALL").starts_with("+OK"));
    until(|| (epoch() > before).then_some(()));
    crowd.is_well(&one, &two, &other);
}

#[test]
fn slots_may_move_under_traffic() {
    let servers = Servers::start(3, 0);
    let [one, two, other] = servers.nodes("test");
    let crowd = Crowd::gather(&one, &two);
    let keys = Keys::new("test");
    let mut slots: BTreeSet<u16> = rooms().iter().map(|room| keys::slot(&keys.room_channel(room))).collect();
    slots.extend([keys::slot(&keys.everywhere()), keys::slot(&keys.node_channel(NodeTag(2)))]);
    let before: Vec<(u16, usize)> = slots.iter().map(|slot| (*slot, servers.owner(*slot))).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for (index, room) in rooms().iter().cycle().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                one.cluster.broadcast(Instant::now(), Scope::Room(room), Bytes::from_static(b"x"));
                let (socket, _) = two.join(room, 5_000 + index as u64);
                let (key, id) = (5_000 + index as u32, format!("churn{index}"));
                let generation = two.claim(key, &id, "t").expect("nobody else snapshot it");
                two.submit(Command::Leave { room: room.clone(), socket });
                two.submit(Command::Release { realm: 0, id: id.into(), generation });
                wait(Duration::from_millis(5));
            }
        });
        for slot in &slots {
            servers.move_slot(*slot, Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    crowd.is_well(&one, &two, &other);
    for (slot, owner) in before {
        assert_ne!(servers.owner(slot), owner);
    }
}
