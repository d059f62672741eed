//! One node: its cluster, its mailboxes, its shards; and what its shards want done.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use signalbox_cluster::{Address, Cluster, NodeInfo, NodeTag, Owner, Scope, ShardId};
use signalbox_socketio::Message;
use signalbox_telemetry::Metrics;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    SHARDS,
    edge::Output,
    event::Event,
    relay::Notice,
    store::{Connections, ORIGIN, SimulatedDriver, config},
    world::{NodeId, World, seeded_address},
};
use crate::{
    app::{App, SocketRouter, vocabulary},
    config::Config,
    events::EventHub,
    ledger::Ledger,
    lifecycle::Lifecycle,
    peering::bus::ClusterEvents,
    policy::{AllowAll, GuardedPolicy},
    routing::{Audience, LocalAddresses, SocketCommand},
    shard::{
        Shard, ShardContext, effects::Effect, mailbox::ShardMessage, runtime::Mailboxes, tasks::TaskResult,
    },
    transport::Written,
};

/// Nobody has handlers here.
pub(crate) struct NoHandlers;

impl SocketRouter for NoHandlers {
    fn send(&self, _: SocketCommand) {}
    fn is_known(&self, _: Address) -> bool {
        false
    }
    fn broadcast(&self, _: Audience, _: Message, _: bool) {}
}

/// A shard, and when it has its next turn.
pub(super) struct ShardState {
    pub(super) shard: Shard,
    pub(super) mailbox: UnboundedReceiver<ShardMessage>,
    pub(super) is_scheduled: bool,
    pub(super) timer_at: Option<Instant>,
}

/// A source's request that is not answered yet: the connection it came over, its number, and the addresses that are found here from
/// now on.
#[derive(Debug)]
pub(super) struct TransferAnswer {
    pub(super) connection: usize,
    pub(super) number: u64,
    pub(super) shard: ShardId,
    pub(super) addresses: Vec<Address>,
}

pub(super) struct Node {
    pub(super) tag: NodeTag,
    pub(super) cluster: Arc<Cluster>,
    pub(super) driver: Arc<SimulatedDriver>,
    pub(super) mailboxes: Arc<Mailboxes>,
    pub(super) addresses: Arc<LocalAddresses>,
    pub(super) shards: Vec<ShardState>,
    pub(super) connections: Connections,
    pub(super) is_dead: bool,
    pub(super) is_paused: bool,
    /// What is to happen when the node goes on.
    pub(super) deferred: Vec<Event>,
    pub(super) is_touched: bool,
    /// Requests that have landed here.
    pub(super) requests: u64,
    /// By session and connection, as in `peering`.
    pub(super) transfer_answers: BTreeMap<(Address, u32, u64), TransferAnswer>,
}

impl Node {
    /// The shard that a request for a session goes to, as in `peering`.
    pub(super) fn shard_of(&self, sid: Address) -> Option<ShardId> {
        let answers = || self.transfer_answers.iter().find(|((session, ..), _)| *session == sid);
        self.addresses.shard_of(sid).or_else(|| answers().map(|(_, pending)| pending.shard))
    }

    pub(super) fn new(index: NodeId, now: Instant, metrics: &Metrics) -> Self {
        let tag = NodeTag(index as u32 + 1);
        let settings = Arc::new(Config { shards: SHARDS, ..Config::default() });
        let (mailboxes, receivers) = Mailboxes::new(SHARDS, settings.mailbox_limit, metrics.clone());
        let mailboxes = Arc::new(mailboxes);
        let ledger = Arc::new(Ledger::new(settings.memory_budget));
        let hub = Arc::new(EventHub::new(tag, None, metrics.clone()));
        let events = ClusterEvents::new(tag, mailboxes.clone(), ledger.clone(), metrics.clone(), hub.clone());
        let events = Arc::new(events);
        let driver = Arc::new(SimulatedDriver::default());
        let info = NodeInfo {
            link: Some(([127, 0, 0, 1], 9000 + index as u16).into()),
            ..NodeInfo::new(Owner { tag, epoch: 0 }, tag.to_string())
        };
        let cluster = Cluster::shared_at(&config(), info, events, driver.clone(), now, ORIGIN);
        let cluster = Arc::new(cluster);
        let addresses = Arc::new(LocalAddresses::new(tag, SHARDS));
        let app = Arc::new(App::new().namespace(vocabulary::namespace()));
        let lifecycle = Arc::new(Lifecycle::default());
        let shard = |(id, mailbox): (usize, UnboundedReceiver<ShardMessage>)| {
            let context = ShardContext {
                id: id as ShardId,
                node: tag,
                shards: SHARDS,
                config: settings.clone(),
                app: app.clone(),
                policy: Arc::new(GuardedPolicy::new(Arc::new(AllowAll), metrics.clone())),
                cluster: cluster.clone(),
                addresses: addresses.clone(),
                lifecycle: lifecycle.clone(),
                ledger: ledger.clone(),
                metrics: metrics.clone(),
                client_log: Arc::default(),
                events: hub.clone(),
                router: Arc::new(NoHandlers),
                new_address: seeded_address,
            };
            ShardState { shard: Shard::new(now, context), mailbox, is_scheduled: false, timer_at: None }
        };
        let shards = receivers.into_iter().enumerate().map(shard).collect();
        Self {
            tag,
            cluster,
            driver,
            mailboxes,
            addresses,
            shards,
            connections: Connections::new(now),
            is_dead: false,
            is_paused: false,
            deferred: Vec::new(),
            is_touched: false,
            requests: 0,
            transfer_answers: BTreeMap::new(),
        }
    }
}

impl World {
    /// Does something with a shard, and then everything that follows from it on this node.
    pub(super) fn with_shard<T>(
        &mut self,
        node: NodeId,
        shard: usize,
        input: impl FnOnce(&mut Shard, Instant) -> T,
    ) -> T {
        let now = self.now;
        let result = input(&mut self.nodes[node].shards[shard].shard, now);
        self.flush(node, shard);
        result
    }

    /// A shard takes one message: a fault may come between any two.
    pub(super) fn take_message(&mut self, node: NodeId, shard: usize) {
        let state = &mut self.nodes[node].shards[shard];
        state.is_scheduled = false;
        let Ok(message) = state.mailbox.try_recv() else { return };
        self.nodes[node].mailboxes.taken(shard as ShardId, 1);
        self.trace(|| {
            let text = format!("{message:?}");
            format!("node {node} shard {shard}: {}", &text[..text.floor_char_boundary(260)])
        });
        self.with_shard(node, shard, |shard, now| shard.take(now, message));
    }

    pub(super) fn fire_timers(&mut self, node: NodeId, shard: usize) {
        self.nodes[node].shards[shard].timer_at = None;
        self.with_shard(node, shard, Shard::fire_timers);
    }

    /// As the runtime does it: executes effects until there are none, then writes.
    fn flush(&mut self, node: NodeId, shard: usize) {
        self.touched(node);
        self.checks.has_flushed = true;
        loop {
            let effects = self.nodes[node].shards[shard].shard.rest(self.now, Vec::new());
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.execute_effect(node, shard, effect);
            }
        }
        loop {
            let shard = &mut self.nodes[node].shards[shard].shard;
            let Some(conn) =
                shard.next_dirty().or_else(|| shard.next_of_crowd()).or_else(|| shard.next_long())
            else {
                break;
            };
            let frames = conn.take_queued();
            shard.written(&conn, Written::AsFarAsItGoes);
            if let Some(websocket) = self.websocket_of(&conn) {
                for frame in frames {
                    self.write_websocket(websocket, Output::Frame(frame));
                }
            }
        }
        self.nodes[node].shards[shard].shard.after_writing(self.now);
        self.look_after_websockets(node, shard);
    }

    fn execute_effect(&mut self, node: NodeId, shard: usize, effect: Effect) {
        let now = self.now;
        let here = &self.nodes[node];
        let (tag, cluster, mailboxes) = (here.tag, here.cluster.clone(), here.mailboxes.clone());
        match effect {
            Effect::Send { shard, message } => mailboxes.push(shard, message),
            Effect::Broadcast { shard, broadcast } => {
                mailboxes.broadcast(shard, ShardMessage::Broadcast(broadcast));
            }
            Effect::Publish { room, message } => {
                let scope = room.as_ref().map_or(Scope::Everywhere, Scope::Room);
                cluster.broadcast(now, scope, message);
            }
            Effect::Submit(command) => cluster.submit(now, command),
            Effect::OpenRoute { key, room } => {
                let route = cluster.route(&room);
                route.add(shard as ShardId);
                self.nodes[node].shards[shard].shard.route_opened(key, route);
            }
            Effect::AwaitDeliveries => cluster.barrier(),
            Effect::ReleaseRoute { room, route } => {
                cluster.release_route(now, &room, route, shard as ShardId)
            }
            Effect::Disown { memberships, sockets } => cluster.release_session(now, &memberships, &sockets),
            Effect::Relay { to, request } if to.node == tag => {
                mailboxes.push(to.shard, ShardMessage::Request(request));
            }
            Effect::Relay { to, request } => self.relay_request(node, to.node, request),
            Effect::Forward { to, command } if to.node == tag => {
                mailboxes.push(to.shard, ShardMessage::SocketCommand(command));
            }
            Effect::Forward { to, command } => self.forward_command(node, to.node, command),
            Effect::Transfer { to, message } if to.node == tag => {
                mailboxes.push(to.shard, ShardMessage::Transfer(message));
            }
            Effect::Transfer { to, message } => self.send_transfer(node, to.node, message),
            Effect::CloseProbe(connection) if connection.node == tag => {
                mailboxes.push(connection.shard, ShardMessage::CloseProbe(connection));
            }
            Effect::CloseProbe(connection) => self.close_probe_anywhere(node, connection),
            Effect::Forget { birth, address } if birth.node == tag => {
                mailboxes.push(birth.shard, ShardMessage::Forget(address));
            }
            Effect::Forget { birth, address } => {
                self.nodes[node].addresses.remove(address);
                self.forget_address(node, birth.node, address);
            }
            Effect::Answer { answer, otherwise } => {
                let is_lost = !answer.send();
                if let Some(otherwise) = otherwise.filter(|_| is_lost) {
                    self.nodes[node].shards[shard].shard.answer_is_lost(now, otherwise);
                }
            }
            Effect::Signal { shard, command, .. } => {
                mailboxes.push(shard, ShardMessage::SocketCommand(command));
            }
            Effect::Signalled { to, found } => {
                if to.node == tag {
                    let result = ShardMessage::TaskDone(to.ticket, TaskResult::Signalled(found));
                    mailboxes.push(to.shard, result);
                }
            }
            Effect::Acked { to, socket, id, args } if to.node == tag => {
                mailboxes.push(to.shard, ShardMessage::Acked { socket, id, args });
            }
            Effect::Acked { to, socket, id, args } => {
                self.notify(node, to.node, Notice::Acked { shard: to.shard, socket, id, args });
            }
            Effect::SendPeerMessage(_) | Effect::Refreshed(_) | Effect::Report(_) | Effect::Start(_) => {
                unreachable!("there are no PeerServer clients, no tokens and no handlers here")
            }
        }
    }
}
