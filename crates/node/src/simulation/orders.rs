//! Operators' orders while a session moves: each reaches every node at a time of its own, which does what `peering::orders` does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::RngExt as _;
use signalbox_admin::orders::Audience;
use signalbox_cluster::{
    Address, RoomName,
    store::{Call, Reply as StoreReply},
};
use signalbox_socketio::Message;

use super::{
    SHARDS,
    answers::{Answer, Asker},
    event::Event,
    faults::Fault,
    scenario::MOVER,
    world::{NodeId, World},
};
use crate::{
    protocol::inquiry::{self, Question, Selected},
    routing::{OrderPart, OrderedOp, Reply, SocketCommand, SocketOp},
    shard::mailbox::ShardMessage,
};

/// A room that the session that moves is to join, and one that it is to leave.
const JOINED: &str = "joined by order";
const LEFT: &str = "left by order";
/// Events for the session that moves, half of them through a room.
const EVENTS: usize = 4;
/// How long after the first order the last one is given: a transfer takes less.
const GIVEN_WITHIN: Duration = Duration::from_millis(60);
/// How long after one node another one has an order, unless it does nothing.
const SPREAD: Duration = Duration::from_millis(30);

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Join,
    Leave,
}

/// An order, and what it came to.
struct Order {
    kind: Kind,
    audience: Audience,
    /// For each socket that said so: whether it does what it was sent.
    firsts: Arc<Mutex<Vec<(Address, bool)>>>,
    /// Whether sockets have joined or left.
    answers: Arc<Mutex<Vec<bool>>>,
}

/// The sockets that a node selects for an order. Its shards are asked twice.
#[derive(Default)]
struct Selection {
    rounds: usize,
    missing: usize,
    found: BTreeMap<Address, Selected>,
}

#[derive(Default)]
pub(super) struct Orders {
    given: Vec<Order>,
    selections: BTreeMap<(usize, NodeId), Selection>,
}

fn room(name: &str) -> RoomName {
    RoomName { namespace: "/".into(), name: name.into() }
}

impl World {
    /// The session that moves joins the room that it is to leave.
    pub(super) fn prepare_orders(&mut self) {
        let Some(to) = self.clients[MOVER].socket else { return };
        let op = SocketOp::Join { room: LEFT.into(), record: None, reply: Reply::new(|_| true) };
        let command = SocketCommand { to, namespace: "/".into(), op };
        self.push_to_shard(0, 0, ShardMessage::SocketCommand(command));
    }

    /// Orders are given from now on.
    pub(super) fn give_orders(&mut self) {
        let Some(mover) = self.clients[MOVER].socket else { return };
        let of_room =
            Audience { namespace: "/".to_owned(), rooms: vec!["blue".to_owned()], ..Audience::default() };
        let of_mover =
            Audience { namespace: "/".to_owned(), sockets: vec![mover.to_string()], ..Audience::default() };
        for number in 0..EVENTS + 2 {
            let kind = match number {
                EVENTS => Kind::Join,
                number if number > EVENTS => Kind::Leave,
                _ => Kind::Event,
            };
            let audience = if number % 2 == 0 { of_mover.clone() } else { of_room.clone() };
            let audience = if kind == Kind::Event { audience } else { of_mover.clone() };
            let (firsts, answers) = Default::default();
            self.orders.given.push(Order { kind, audience, firsts, answers });
            let at = self.random_time(GIVEN_WITHIN);
            // Others have nothing of it.
            for node in 0..2 {
                let delay = at + self.random_time(SPREAD);
                self.schedule_in(delay, Event::Order(node, number));
            }
        }
    }

    fn random_time(&mut self, within: Duration) -> Duration {
        Duration::from_micros(self.rng.random_range(0..within.as_micros() as u64))
    }

    /// An order reaches a node.
    pub(super) fn order_arrives(&mut self, node: NodeId, number: usize) {
        self.orders.selections.insert((number, node), Selection::default());
        self.ask_shards_for(node, number);
    }

    fn ask_shards_for(&mut self, node: NodeId, number: usize) {
        let question = Arc::new(Question::Select(self.orders.given[number].audience.clone()));
        let selection = self.orders.selections.entry((number, node)).or_default();
        selection.rounds += 1;
        selection.missing = SHARDS;
        for shard in 0..SHARDS {
            let (_, reply) = self.answers.expect(Asker::Order { node, number }, Answer::Selected);
            let question = question.clone();
            self.push_to_shard(node, shard, ShardMessage::Inspect { question, reply });
        }
    }

    /// A shard has selected sockets.
    pub(super) fn selected(&mut self, node: NodeId, number: usize, answer: Option<Answer>) {
        let Some(Answer::Selected(inquiry::Answer::Selected(sockets))) = answer else { return };
        let Some(selection) = self.orders.selections.get_mut(&(number, node)) else { return };
        for selected in sockets {
            selection.found.entry(selected.socket).or_insert(selected);
        }
        selection.missing -= 1;
        match (selection.missing, selection.rounds) {
            (0, 1) => self.ask_shards_for(node, number),
            (0, _) => {
                let selection = self.orders.selections.remove(&(number, node)).unwrap_or_default();
                for selected in selection.found.into_values() {
                    self.send_order(node, number, &selected);
                }
            }
            _ => {}
        }
    }

    /// As `OrderRun::send`.
    fn send_order(&mut self, node: NodeId, number: usize, selected: &Selected) {
        let Order { kind, firsts, answers, .. } = &self.orders.given[number];
        let (socket, firsts, answers) = (selected.socket, firsts.clone(), answers.clone());
        let reply = Reply::new(move |answer| {
            answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            true
        });
        let op = match kind {
            Kind::Event => {
                let message = Message::event("/", None, "order", &[&number.to_string()], &[]);
                SocketOp::Send { message, volatile: false }
            }
            Kind::Join => SocketOp::Join { room: JOINED.into(), record: None, reply },
            Kind::Leave => SocketOp::Leave { room: LEFT.into(), reply },
        };
        let op = match selected.standing.condition() {
            Some(condition) => {
                let part = OrderPart { order: number as u64, part: 0 };
                let is_first = Reply::new(move |is_first| {
                    firsts.lock().unwrap_or_else(PoisonError::into_inner).push((socket, is_first));
                    true
                });
                SocketOp::Ordered(Box::new(OrderedOp { part, condition, op, is_first }))
            }
            None => {
                firsts.lock().unwrap_or_else(PoisonError::into_inner).push((socket, true));
                op
            }
        };
        // It was born here, or has come here.
        let Some(shard) = self.nodes[node].addresses.shard_of(socket) else { return };
        let command = SocketCommand { to: socket, namespace: "/".into(), op };
        self.push_to_shard(node, usize::from(shard), ShardMessage::SocketCommand(command));
    }

    /// Every order is done once by each socket it is for, and not at all only where a fault explains it.
    pub(super) fn check_orders(&mut self) {
        for (index, client) in self.clients.iter().enumerate() {
            let twice = client.orders.iter().find(|(_, times)| **times > 1);
            assert_eq!(twice, None, "client {index}: an order is done twice");
        }
        let mover = &self.clients[MOVER];
        let is_lossy = self.loses_orders();
        for (number, order) in self.orders.given.iter().enumerate() {
            let firsts = order.firsts.lock().unwrap_or_else(PoisonError::into_inner);
            let of_mover = firsts.iter().filter(|(socket, _)| mover.socket == Some(*socket));
            let counted = of_mover.filter(|(_, is_first)| *is_first).count();
            assert!(counted <= 1, "order {number} is counted more than once: {firsts:?}");
            if !mover.is_there() || is_lossy {
                continue;
            }
            assert_eq!(counted, 1, "order {number} is not counted: {firsts:?}");
            if order.kind == Kind::Event {
                assert_eq!(
                    mover.orders.get(&number),
                    Some(&1),
                    "order {number} has not reached the session that moves"
                );
            }
        }
        let is_there = mover.is_there();
        for (name, kind) in [(JOINED, Kind::Join), (LEFT, Kind::Leave)] {
            let order = self.orders.given.iter().find(|order| order.kind == kind);
            let answers =
                order.map(|order| order.answers.lock().unwrap_or_else(PoisonError::into_inner).clone());
            let answers = answers.unwrap_or_default();
            let yes = answers.iter().filter(|yes| **yes).count();
            assert!(yes <= 1, "{kind:?} is done more than once: {answers:?}");
            if self.injection.injected.is_empty() {
                assert_eq!(answers, [true], "{kind:?}");
            }
            let live = self.nodes.iter().filter(|node| !node.is_dead);
            let here: BTreeSet<Address> = live
                .flat_map(|node| &node.shards)
                .flat_map(|state| state.shard.members(&room(name)))
                .collect();
            let (reply, _) = self.store.model.execute(Call::Records { room: room(name) }, self.now);
            let StoreReply::Records { records, .. } = reply else { panic!("records") };
            let stored: BTreeSet<Address> = records.iter().map(|record| record.socket).collect();
            assert_eq!(here, stored, "the members of {name}");
            if yes == 1 {
                let is_member = is_there && kind == Kind::Join;
                assert_eq!(!here.is_empty(), is_member, "{name} after {kind:?}");
            }
        }
    }

    /// Whether orders may have been lost: with a node that had them, or on the way between the nodes of the session that moves.
    fn loses_orders(&self) -> bool {
        let homes = &self.clients[MOVER].homes;
        self.injection.injected.iter().any(|(_, fault)| match fault {
            Fault::Kill(node) => homes.contains(node),
            Fault::LoseLink(one, other) | Fault::LinkDown(one, other, _) => {
                homes.contains(one) && homes.contains(other)
            }
            _ => false,
        })
    }
}
