//! A run: clients in two rooms on three nodes, one of which moves to its WebSocket, and what goes wrong meanwhile.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use signalbox_socketio::{Args, Message};
use signalbox_telemetry::Metrics;

use super::{
    ROOMS,
    check::Closure,
    client::{Client, ClientAction, Sent},
    event::Event,
    faults::{Fault, Step},
    world::{ClientId, NodeId, REST, World},
};
use crate::{
    routing::{Audience, SocketCommand, SocketOp},
    shard::mailbox::ShardMessage,
};

/// The client whose session moves.
pub(super) const MOVER: ClientId = 0;

/// Where the session moves, and how its client reaches it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// To another shard of its node; requests land on its node.
    SameNode,
    /// To another node; requests land on the session's own node.
    OtherNode,
    /// To another node; requests land anywhere.
    OtherNodeRelayed,
}

/// How a run has ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The steps of the transfer.
    pub(super) steps: Vec<Step>,
    /// When the transfer was over.
    pub(super) moved_at: Option<Instant>,
    /// How the session was closed, if it was.
    pub(super) closure: Option<Closure>,
}

/// A client that does not answer to heartbeats is gone after this time.
const HEARTBEAT: Duration = Duration::from_secs(46);
/// When clients connect: the cluster is stable by then.
const CONNECT: Duration = Duration::from_millis(6_500);
/// How long an answer of the client that moves is waited for: faults are over by then, in most runs.
const ACK_TIMEOUT: Duration = Duration::from_secs(6);
/// How long the steps of a transfer are counted, from the request for the WebSocket: until a second after it is confirmed.
const STEPS: Duration = Duration::from_millis(1_400);

impl World {
    /// Four clients on WebSockets, one of which joins and leaves all the time, and one that polls.
    fn connect_clients(&mut self, path: Path) {
        let [red, blue] = ROOMS;
        for (name, rooms) in [
            ("mover", &[red, blue][..]),
            ("first", &[red]),
            ("second", &[red]),
            ("third", &[red, blue]),
            ("churner", &[red]),
        ] {
            self.clients.push(Client::new(name.to_owned(), rooms));
        }
        self.clients[4].is_churning = true;
        self.clients[MOVER].balancer = (path != Path::OtherNodeRelayed).then_some(0);
        self.run_until(self.began + CONNECT);
        self.open_on_websocket(1, 0, 0);
        self.open_on_websocket(2, 1, 0);
        self.open_on_websocket(3, 2, 1);
        self.open_on_websocket(4, 2, 0);
        self.open_polling(MOVER, 0, 0);
        self.run_for(Duration::from_millis(400));
        self.prepare_orders();
        self.run_for(Duration::from_millis(100));
        for (index, client) in self.clients.iter().enumerate() {
            assert_eq!(client.rooms.len(), client.joins.len(), "client {index} has joined its rooms");
        }
    }

    /// Somebody asks the client whose session moves, on its first node: it answers after the transfer.
    fn ask_mover(&mut self) {
        let Some(to) = self.clients[MOVER].socket else { return };
        let op = SocketOp::Ask {
            event: "ask".to_owned(),
            args: Args::default(),
            timeout: ACK_TIMEOUT,
            reply: self.checks.expect_ack(),
        };
        let command = SocketCommand { to, namespace: "/".into(), op };
        self.push_to_shard(0, 0, ShardMessage::SocketCommand(command));
    }

    fn start_talking(&mut self) {
        self.checks.talks_until = self.now + Duration::from_secs(3_600);
        self.checks.talks_fast_until = self.now + Duration::from_millis(700);
        for client in 0..4 {
            self.schedule_in(
                Duration::from_millis(5 * client as u64),
                Event::ClientActs(client, ClientAction::Talk),
            );
        }
        self.schedule_in(Duration::from_millis(40), Event::ClientActs(4, ClientAction::Churn));
        for node in 0..self.nodes.len() {
            let delay = Duration::from_millis(10 + 10 * node as u64);
            self.schedule_in(delay, Event::NamespaceBroadcast(node));
        }
    }

    /// A handler on a node says something to everybody.
    pub(super) fn namespace_broadcast(&mut self, node: NodeId) {
        if self.now < self.checks.talks_until {
            self.speak_to_all(node);
            let millis = if self.now < self.checks.talks_fast_until { 40 } else { 400 };
            self.schedule_in(Duration::from_millis(millis), Event::NamespaceBroadcast(node));
        }
    }

    fn speak_to_all(&mut self, node: NodeId) {
        let sent = self.checks.said_to_all.entry(node).or_default();
        let message = Message::event("/", None, "all", &[&format!("\"all{node}:{}\"", sent.len())], &[]);
        sent.push(Sent { at: self.now, applied: Some(self.now) });
        let to = Audience {
            namespace: "/".into(),
            rooms: Vec::new(),
            except: Vec::new(),
            except_rooms: Vec::new(),
        };
        self.push_to_shard(node, 1, ShardMessage::BeginBroadcast { to, message, volatile: false });
    }

    fn any_fault(&mut self) -> Fault {
        let node = self.rng.random_range(0..self.nodes.len());
        let other = (node + self.rng.random_range(1..self.nodes.len())) % self.nodes.len();
        let lasts = Duration::from_millis(self.rng.random_range(100..9_000));
        let is_emptied = self.rng.random_bool(0.5);
        match self.rng.random_range(0..10) {
            // Somebody has to survive.
            0 if node != 2 => Fault::Kill(node),
            0 | 1 => Fault::Pause(node, lasts),
            2 if is_emptied => Fault::LoseLink(node, other),
            2 => Fault::BreakLink(node, other),
            3 => Fault::LinkDown(node, other, lasts.min(Duration::from_millis(3_500))),
            4 | 5 => Fault::LoseBus(node),
            6 => Fault::StoreAway(lasts, is_emptied),
            7 => Fault::EmptyStore,
            8 => Fault::CloseWebSocket(MOVER),
            _ => Fault::GiveUpPoll(MOVER),
        }
    }

    /// Everything comes to rest. Gives back how the session that moves was closed; no other may be but with its node.
    fn finish(&mut self) -> Option<Closure> {
        self.come_to_rest();
        for other in 1..self.clients.len() {
            let closure = self.closure(other);
            assert!(matches!(closure, None | Some(Closure::NodeFailed)), "client {other}: {closure:?}");
        }
        self.closure(MOVER)
    }

    /// The faults are over: everything comes to rest, says a last word, and is checked.
    fn come_to_rest(&mut self) {
        let over = self.faults_end();
        self.run_until(over + Duration::from_secs(4));
        self.checks.talks_until = self.now;
        self.run_until(over + REST);
        if self.has_silent_sessions() {
            // Their clients have gone without a word: only a heartbeat shows it.
            self.run_for(HEARTBEAT);
        }
        for client in 0..self.clients.len() {
            if self.clients[client].is_there() && !self.clients[client].is_churning {
                self.talk(client);
            }
        }
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_dead {
                self.speak_to_all(node);
            }
        }
        self.run_for(Duration::from_millis(1_500));
        self.check_all();
    }
}

/// One transfer, with faults at random.
pub(super) fn run_at_random(seed: u64, traces: bool, metrics: &Metrics) -> Option<Closure> {
    let mut world = World::new(seed, traces, metrics);
    let path = match world.rng.random_range(0..4) {
        0 => Path::SameNode,
        1 => Path::OtherNode,
        _ => Path::OtherNodeRelayed,
    };
    world.connect_clients(path);
    world.has_slow_messages = world.rng.random_bool(0.5);
    world.start_talking();
    world.run_for(Duration::from_millis(150));
    let node = if path == Path::SameNode { 0 } else { 1 };
    world.checks.movers.push((MOVER, node, 1));
    for _ in 0..world.rng.random_range(1..=3) {
        let fault = world.any_fault();
        // Most of them while the session moves, which takes a few hundredths of a second.
        let millis = if world.rng.random_bool(0.8) { 0..60 } else { 0..2_000 };
        let delay = Duration::from_micros(world.rng.random_range(millis.start * 1_000..millis.end * 1_000));
        world.schedule_in(delay, Event::Inject(fault));
    }
    world.ask_mover();
    world.give_orders();
    world.client_acts(MOVER, ClientAction::Upgrade { node, shard: 1 });
    world.run_for(Duration::from_secs(2));
    world.finish()
}

/// One transfer, with a fault before one of its steps.
pub(super) fn run(
    seed: u64,
    path: Path,
    fault: Option<(usize, Fault)>,
    traces: bool,
    metrics: &Metrics,
) -> Outcome {
    let mut world = World::new(seed, traces, metrics);
    world.connect_clients(path);
    world.start_talking();
    world.run_for(Duration::from_millis(150));
    let node = if path == Path::SameNode { 0 } else { 1 };
    world.checks.movers.push((MOVER, node, 1));
    world.injection.fault = fault;
    world.injection.is_open = true;
    world.ask_mover();
    world.give_orders();
    world.client_acts(MOVER, ClientAction::Upgrade { node, shard: 1 });
    world.run_for(STEPS);
    world.injection.is_open = false;
    if let Some((step, fault)) = fault {
        assert!(!world.injection.injected.is_empty(), "{fault:?} came before step {step}");
    } else {
        assert!(world.clients[MOVER].moved_at.is_some(), "the session has moved");
    }
    let closure = world.finish();
    let moved_at = world.clients[MOVER].moved_at;
    Outcome { steps: world.injection.steps, moved_at, closure }
}

/// Messages are on their way for two milliseconds at most. So long after the end of a transfer nothing of it is left but what the
/// session's new shard remembers, and one step is like any other.
const TRAIL: Duration = Duration::from_millis(20);
/// How often a fault comes from then on.
const SAMPLE: Duration = Duration::from_millis(100);

/// The steps at which a fault may come, one for each that it can tell from the one before.
pub(super) fn steps(outcome: &Outcome, fault: Fault) -> Vec<usize> {
    let Some(moved_at) = outcome.moved_at else { return Vec::new() };
    let (dense, end) = (moved_at + TRAIL, moved_at + Duration::from_secs(1));
    let mut next = dense;
    let touched = outcome.steps.iter().enumerate().filter(|(_, step)| fault.touches(step));
    let chosen = touched.filter(|(_, Step { at, .. })| {
        let is_chosen = *at <= dense || *at >= next && *at <= end;
        if *at > dense && is_chosen {
            next = *at + SAMPLE;
        }
        is_chosen
    });
    chosen.map(|(step, _)| step).collect()
}
