//! The promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use signalbox_cluster::{
    Address, RoomName, Status,
    store::{Call, Reply as StoreReply},
};
use signalbox_socketio::Args;

use super::{
    client::{Client, Sent},
    faults::Fault,
    links::SILENCE,
    scenario::MOVER,
    world::{ClientId, NodeId, World},
};
use crate::routing::{AckError, Reply};

/// How long after it is over a fault may have its effect: messages on their way, subscriptions that are made again.
const AFTERMATH: Duration = Duration::from_secs(3);
/// A node that does nothing for this long may lose its lease: 6 s after its last heartbeat, which may be a second ago, and half a
/// second less for the node itself.
const LEASE: Duration = Duration::from_millis(4_400);

/// What is needed to check the promises.
pub(super) struct Checks {
    pub(super) talks_until: Instant,
    pub(super) talks_fast_until: Instant,
    /// Clients whose sessions move, and the shards they move to.
    pub(super) movers: Vec<(ClientId, NodeId, usize)>,
    /// A shard has done something.
    pub(super) has_flushed: bool,
    /// Namespace broadcasts so far, by node.
    pub(super) said_to_all: BTreeMap<NodeId, Vec<Sent>>,
    /// What whoever has asked the client that moves was told: an answer, why there is none, or the end of the wait.
    acks: Acks,
}

type Acked = Result<Args, AckError>;
type Acks = Arc<Mutex<Vec<Option<Acked>>>>;

/// Notes the end of a wait that nothing came of.
struct NoteEnd {
    acks: Acks,
    is_told: bool,
}

impl Drop for NoteEnd {
    fn drop(&mut self) {
        if !self.is_told {
            self.acks.lock().unwrap_or_else(PoisonError::into_inner).push(None);
        }
    }
}

impl Checks {
    /// Somebody waits for an answer.
    pub(super) fn expect_ack(&self) -> Reply<Acked> {
        let mut note = NoteEnd { acks: self.acks.clone(), is_told: false };
        Reply::new(move |answer| {
            note.is_told = true;
            note.acks.lock().unwrap_or_else(PoisonError::into_inner).push(Some(answer));
            true
        })
    }
}

impl Default for Checks {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            talks_until: now,
            talks_fast_until: now,
            movers: Vec::new(),
            has_flushed: false,
            said_to_all: BTreeMap::new(),
            acks: Acks::default(),
        }
    }
}

/// Why a session was closed that its client did not want to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closure {
    /// Its client has closed it.
    ByClient,
    /// Its node, or that of its WebSocket, has died or did nothing for too long.
    NodeFailed,
    /// The node that carried one of its requests has died, or could not be reached for as long as a node may be silent; or their link
    /// broke, and one of them is of a version that cannot go on.
    CarrierFailed,
    /// The client has sent its upgrade packet, and left polling for a WebSocket that the session cannot go to now.
    Upgrading,
}

fn room_name(room: &str) -> RoomName {
    RoomName { namespace: "/".into(), name: room.into() }
}

impl World {
    /// At any time, one live shard at most has a session.
    pub(super) fn check_owners(&mut self) {
        for index in 0..self.checks.movers.len() {
            let (client, node, shard) = self.checks.movers[index];
            let Some(sid) = self.clients[client].sid else { continue };
            let mut owner = None;
            let mut is_transferring = false;
            for (at, state) in self.nodes.iter().enumerate().filter(|(_, node)| !node.is_dead) {
                for (of, state) in state.shards.iter().enumerate() {
                    is_transferring |= state.shard.is_transferring(sid);
                    if state.shard.owns(sid) {
                        assert_eq!(owner, None, "session of client {client}: two shards have it");
                        owner = Some((at, of));
                    }
                }
            }
            let state = &mut self.clients[client];
            if let Some((at, _)) = owner {
                state.homes.insert(at);
            }
            if owner == Some((node, shard)) && !is_transferring && state.moved_at.is_none() {
                state.moved_at = Some(self.now);
                self.trace(|| format!("the session of client {client} has moved"));
            }
        }
    }

    /// Everything has come to rest.
    pub(super) fn check_all(&mut self) {
        for (index, node) in self.nodes.iter_mut().enumerate().filter(|(_, node)| !node.is_dead) {
            assert_eq!(node.cluster.status(), Status::Online, "node {index}");
            for (number, state) in node.shards.iter_mut().enumerate() {
                let leftovers = state.shard.leftovers();
                assert!(leftovers.is_empty(), "node {index} shard {number}: left over: {leftovers:?}");
            }
            assert!(node.transfer_answers.is_empty(), "node {index}: transfers that nobody answers");
        }
        self.check_sessions();
        self.check_rooms();
        self.check_ack();
        self.check_orders();
        for receiver in 0..self.clients.len() {
            if self.clients[receiver].is_there() {
                self.check_received(receiver);
            }
        }
    }

    /// Whoever has asked the client that moves is told what became of it, once; that there is no answer, only where a fault explains it.
    fn check_ack(&self) {
        // Who waited there is gone.
        if self.nodes[0].is_dead {
            return;
        }
        let acks = self.checks.acks.lock().unwrap_or_else(PoisonError::into_inner);
        match &acks[..] {
            [Some(Ok(args))] => assert_eq!(args.json(), format!("[\"{}\"]", super::ANSWER)),
            [Some(Err(_)) | None] => {
                let is_lossy = |(_, fault): &(Instant, Fault)| {
                    matches!(
                        fault,
                        Fault::Pause(..) | Fault::BreakLink(..) | Fault::LoseLink(..) | Fault::LinkDown(..)
                    )
                };
                let is_explained =
                    self.clients[MOVER].closed.is_some() || self.injection.injected.iter().any(is_lossy);
                assert!(is_explained, "the client's answer is lost: {acks:?}");
            }
            _ => panic!("whoever asked the client is told {acks:?}"),
        }
    }

    /// Whether there are sessions whose clients have gone without a word: by themselves, or because of a failure that nobody could
    /// tell the session's node of. In all other cases the session ends at once.
    pub(super) fn has_silent_sessions(&self) -> bool {
        // A request that was lost with the node that carried it mostly ends its session at once, but not in every order of events yet.
        let is_untold =
            |closure| matches!(closure, Closure::ByClient | Closure::NodeFailed | Closure::CarrierFailed);
        self.clients.iter().enumerate().any(|(index, client)| {
            let shards = self.nodes.iter().filter(|node| !node.is_dead).flat_map(|node| &node.shards);
            let is_silent = !client.is_there()
                && client
                    .sid
                    .is_some_and(|sid| shards.map(|state| &state.shard).any(|shard| shard.owns(sid)));
            let closure = is_silent.then(|| self.closure(index)).flatten();
            assert!(
                !is_silent || self.injection.injected.len() > 1 || closure.is_some_and(is_untold),
                "client {index} has gone for {closure:?}, and its session is still there"
            );
            is_silent
        })
    }

    /// Every client that is there has a session, and no other session is there; the way to it is known where it was born.
    fn check_sessions(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            let Some(sid) = client.sid else { continue };
            let nodes = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_dead);
            let shards = nodes.flat_map(|(at, node)| {
                node.shards.iter().enumerate().map(move |(of, state)| (at, of, &state.shard))
            });
            let owners: Vec<_> = shards.clone().filter(|(_, _, shard)| shard.owns(sid)).collect();
            assert_eq!(
                owners.len(),
                usize::from(client.is_there()),
                "client {index}: shards that have its session"
            );
            for (at, of, shard) in shards
                .filter(|(at, of, _)| self.nodes[*at].tag == sid.node() && usize::from(sid.shard()) == *of)
            {
                let expected = owners
                    .first()
                    .map(|(node, shard, _)| (self.nodes[*node].tag, *shard as u8))
                    .filter(|_| !shard.owns(sid));
                let forwarded = shard.forwarded(sid).map(|to| (to.node, to.shard));
                let is_to_dead = forwarded
                    .is_some_and(|(tag, _)| self.node_of(tag).is_none_or(|node| self.nodes[node].is_dead));
                // A node that did not answer, and has not the session after all, says nothing: what is kept is swept with its node.
                let was_unknown = owners.is_empty()
                    && self.injection.injected.iter().any(|(_, fault)| {
                        matches!(
                            fault,
                            Fault::Pause(..)
                                | Fault::LinkDown(..)
                                | Fault::BreakLink(..)
                                | Fault::LoseLink(..)
                        )
                    });
                if !is_to_dead && !was_unknown {
                    assert_eq!(forwarded, expected, "client {index}: where node {at} shard {of} forwards to");
                }
            }
        }
    }

    /// What clients were told, what the store has and what is true are the same.
    fn check_rooms(&mut self) {
        for room in super::ROOMS {
            let truth: BTreeSet<Address> = self
                .clients
                .iter()
                .filter(|client| client.is_there() && client.rooms.contains_key(room))
                .filter_map(|client| client.socket)
                .collect();
            let name = room_name(room);
            let live = self.nodes.iter().filter(|node| !node.is_dead);
            let here: BTreeSet<Address> =
                live.flat_map(|node| &node.shards).flat_map(|state| state.shard.members(&name)).collect();
            assert_eq!(here, truth, "the shards' members of {room}");
            let (reply, _) = self.store.model.execute(Call::Records { room: name }, self.now);
            let StoreReply::Records { records, .. } = reply else { panic!("records") };
            let stored: BTreeSet<Address> = records.iter().map(|record| record.socket).collect();
            assert_eq!(stored, truth, "the store's members of {room}");
            for (index, client) in self.clients.iter().enumerate().filter(|(_, client)| client.is_there()) {
                let Some(view) = client.rooms.get(room) else { continue };
                let mut expected = truth.clone();
                expected.retain(|member| client.socket != Some(*member));
                assert_eq!(*view, expected, "what client {index} sees in {room}");
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            for id in &client.returned {
                let Some(other) = self.clients.iter().find(|other| other.socket == Some(*id)) else {
                    continue;
                };
                // What a node writes last may arrive when it is dead, and its former node has said that the session is gone.
                let is_cut_off = |home: &NodeId| self.loses_lease(*home) || self.nodes[*home].is_dead;
                let may_return = other.is_churning || other.homes.iter().any(is_cut_off);
                assert!(may_return, "client {index} was told that {} left and came back", other.name);
            }
        }
    }

    fn loses_lease(&self, node: NodeId) -> bool {
        self.injection.injected.iter().any(|(_, fault)| match fault {
            Fault::Pause(paused, lasts) => *paused == node && *lasts >= LEASE,
            _ => false,
        })
    }

    /// Nothing is lost but what a fault explains.
    fn check_received(&self, receiver: ClientId) {
        let client = &self.clients[receiver];
        if client.is_churning {
            return;
        }
        for (index, sender) in self.clients.iter().enumerate().filter(|(index, _)| *index != receiver) {
            for (source, sent) in &sender.sent {
                let room = source.split_once('/').map(|(_, room)| room).unwrap_or_default();
                if client.rooms.contains_key(room) {
                    let tail = !sender.is_there();
                    self.check_pair(receiver, &format!("client {index}"), source, sent, &sender.homes, tail);
                }
            }
        }
        for (node, sent) in &self.checks.said_to_all {
            let homes = BTreeSet::from([*node]);
            let source = format!("all{node}");
            let tail = self.nodes[*node].is_dead;
            self.check_pair(receiver, &format!("node {node}"), &source, sent, &homes, tail);
        }
    }

    fn check_pair(
        &self,
        receiver: ClientId,
        sender: &str,
        source: &str,
        sent: &[Sent],
        homes: &BTreeSet<NodeId>,
        may_lack_tail: bool,
    ) {
        let client = &self.clients[receiver];
        let received = client.received.get(source).map(Vec::as_slice).unwrap_or_default();
        let last = received.last().map_or(0, |last| last + 1);
        let expected = if may_lack_tail { last } else { sent.len() };
        let mut next = received.iter().peekable();
        for (number, message) in sent.iter().enumerate().take(expected) {
            if next.next_if_eq(&&number).is_some() {
                continue;
            }
            let is_explained = self.explains_loss(client, homes, message);
            assert!(
                is_explained,
                "client {receiver} lacks {source}:{number} of {sender}, sent at {:.4}, applied at {:?}",
                self.seconds(message.at),
                message.applied.map(|at| self.seconds(at)),
            );
        }
    }

    /// Whether a message may have been lost: only what goes from one node to another, through Redis, while its bus or its lease is
    /// lost.
    fn explains_loss(&self, receiver: &Client, from: &BTreeSet<NodeId>, message: &Sent) -> bool {
        if receiver.homes.len() == 1 && receiver.homes == *from {
            return false;
        }
        let applied = message.applied.unwrap_or(self.now);
        self.injection.injected.iter().any(|(at, fault)| {
            let is_lossy = match fault {
                Fault::StoreAway(..) | Fault::EmptyStore => true,
                // What is published while a node is not subscribed is lost for it.
                Fault::LoseBus(node) => receiver.homes.contains(node),
                // A node whose lease is lost says nothing to others until it has another.
                Fault::Pause(node, lasts) => *lasts >= LEASE && from.contains(node),
                _ => false,
            };
            let until = self.effect_ends(*at + fault.lasts());
            is_lossy && message.at <= until && *at <= applied + AFTERMATH
        })
    }

    /// When the effect of a fault is over that ends now, unless others that come meanwhile, such as a pause, prolong it.
    fn effect_ends(&self, over: Instant) -> Instant {
        let mut until = over + AFTERMATH;
        for _ in &self.injection.injected {
            for (at, fault) in &self.injection.injected {
                if *at <= until {
                    until = until.max(*at + fault.lasts() + AFTERMATH);
                }
            }
        }
        until
    }

    /// Why a client is closed. Whatever is no reason is a failure.
    pub(super) fn closure(&self, client: ClientId) -> Option<Closure> {
        let state = &self.clients[client];
        let (closed_at, why) = state.closed?;
        if why == "by itself" {
            return Some(Closure::ByClient);
        }
        let is_mover = self.checks.movers.iter().find(|(mover, ..)| *mover == client);
        let reasons = self.injection.injected.iter().filter(|(at, _)| *at <= closed_at);
        let reasons = reasons.filter_map(|(at, fault)| {
            let over = *at + fault.lasts();
            let overlaps = |from: Instant, until: Option<Instant>| {
                from <= over + AFTERMATH && until.is_none_or(|until| *at <= until)
            };
            let carried = |is_there: &dyn Fn(NodeId) -> bool| {
                state.requests.iter().any(|(node, sent, done)| is_there(*node) && overlaps(*sent, *done))
            };
            match fault {
                Fault::Kill(node) | Fault::Pause(node, _) => {
                    let is_websocket = is_mover.is_some_and(|(_, to, _)| to == node);
                    let is_home = state.homes.contains(node);
                    // The session may have left the node by then.
                    let has_left = state.moved_at.is_some_and(|moved| moved < *at);
                    if is_websocket || is_home && !has_left {
                        return Some(Closure::NodeFailed);
                    }
                    if carried(&|at| at == *node) {
                        return Some(Closure::CarrierFailed);
                    }
                }
                // One that goes on within the time that a node may be silent costs no request; unless something else has a node taken for
                // lost meanwhile, whose clients have three seconds to poll again.
                Fault::LinkDown(_, _, lasts) if *lasts < SILENCE && self.injection.injected.len() == 1 => {}
                Fault::LoseLink(one, other) | Fault::LinkDown(one, other, _) => {
                    let homes = &state.homes;
                    let crosses = |node: NodeId| {
                        node == *one && homes.contains(other) || node == *other && homes.contains(one)
                    };
                    if carried(&crosses) {
                        return Some(Closure::CarrierFailed);
                    }
                }
                _ => {}
            }
            let is_upgrading =
                state.upgraded_at.is_some_and(|from| overlaps(from, state.moved_at.or(Some(closed_at))));
            is_upgrading.then_some(Closure::Upgrading)
        });
        let reason = reasons.min();
        assert!(reason.is_some(), "client {client} was closed without a reason: {why}");
        reason
    }
}
