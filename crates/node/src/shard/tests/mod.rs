//! Shards driven by hand, in one thread and without a runtime: an input and the time go in, effects come out and are done here.

mod handlers;

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_cluster::{Address, Cluster, NodeTag, Scope, ShardId};
use signalbox_engineio::CloseReason;
use signalbox_telemetry::Metrics;
use signalbox_websocket::{Frame, Message as Input};
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::{
    Shard, ShardContext,
    effects::Effect,
    mailbox::{Request, ShardMessage},
    runtime::Mailboxes,
    tasks::TaskResult,
};
use crate::{
    app::{App, vocabulary},
    config::Config,
    events::EventHub,
    ledger::Ledger,
    lifecycle::Lifecycle,
    peering::bus::ClusterEvents,
    policy::{AllowAll, GuardedPolicy},
    routing::{LocalAddresses, Reply},
    simulation::{NoHandlers, NoStream},
    transport::{Conn, Role, Written},
};

/// What a node without a network gives to its shards.
struct Parts {
    cluster: Arc<Cluster>,
    mailboxes: Arc<Mailboxes>,
    received: Vec<UnboundedReceiver<ShardMessage>>,
    contexts: Vec<ShardContext>,
}

impl Parts {
    fn new(shards: usize, config: Config) -> Self {
        let (node, metrics) = (NodeTag(1), Metrics::new());
        let config = Arc::new(Config { shards, ..config });
        let (mailboxes, received) = Mailboxes::new(shards, config.mailbox_limit, metrics.clone());
        let mailboxes = Arc::new(mailboxes);
        let ledger = Arc::new(Ledger::new(config.memory_budget));
        let hub = Arc::new(EventHub::new(node, None, metrics.clone()));
        let events =
            ClusterEvents::new(node, mailboxes.clone(), ledger.clone(), metrics.clone(), hub.clone());
        let events = Arc::new(events);
        let shared_state = signalbox_cluster::Config {
            realms: config.peer.keys.clone(),
            concurrent_limit: None,
            room_members: None,
            presence_limit: None,
            expire_timeout: config.peer.expire_timeout,
        };
        let cluster = Arc::new(Cluster::standalone(&shared_state, events));
        let app = Arc::new(App::new().namespace(vocabulary::namespace()));
        let context = |id| ShardContext {
            id,
            node,
            shards,
            config: config.clone(),
            app: app.clone(),
            policy: Arc::new(GuardedPolicy::new(Arc::new(AllowAll), metrics.clone())),
            cluster: cluster.clone(),
            addresses: Arc::new(LocalAddresses::new(node, shards)),
            lifecycle: Arc::new(Lifecycle::default()),
            ledger: ledger.clone(),
            metrics: metrics.clone(),
            client_log: Arc::default(),
            events: hub.clone(),
            router: Arc::new(NoHandlers),
            new_address: Address::random,
        };
        let contexts = (0..shards as ShardId).map(context).collect();
        Self { cluster, mailboxes, received, contexts }
    }
}

/// A node that is alone, its shards, and their mailboxes.
struct Node {
    now: Instant,
    cluster: Arc<Cluster>,
    mailboxes: Arc<Mailboxes>,
    received: Vec<UnboundedReceiver<ShardMessage>>,
    shards: Vec<RefCell<Shard>>,
    requests: u64,
}

impl Node {
    fn new(shards: usize, config: Config) -> Self {
        let now = Instant::now();
        let Parts { cluster, mailboxes, received, contexts } = Parts::new(shards, config);
        let shard = |context| RefCell::new(Shard::new(now, context));
        let shards = contexts.into_iter().map(shard).collect();
        Self { now, cluster, mailboxes, received, shards, requests: 0 }
    }

    fn with<T>(&mut self, shard: usize, input: impl FnOnce(&mut Shard, Instant) -> T) -> T {
        let result = input(&mut self.shards[shard].borrow_mut(), self.now);
        self.rest(shard);
        result
    }

    /// A shard comes to rest; what it wants done is done.
    fn rest(&self, shard: usize) {
        loop {
            let effects = self.shards[shard].borrow_mut().rest(self.now, Vec::new());
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Send { shard, message } => self.mailboxes.push(shard, message),
                    Effect::Broadcast { shard, broadcast } => {
                        self.mailboxes.push(shard, ShardMessage::Broadcast(broadcast));
                    }
                    Effect::Publish { room, message } => {
                        let scope = room.as_ref().map_or(Scope::Everywhere, Scope::Room);
                        self.cluster.broadcast(self.now, scope, message);
                    }
                    Effect::Submit(command) => self.cluster.submit(self.now, command),
                    Effect::OpenRoute { key, room } => {
                        let route = self.cluster.route(&room);
                        route.add(shard as ShardId);
                        self.shards[shard].borrow_mut().route_opened(key, route);
                    }
                    Effect::AwaitDeliveries => self.cluster.barrier(),
                    Effect::ReleaseRoute { room, route } => {
                        self.cluster.release_route(self.now, &room, route, shard as ShardId);
                    }
                    Effect::Relay { to, request } => {
                        self.mailboxes.push(to.shard, ShardMessage::Request(request));
                    }
                    Effect::Transfer { to, message } => {
                        self.mailboxes.push(to.shard, ShardMessage::Transfer(message));
                    }
                    Effect::CloseProbe(connection) => {
                        self.mailboxes.push(connection.shard, ShardMessage::CloseProbe(connection));
                    }
                    Effect::Forget { birth, address } => {
                        self.mailboxes.push(birth.shard, ShardMessage::Forget(address));
                    }
                    Effect::Answer { answer, otherwise } => {
                        let is_lost = !answer.send();
                        if let Some(otherwise) = otherwise.filter(|_| is_lost) {
                            self.shards[shard].borrow_mut().answer_is_lost(self.now, otherwise);
                        }
                    }
                    Effect::Signal { shard, command, .. } => {
                        self.mailboxes.push(shard, ShardMessage::SocketCommand(command));
                    }
                    Effect::Signalled { to, found } => {
                        let result = ShardMessage::TaskDone(to.ticket, TaskResult::Signalled(found));
                        self.mailboxes.push(to.shard, result);
                    }
                    _ => panic!("nothing else is wanted here"),
                }
            }
        }
        self.shards[shard].borrow_mut().after_writing(self.now);
    }

    /// Messages are taken out of the mailboxes until there are none.
    fn run(&mut self) {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for shard in 0..self.shards.len() {
                while let Ok(message) = self.received[shard].try_recv() {
                    is_quiet = false;
                    self.with(shard, |shard, now| shard.take(now, message));
                }
            }
        }
    }

    fn open_polling(&mut self, shard: usize) -> Address {
        self.with(shard, |shard, now| shard.open_polling(now, None, Default::default(), None)).0
    }

    fn poll(&mut self, sid: Address) -> oneshot::Receiver<Result<String, crate::protocol::RequestRefused>> {
        self.requests += 1;
        let (number, (reply, body)) = (self.requests, Reply::channel());
        let poll = Request::Poll { sid, number, accepted: None, reply };
        self.with(usize::from(sid.shard()), |shard, now| shard.request(now, poll));
        self.run();
        body
    }

    /// The beginning of a POST.
    fn begin_post(&mut self, sid: Address) -> (Reply<()>, oneshot::Receiver<()>) {
        self.requests += 1;
        let (number, shard) = (self.requests, usize::from(sid.shard()));
        let (reply, mut begun) = Reply::channel();
        let begin = Request::BeginPost { sid, number, on_close: Reply::new(|()| true), reply };
        self.with(shard, |shard, now| shard.request(now, begin));
        assert!(matches!(begun.try_recv(), Ok(Ok(()))), "it begins");
        Reply::channel()
    }

    /// A POST, and whether it was answered.
    fn post(&mut self, sid: Address, body: &str) -> bool {
        let (reply, mut applied) = self.begin_post(sid);
        let (number, shard) = (self.requests, usize::from(sid.shard()));
        let post = Request::Post { sid, number, body: body.to_owned().into(), is_relayed: false, reply };
        self.with(shard, |shard, now| shard.request(now, post));
        self.run();
        if applied.is_empty() {
            // It waits for a GET.
            self.now += Duration::from_millis(5);
            self.with(shard, Shard::fire_timers);
            self.run();
        }
        applied.try_recv().is_ok()
    }

    /// A session on a WebSocket, connected to `/`, in a room.
    fn open_websocket(&mut self, shard: usize, room: &str) -> Rc<Conn> {
        let conn = Conn::pending();
        conn.connect(Box::new(NoStream));
        self.with(shard, |shard, now| shard.open_websocket(now, &conn, None, Default::default()));
        self.receive(shard, &conn, "40");
        self.receive(shard, &conn, &format!("420[\"join\",\"{room}\"]"));
        assert!(texts(&conn)[2].starts_with("430[{\"ok\":true"), "it joins");
        conn
    }

    fn receive(&mut self, shard: usize, conn: &Rc<Conn>, text: &str) {
        self.with(shard, |shard, now| shard.connection_message(now, conn, Input::Text(text)));
        self.run();
    }
}

/// What a client would read.
fn texts(conn: &Conn) -> Vec<String> {
    let text = |bytes| {
        let frame = Frame::from_bytes(bytes);
        frame.map_or("closed".to_owned(), |frame| String::from_utf8_lossy(frame.payload()).into_owned())
    };
    conn.take_queued().into_iter().map(text).collect()
}

#[test]
fn a_poll_waits_for_what_a_post_causes() {
    let mut node = Node::new(1, Config::default());
    let sid = node.open_polling(0);
    let mut body = node.poll(sid);
    assert!(body.try_recv().is_err(), "there is nothing to say yet");
    assert!(node.post(sid, "40"));
    let body = body.try_recv().expect("an answer").expect("a body");
    assert!(body.starts_with("40{\"sid\":\""), "{body}");
}

#[test]
fn a_get_that_another_worker_was_slower_to_read_is_not_overtaken_by_a_post() {
    let mut node = Node::new(1, Config::default());
    let sid = node.open_polling(0);
    let (reply, mut applied) = node.begin_post(sid);
    let close = Request::Post { sid, number: node.requests, body: "1".into(), is_relayed: false, reply };
    node.with(0, |shard, now| shard.request(now, close));
    node.run();
    assert!(applied.is_empty(), "it waits for the GET");
    let mut body = node.poll(sid);
    assert!(applied.try_recv().is_ok());
    assert_eq!(body.try_recv(), Ok(Ok("6".to_owned())), "the answer that ends it");
    assert!(!node.shards[0].borrow().owns(sid));
}

#[test]
fn a_post_whose_get_never_comes_is_applied_after_a_moment() {
    let mut node = Node::new(1, Config::default());
    let sid = node.open_polling(0);
    assert!(node.post(sid, "40"));
    assert!(matches!(node.poll(sid).try_recv(), Ok(Ok(body)) if body.starts_with("40{")));
    assert!(node.shards[0].borrow_mut().leftovers().is_empty());
}

#[test]
fn a_client_that_does_not_answer_to_a_heartbeat_is_gone() {
    let mut node = Node::new(1, Config::default());
    let sid = node.open_polling(0);
    assert!(node.post(sid, "40"));
    assert!(node.poll(sid).try_recv().is_ok());
    let mut body = node.poll(sid);
    node.now += Duration::from_secs(25);
    node.with(0, Shard::fire_timers);
    assert_eq!(body.try_recv(), Ok(Ok("2".to_owned())));
    node.now += Duration::from_secs(20);
    node.with(0, Shard::fire_timers);
    assert!(!node.shards[0].borrow().owns(sid));
}

#[test]
fn a_websocket_takes_a_session_over_within_its_shard_and_on_another() {
    for shard in [0, 1] {
        let mut node = Node::new(2, Config::default());
        let sid = node.open_polling(0);
        assert!(node.post(sid, "40"));
        let conn = Conn::pending();
        let connection = node.with(shard, |shard, now| shard.open_probe(now, &conn, sid));
        let (reply, mut began) = Reply::channel();
        let begin = Request::BeginUpgrade { sid, connection, reply };
        node.with(0, |shard, now| shard.request(now, begin));
        assert_eq!(began.try_recv(), Ok(Ok(true)));
        conn.connect(Box::new(NoStream));
        node.receive(shard, &conn, "2probe");
        assert_eq!(texts(&conn), ["3probe"]);
        node.receive(shard, &conn, "5");
        assert!(node.shards[shard].borrow().owns(sid), "the session is where its WebSocket is");
        assert!(matches!(conn.role.get(), Role::Session(_)) && !conn.is_paused());
        // What waited for a poll comes on the WebSocket.
        assert!(matches!(&texts(&conn)[..], [connected] if connected.starts_with("40{")));
        node.receive(shard, &conn, "420[\"join\",\"red\"]");
        assert!(matches!(&texts(&conn)[..], [joined] if joined.starts_with("430[")));
        assert!(node.shards.iter().all(|shard| shard.borrow_mut().leftovers().is_empty()));
    }
}

#[test]
fn a_message_reaches_the_members_of_a_room_on_every_shard_once() {
    let mut node = Node::new(2, Config::default());
    let sender = node.open_websocket(0, "red");
    let (here, there) = (node.open_websocket(0, "red"), node.open_websocket(1, "red"));
    let stranger = node.open_websocket(1, "blue");
    for conn in [&sender, &here, &there, &stranger] {
        texts(conn);
    }
    node.receive(0, &sender, "42[\"message\",\"red\",1]");
    for conn in [&here, &there] {
        assert!(matches!(&texts(conn)[..], [message] if message.starts_with("42[\"message\",1,")));
    }
    assert!(texts(&sender).is_empty() && texts(&stranger).is_empty());
}

#[test]
fn a_member_that_goes_is_told_of_once() {
    let mut node = Node::new(2, Config::default());
    let (one, other) = (node.open_websocket(0, "red"), node.open_websocket(1, "red"));
    texts(&one);
    let role = other.role.replace(Role::Nobody);
    node.with(1, |shard, now| shard.lost(now, role, CloseReason::TransportClose));
    node.run();
    assert!(matches!(&texts(&one)[..], [left] if left.starts_with("42[\"left\",{")));
}

#[test]
fn what_a_crowd_receives_is_written_behind_what_others_do() {
    let mut node = Node::new(1, Config::default());
    let crowd: Vec<_> = (0..200).map(|_| node.open_websocket(0, "red")).collect();
    let few = [node.open_websocket(0, "blue"), node.open_websocket(0, "blue")];
    crowd.iter().chain(&few).for_each(|conn| drop(texts(conn)));
    while node.shards[0].borrow_mut().next_dirty().is_some() {}
    node.receive(0, &crowd[0], "42[\"message\",\"red\",1]");
    node.receive(0, &few[0], "42[\"message\",\"blue\",2]");
    // One of the crowd has something of its own, too.
    node.receive(0, &crowd[5], "421[\"leave\",\"green\"]");
    let mut order = Vec::new();
    loop {
        let mut shard = node.shards[0].borrow_mut();
        let Some(conn) = shard.next_dirty().or_else(|| shard.next_of_crowd()) else { break };
        shard.written(&conn, Written::AsFarAsItGoes);
        order.push(conn);
    }
    let place = |conn: &Rc<Conn>| order.iter().position(|it| Rc::ptr_eq(it, conn));
    assert_eq!(order.len(), 200, "each once, and whoever has said it does not receive it");
    assert_eq!([place(&few[1]), place(&crowd[5])], [Some(0), Some(1)]);
    assert_eq!(texts(&crowd[5]).len(), 2);
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_its_neighbour_is_not() {
    let mut node = Node::new(1, Config { outbox_limit: 1_000, ..Config::default() });
    let (sender, slow, quick) =
        (node.open_websocket(0, "red"), node.open_websocket(0, "red"), node.open_websocket(0, "red"));
    let text = format!("42[\"message\",\"red\",\"{}\"]", "x".repeat(300));
    for _ in 0..5 {
        node.receive(0, &sender, &text);
        texts(&quick);
        // The runtime writes what is queued; the slow client's socket takes nothing.
        loop {
            let Some(conn) = node.shards[0].borrow_mut().next_dirty() else { break };
            node.shards[0].borrow_mut().written(&conn, Written::AsFarAsItGoes);
        }
        node.rest(0);
        node.run();
    }
    assert!(!slow.is_open() && quick.is_open() && sender.is_open());
    let left = texts(&sender);
    assert_eq!(left.iter().filter(|text| text.starts_with("42[\"left\"")).count(), 1, "{left:?}");
}

#[test]
fn a_client_with_many_signals_on_their_way_is_not_read_on_until_one_is_answered() {
    let mut node = Node::new(2, Config::default());
    let sender = node.open_websocket(0, "red");
    // An address of the other shard that nobody has: it is that shard which says so.
    let nobody = Address::random(NodeTag(1), 1).to_string();
    let signal = format!("42[\"signal\",\"{nobody}\",1]");
    let send = |node: &mut Node| {
        node.with(0, |shard, now| shard.connection_message(now, &sender, Input::Text(&signal)));
    };
    for _ in 0..63 {
        send(&mut node);
    }
    assert!(!sender.is_paused());
    send(&mut node);
    assert!(sender.is_paused(), "64 are unanswered");
    node.run();
    assert!(!sender.is_paused(), "all are answered");
    assert_eq!(texts(&sender).len(), 64);
    for _ in 0..63 {
        send(&mut node);
    }
    assert!(!sender.is_paused(), "they do not count any more");
}
