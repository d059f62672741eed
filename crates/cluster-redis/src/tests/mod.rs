//! Two nodes on one Redis. And `model`: any calls, made in Redis and in the model.

mod model;

mod cluster;
mod crowd;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command as Program, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use signalbox_peerserver::Kind;
use signalbox_telemetry::Metrics;
use signalbox_websocket::Frame;

use signalbox_cluster::{
    Address, BusDelivery, ClusterEvent, DegradedReason, EventArgs, MemberEvent, NodeTag, Owner, PeerAt,
    PeerMessage, Record, RoomName, Scope, ShardId, Status,
    command::{Change, Claimed, Command, Delivery},
};
use signalbox_node_link::RemoteNode;

use super::*;

/// Longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `redis-server` of its own, without persistence.
struct Server {
    child: Child,
    port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        let port = free_port();
        let server = Self { child: Self::spawn(port, flags), port };
        until(|| TcpStream::connect(("127.0.0.1", port)).ok());
        server
    }

    fn spawn(port: u16, flags: &[&str]) -> Child {
        let (port, file) = (port.to_string(), format!("{port}.rdb"));
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let mut program = Program::new("redis-server");
        // What a replica writes when it synchronises would be read by the next server that starts in the same directory.
        program.args(["--repl-diskless-load", "swapdb", "--dbfilename", &file]);
        program.args(arguments).args(flags).current_dir(std::env::temp_dir()).stdout(Stdio::null());
        let program = program.spawn();
        program.expect("redis-server (Debian: apt install redis-server)")
    }

    /// A sentinel that watches one master, and decides alone.
    fn sentinel(master: u16) -> Self {
        let port = free_port();
        let directory =
            std::env::temp_dir().join(format!("signalbox-sentinel-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", directory.display()),
            format!("sentinel monitor main 127.0.0.1 {master} 1"),
            "sentinel down-after-milliseconds main 500".to_owned(),
            "sentinel failover-timeout main 3000".to_owned(),
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        let mut program = Program::new("redis-server");
        let child = program.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        let sentinel = Self { child, port };
        until(|| TcpStream::connect(("127.0.0.1", port)).ok());
        sentinel
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends one command, and gives the answer back as it is.
    fn ask(&self, command: &str) -> String {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        // A sentinel knows no QUIT.
        connection.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer);
        answer
    }

    fn signal(&self, signal: &str) {
        let sent = Program::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Comes back on the same port, with nothing in it.
    fn restart(&mut self) {
        self.stop();
        self.child = Self::spawn(self.port, &[]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Default)]
struct Mailboxes {
    deliveries: Mutex<Vec<Delivery>>,
    broadcasts: Mutex<Vec<Bytes>>,
    node_messages: Mutex<Vec<Bytes>>,
    events: Mutex<Vec<ClusterEvent>>,
}

impl DeliverySink for Mailboxes {
    fn deliver(&self, _: ShardId, delivery: Delivery) {
        self.deliveries.lock().push(delivery);
    }
    fn offer(&self, shard: ShardId, delivery: Delivery) -> bool {
        self.deliver(shard, delivery);
        true
    }
    fn is_congested(&self, _: ShardId) -> bool {
        false
    }
    fn deliver_broadcast(&self, broadcast: BusDelivery) {
        self.broadcasts.lock().push(broadcast.payload);
    }
    fn deliver_node_message(&self, _: Owner, payload: Bytes) {
        self.node_messages.lock().push(payload);
    }
    fn observe(&self, event: ClusterEvent) {
        self.events.lock().push(event);
    }
}

/// Answers with what it was asked.
struct Echo;

impl Handler for Echo {
    fn request(&self, _: NodeTag, _: u8, body: Bytes, responder: signalbox_node_link::Responder) {
        responder.send(body);
    }
    fn notice(&self, _: NodeTag, _: u8, _: Bytes) {}
}

struct Node {
    cluster: Arc<Cluster>,
    link: LinkHandle,
    mailboxes: Arc<Mailboxes>,
    tag: NodeTag,
}

impl Node {
    fn start(server: &Server, tag: u32) -> Self {
        Self::at(&server.url(), tag)
    }

    fn at(url: &str, tag: u32) -> Self {
        Self::of(url, "test", tag)
    }

    /// One of those with the same prefix.
    fn of(url: &str, prefix: &str, tag: u32) -> Self {
        let tag = NodeTag(tag);
        let mailboxes = Arc::new(Mailboxes::default());
        let config = Config {
            realms: vec!["peerjs".into()],
            concurrent_limit: None,
            expire_timeout: Duration::from_secs(1),
        };
        let settings = Settings {
            url: url.to_owned(),
            prefix: prefix.into(),
            listen: None,
            secret: None,
            on_secret: None,
            largest: 0,
        };
        let owner = Owner { tag, epoch: 0 };
        let info = NodeInfo::new(owner, tag.to_string());
        let Connected { cluster, link } =
            connect(&config, &settings, info, mailboxes.clone(), Arc::new(Echo), Metrics::new()).unwrap();
        let node = Self { cluster, link, mailboxes, tag };
        node.wait_until(Status::Online);
        node
    }

    fn wait_until(&self, status: Status) {
        until(|| (self.cluster.status() == status).then_some(()));
    }

    fn submit(&self, command: Command) {
        self.cluster.submit(Instant::now(), command);
    }

    /// Takes the first delivery out that fits.
    fn delivery<T>(&self, fits: impl Fn(&Delivery) -> Option<T>) -> T {
        until(|| {
            let mut deliveries = self.mailboxes.deliveries.lock();
            let (index, found) =
                deliveries.iter().enumerate().find_map(|(index, delivery)| Some((index, fits(delivery)?)))?;
            deliveries.remove(index);
            Some(found)
        })
    }

    fn claim(&self, key: u32, id: &str, token: &str) -> Option<u64> {
        let at = PeerAt { shard: 0, key, generation: 0 };
        let ticket = u64::from(key);
        self.submit(Command::Claim { at, ticket, realm: 0, id: id.into(), token: token.into() });
        self.delivery(|delivery| match delivery {
            Delivery::Claimed { ticket: of, claimed } if *of == ticket => Some(match claimed {
                Claimed::Granted { generation, .. } => Some(*generation),
                _ => None,
            }),
            _ => None,
        })
    }

    fn send(&self, key: u32, generation: u64, src: &str, dst: &str, text: &str) {
        let peer_message = PeerMessage {
            from: PeerAt { shard: 0, key, generation },
            realm: 0,
            kind: Kind::Offer,
            src: src.into(),
            dst: dst.into(),
            frame: Frame::text(text),
            hops: 0,
            sender: None,
        };
        self.cluster.send(Instant::now(), 0, peer_message);
    }

    fn peer_message(&self) -> String {
        self.delivery(|delivery| match delivery {
            Delivery::PeerMessage { peer_message, .. } => {
                Some(String::from_utf8_lossy(peer_message.frame.payload()).into_owned())
            }
            _ => None,
        })
    }

    fn join(&self, room: &RoomName, ticket: u64) -> (Address, Vec<Address>) {
        let socket = Address::random(self.tag, 0);
        self.cluster.route(room).add(0);
        let emission = |event: &str| {
            Some(MemberEvent {
                event: event.into(),
                args: EventArgs::new("1", "{}"),
                attachments: Vec::new(),
            })
        };
        let record = Record {
            socket,
            profile: "{}".into(),
            joined: emission("joined"),
            updated: None,
            left: emission("left"),
        };
        self.submit(Command::Connected { namespace: "/".into(), socket });
        self.submit(Command::Join {
            shard: 0,
            ticket,
            room: room.clone(),
            record: record.into(),
            list: true,
        });
        let members = self.delivery(|delivery| match delivery {
            Delivery::Joined { ticket: of, members, .. } if *of == ticket => {
                Some(members.iter().map(|member| member.socket).filter(|other| *other != socket).collect())
            }
            _ => None,
        });
        (socket, members)
    }

    fn change(&self) -> (&'static str, Address) {
        self.delivery(|delivery| match delivery {
            Delivery::RoomChanged { change, .. } => Some(match change {
                Change::Joined(record) => ("joined", record.socket),
                Change::Updated(record) => ("updated", record.socket),
                Change::Left(record) => ("left", record.socket),
            }),
            _ => None,
        })
    }
}

fn until<T>(mut refresh: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = refresh() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it did not happen in time");
        // The nodes have threads of their own.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn room() -> RoomName {
    RoomName { namespace: "/".into(), name: "r".into() }
}

#[test]
fn an_id_has_one_holder_among_nodes_and_peer_messages_find_it() {
    let server = Server::start();
    ids_and_peer_messages(&Node::start(&server, 1), &Node::start(&server, 2));
}

fn ids_and_peer_messages(one: &Node, two: &Node) {
    let a = one.claim(1, "a", "t").expect("free");
    assert_eq!(two.claim(1, "a", "other"), None);
    let b = two.claim(2, "b", "t").expect("free");
    one.send(1, a, "a", "b", "hello");
    assert_eq!(two.peer_message(), "hello");
    // Remembered, and answered.
    one.send(1, a, "a", "b", "again");
    two.send(2, b, "b", "a", "back");
    assert_eq!((two.peer_message().as_str(), one.peer_message().as_str()), ("again", "back"));
    // The same token takes over from another node.
    let later = two.claim(3, "a", "t").expect("the same token");
    assert!(later > a);
    let superseded = one.delivery(|delivery| match delivery {
        Delivery::Superseded(at) => Some(at.generation),
        _ => None,
    });
    assert_eq!(superseded, a);
}

#[test]
fn peer_messages_keep_their_order_while_their_peer_is_looked_for() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let a = one.claim(1, "a", "t").expect("free");
    for peer in 0..20 {
        let id = format!("b{peer}");
        assert!(two.claim(100 + peer, &id, "t").is_some());
        let sent: Vec<String> = (0..50).map(|number| format!("{peer}/{number}")).collect();
        for text in &sent {
            one.send(1, a, "a", &id, text);
            // The store answers somewhere in between.
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(50) {}
        }
        let heard: Vec<String> = sent.iter().map(|_| two.peer_message()).collect();
        assert_eq!(heard, sent);
    }
}

#[test]
fn nodes_find_each_other_past_redis() {
    let mut server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let peer = until(|| RemoteNode::find(&one.cluster, two.tag));
    let link = until(|| one.link.get());
    until(|| two.link.get());
    // The address is remembered through an outage.
    server.stop();
    one.wait_until(Status::Degraded);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(link.request(peer, 1, Bytes::from_static(b"hello")));
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
}

#[test]
fn what_happens_is_told() {
    let mut server = Server::start();
    let one = Node::start(&server, 1);
    let happened = |what: &dyn Fn(&ClusterEvent) -> bool| {
        until(|| one.mailboxes.events.lock().iter().any(what).then_some(()));
    };
    happened(&|event| matches!(event, ClusterEvent::Online { epoch: 1, degraded_for: None }));
    assert!(one.cluster.can_publish());
    let broadcast = || one.cluster.broadcast(Instant::now(), Scope::Everywhere, Bytes::from_static(b"x"));
    assert!(broadcast());
    // A message of a later version, and one that is nonsense.
    let all = String::from_utf8(Keys::new("test").everywhere().to_vec()).unwrap();
    until(|| server.ask(&format!("PUBLISH {all} \"S\\x09later\"")).starts_with(":1").then_some(()));
    happened(&|event| *event == ClusterEvent::UnknownFormat);
    server.ask(&format!("PUBLISH {all} nonsense"));
    happened(&|event| *event == ClusterEvent::UnreadableMessage);

    server.stop();
    // What is published before the node has noticed is not lost in silence.
    broadcast();
    happened(&|event| *event == ClusterEvent::BroadcastFailed);
    assert!(!one.cluster.can_publish());
    happened(&|event| *event == ClusterEvent::SubscriptionsLost);
    happened(&|event| *event == ClusterEvent::Degraded(DegradedReason::NoAnswer));
    assert!(!broadcast() && !one.cluster.can_publish());
    server.restart();
    happened(&|event| matches!(event, ClusterEvent::Online { epoch: 2.., degraded_for: Some(_) }));
    happened(&|event| *event == ClusterEvent::SubscriptionsRestored);
    until(|| one.cluster.can_publish().then_some(()));
    server.ask("FLUSHALL");
    happened(&|event| *event == ClusterEvent::Degraded(DegradedReason::LeaseLost));
}

#[test]
fn the_links_secret_survives_an_emptied_redis() {
    let server = Server::start();
    let mut nodes = vec![Node::start(&server, 1), Node::start(&server, 2)];
    for node in &nodes {
        until(|| node.link.get());
    }
    server.ask("FLUSHALL");
    // It comes before the others have written the secret again, or after that.
    nodes.push(Node::start(&server, 3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.tag != one.tag) {
            until(|| {
                let link = one.link.get()?;
                let peer = RemoteNode::find(&one.cluster, other.tag)?;
                let answer = runtime.block_on(link.request(peer, 1, Bytes::from_static(b"hello")));
                (answer == Ok(Bytes::from_static(b"hello"))).then_some(())
            });
        }
    }
}

#[test]
fn a_node_that_joins_a_healthy_cluster_is_whole_at_once() {
    let server = Server::start();
    let one = Node::start(&server, 1);
    assert!(!one.cluster.is_stable(), "an empty store may have lost everything just now");
    until(|| one.cluster.is_stable().then_some(()));
    let two = Node::start(&server, 2);
    assert!(two.cluster.is_stable());
    server.ask("FLUSHALL");
    let three = Node::start(&server, 3);
    assert!(!three.cluster.is_stable());
}

#[test]
fn a_peer_message_waits_for_a_claim_elsewhere_or_expires() {
    let server = Server::start();
    peer_messages_wait(&Node::start(&server, 1), &Node::start(&server, 2));
}

fn peer_messages_wait(one: &Node, two: &Node) {
    let a = one.claim(1, "a", "t").expect("free");
    one.send(1, a, "a", "b", "early");
    let number = one.delivery(|delivery| match delivery {
        Delivery::Waiting { number, .. } => Some(*number),
        _ => None,
    });
    let at = PeerAt { shard: 0, key: 9, generation: 0 };
    two.submit(Command::Claim { at, ticket: 9, realm: 0, id: "b".into(), token: "t".into() });
    let waiting = two.delivery(|delivery| match delivery {
        Delivery::Claimed { claimed: Claimed::Granted { waiting, .. }, .. } => {
            Some(waiting.iter().map(|frame| frame.payload().to_vec()).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(waiting, [b"early"]);
    one.submit(Command::Expire { realm: 0, src: "a".into(), dst: "b".into(), number });

    one.send(1, a, "a", "nobody", "lost");
    let number = one.delivery(|delivery| match delivery {
        Delivery::Waiting { number, .. } => Some(*number),
        _ => None,
    });
    one.submit(Command::Expire { realm: 0, src: "a".into(), dst: "nobody".into(), number });
    assert!(one.peer_message().contains("EXPIRE"));
}

#[test]
fn rooms_and_users_are_shared() {
    let server = Server::start();
    rooms_and_users(&Node::start(&server, 1), &Node::start(&server, 2));
}

fn rooms_and_users(one: &Node, two: &Node) {
    let (first, others) = one.join(&room(), 1);
    assert_eq!(others, []);
    let (second, others) = two.join(&room(), 2);
    assert_eq!(others, [first]);
    assert_eq!(one.change(), ("joined", second));

    one.cluster.broadcast(Instant::now(), Scope::Room(&room()), Bytes::from_static(b"to the room"));
    one.cluster.broadcast(Instant::now(), Scope::Everywhere, Bytes::from_static(b"to all"));
    until(|| (two.mailboxes.broadcasts.lock().len() == 2).then_some(()));
    assert!(one.mailboxes.broadcasts.lock().is_empty());
    assert!(one.cluster.send_to_node(Instant::now(), two.tag, Bytes::from_static(b"you")));
    until(|| (*two.mailboxes.node_messages.lock() == ["you"]).then_some(()));

    let users = |node: &Node, ticket| {
        node.submit(Command::Users { shard: 0, ticket, namespace: "/".into(), after: None });
        node.delivery(|delivery| match delivery {
            Delivery::Users { users, .. } => {
                Some(users.iter().map(|(socket, _)| *socket).collect::<Vec<_>>())
            }
            _ => None,
        })
    };
    until(|| (users(one, 5) == [first, second]).then_some(()));

    two.submit(Command::Leave { room: room(), socket: second });
    assert_eq!((one.change(), two.change()), (("left", second), ("left", second)));
}

#[test]
fn a_dead_node_is_reaped_and_its_members_say_farewell() {
    let server = Server::start();
    reaping(&Node::start(&server, 1), &Node::start(&server, 2));
}

fn reaping(one: &Node, two: &Node) {
    let (_, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert!(two.claim(7, "x", "t").is_some());
    while one.change() != ("joined", second) {}
    // Its driver ends without a word: to the others it is as dead as one that was killed.
    two.cluster.end_driver();
    assert_eq!(one.change(), ("left", second));
    until(|| one.claim(8, "x", "other"));
}

#[test]
fn what_a_node_wrote_after_its_lease_was_deleted_is_reaped_too() {
    let server = Server::start();
    let one = Node::start(&server, 1);
    let two = Node::start(&server, 2);
    // It has just joined. Until its next heartbeat, a second later, it cannot know that its lease is gone.
    server.ask("FLUSHALL");
    assert!(two.claim(7, "x", "t").is_some());
    let (second, _) = two.join(&room(), 2);
    two.cluster.end_driver();
    one.wait_until(Status::Degraded);
    one.wait_until(Status::Online);
    let (_, others) = one.join(&room(), 1);
    assert_eq!(others, [second]);
    // Nobody remembers its lease: it shows in what it wrote.
    assert_eq!(one.change(), ("left", second));
    until(|| one.claim(8, "x", "other"));
}

#[test]
fn a_node_that_leaves_is_forgotten_with_what_it_had() {
    let server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let (_, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert_eq!(one.change(), ("joined", second));
    until(|| (one.cluster.nodes().len() == 2).then_some(()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(two.cluster.leave(Instant::now()));
    assert_eq!(one.change(), ("left", second));
    until(|| (one.cluster.nodes().len() == 1).then_some(()));
}

#[test]
fn an_empty_redis_is_filled_again_and_nobody_is_told_of_it() {
    let mut server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let (first, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert_eq!(one.change(), ("joined", second));
    assert!(one.claim(7, "x", "t").is_some());
    server.restart();
    one.wait_until(Status::Degraded);
    one.wait_until(Status::Online);
    two.wait_until(Status::Online);
    until(|| two.claim(8, "x", "other").is_none().then_some(()));
    let (third, others) = two.join(&room(), 3);
    let mut expected = vec![first, second];
    expected.sort_unstable();
    let mut others = others;
    others.sort_unstable();
    assert_eq!(others, expected);
    assert_eq!(one.change(), ("joined", third), "the others never left");
}

#[test]
fn nodes_follow_a_failover() {
    let mut master = Server::with(&["--repl-diskless-sync-delay", "0"]);
    let port = master.port.to_string();
    let replica = Server::with(&["--replicaof", "127.0.0.1", &port]);
    until(|| replica.ask("INFO replication").contains("master_link_status:up").then_some(()));
    let sentinel = Server::sentinel(master.port);
    until(|| sentinel.ask("SENTINEL REPLICAS main").contains(&replica.port.to_string()).then_some(()));
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let (one, two) = (Node::at(&url, 1), Node::at(&url, 2));
    let (_, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    assert_eq!(one.change(), ("joined", second));
    assert!(one.claim(7, "x", "t").is_some());
    master.stop();
    one.wait_until(Status::Degraded);
    one.wait_until(Status::Online);
    two.wait_until(Status::Online);
    until(|| two.claim(8, "x", "other").is_none().then_some(()));
    let (third, others) = two.join(&room(), 3);
    assert_eq!(others.len(), 2);
    assert_eq!(one.change(), ("joined", third), "the others never left");
}

#[test]
fn a_user_with_a_password_and_a_database_of_its_own() {
    let server = Server::start();
    let rights = "on >open-sesame ~test:* &test:* +@all";
    assert!(server.ask(&format!("ACL SETUSER ann {rights}")).starts_with("+OK"));
    let url = format!("redis://ann:open-sesame@127.0.0.1:{}/3", server.port);
    let one = Node::at(&url, 1);
    assert!(one.claim(1, "a", "t").is_some());
    assert!(server.ask("INFO keyspace").contains("db3:"));
}

#[test]
fn scripts_that_were_flushed_are_loaded_again() {
    let server = Server::start();
    let one = Node::start(&server, 1);
    assert!(one.claim(1, "a", "t").is_some());
    assert!(server.ask("SCRIPT FLUSH").starts_with("+OK"));
    assert!(one.claim(2, "b", "t").is_some());
    assert_eq!(one.cluster.status(), Status::Online);
}

#[test]
fn without_redis_a_node_goes_on_by_itself() {
    let mut server = Server::start();
    let (one, two) = (Node::start(&server, 1), Node::start(&server, 2));
    let (first, _) = one.join(&room(), 1);
    let (second, _) = two.join(&room(), 2);
    while one.change() != ("joined", second) {}
    let a = one.claim(1, "a", "t").expect("free");
    server.stop();
    one.wait_until(Status::Degraded);
    two.wait_until(Status::Degraded);
    // Known members stay, local ones come and go.
    let (third, mut others) = one.join(&room(), 3);
    others.sort_unstable();
    let mut expected = vec![first, second];
    expected.sort_unstable();
    assert_eq!(others, expected);
    assert_eq!(one.change(), ("joined", third));
    let b = one.claim(2, "b", "t").expect("free, as far as this node knows");
    one.send(1, a, "a", "b", "local");
    assert_eq!(one.peer_message(), "local");
    let _ = b;
    // The same id on the other node: it was claimed later, and loses it when both meet again.
    let late = two.claim(5, "b", "other").expect("free, as far as that node knows");
    assert!(late > b);
    server.restart();
    one.wait_until(Status::Online);
    two.wait_until(Status::Online);
    let lost = two.delivery(|delivery| match delivery {
        Delivery::Superseded(at) => Some(at.generation),
        _ => None,
    });
    assert_eq!(lost, late);
    // The other node's client hears of who joined meanwhile.
    while two.change() != ("joined", third) {}
}
