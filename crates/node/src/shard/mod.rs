//! A shard: everything one worker thread owns, as logic without a socket, a clock or a runtime.
//!
//! An input (a packet, a message from the mailbox, a timer) and `now` go in; [`Effect`]s come out, which [`runtime`] executes when
//! the shard comes to rest. What a shard owns stands in [`tables`]: the members of a room are `tables::rooms::Room::members`. In the
//! order that data flows:
//!
//! - [`mailbox`]: what others send to a shard.
//! - [`runtime`]: the event loop on a worker thread, and the mailboxes.
//! - `conns`: WebSockets, and probes for upgrades.
//! - `engineio`, `requests`: the life of a session; polls, POSTs and upgrades from wherever they landed.
//! - `socketio`, `actions`, `membership`, `signals`: packets and events.
//! - `peerserver`: PeerServer clients.
//! - `expiry`: tokens that end, and those that take their place.
//! - `socket_commands`: operations on one socket from anywhere.
//! - `fanout`: broadcasts and outboxes; a broadcast leaves the node as an [`Effect::Publish`] of `begin_broadcast`.
//! - [`transfer`], `transfers`: sessions that move to another shard, or another node: the state machine,
//!   and how a shard takes part. `transfers::outgoing` freezes a session and sends it (`send_session`).
//! - `cluster_events`: answers and events of the cluster.
//! - `node_failure`: what another node's death leaves half done.
//! - [`tasks`]: handlers, middlewares and slow verdicts, which run beside the shard.
//! - [`effects`]: what a shard wants done.

mod actions;
mod cluster_events;
mod conns;
pub(crate) mod effects;
mod engineio;
mod expiry;
mod fanout;
#[cfg(test)]
mod inspect;
pub(crate) mod mailbox;
mod membership;
mod node_failure;
mod peerserver;
mod requests;
pub(crate) mod runtime;
mod signals;
mod socket_commands;
mod socketio;
mod tables;
pub(crate) mod tasks;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;
mod transfers;

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use signalbox_cluster::{Address, Cluster, NodeTag, RealmId, ShardId};
use signalbox_telemetry::Metrics;

use self::{
    effects::{Effect, Effects},
    mailbox::ShardMessage,
    tables::{Outboxes, Peers, PendingRequests, Probes, Rooms, Sessions, Timer, Timers, shrink::Shrink},
    tasks::Task,
    transfer::table::{SWEEP_INTERVAL, Transfers},
};
use crate::{
    app::{App, SocketRouter},
    config::Config,
    ledger::{Home, Ledger},
    lifecycle::Lifecycle,
    policy::{GuardedPolicy, Principal},
    routing::{LocalAddresses, Location, VersionVector},
    transport::Conn,
};

/// Ends of clients before the shard looks for collections that have become too large.
const SHRINK_EVERY: u32 = 512;
/// How often a busy shard tells the ledger the time.
const OBSERVE_EVERY: Duration = Duration::from_millis(100);

/// What a shard knows of its node.
pub(crate) struct ShardContext {
    pub(crate) id: ShardId,
    pub(crate) node: NodeTag,
    /// How many shards the node has.
    pub(crate) shards: usize,
    pub(crate) config: Arc<Config>,
    pub(crate) app: Arc<App>,
    pub(crate) policy: Arc<GuardedPolicy>,
    /// Read for routes and the state of the cluster; what changes it is an effect.
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) addresses: Arc<LocalAddresses>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Metrics,
    /// What handlers reach sockets through.
    pub(crate) router: Arc<dyn SocketRouter>,
    /// Makes the addresses of new sessions and sockets; [`Address::random`] but where the same addresses have to come again.
    pub(crate) new_address: fn(NodeTag, ShardId) -> Address,
}

impl ShardContext {
    /// This shard, as others name it.
    pub(crate) fn location(&self) -> Location {
        Location { node: self.node, shard: self.id }
    }
}

/// A PeerServer client's claim of an id.
pub(crate) struct PeerClaim {
    pub(crate) realm: RealmId,
    pub(crate) id: Arc<str>,
    pub(crate) token: Arc<str>,
    /// Who the client is.
    pub(crate) principal: Option<Arc<Principal>>,
}

/// Everything a shard owns.
pub(crate) struct Shard {
    context: Rc<ShardContext>,
    sessions: Sessions,
    rooms: Rooms,
    peers: Peers,
    probes: Probes,
    transfers: Transfers,
    /// Sessions and sockets that were born here and live on another shard.
    forwarding: AHashMap<Address, Location>,
    pending: PendingRequests,
    timers: Timers,
    outboxes: Outboxes,
    effects: Effects,
    /// Numbers tickets, sessions, peers and probes.
    last_number: u64,
    /// Broadcasts that began here.
    sequence: u64,
    /// The last broadcast received of each shard of this node.
    received: Box<[u64]>,
    /// The last broadcast of each shard of any node that goes on the channel of all between nodes.
    received_on_all: VersionVector,
    /// When the ledger is to be told the time.
    observe_at: Instant,
    /// Clients that have gone since collections were shrunk.
    clients_gone: u32,
}

impl Shard {
    pub(crate) fn new(now: Instant, context: ShardContext) -> Self {
        let ShardContext { id, node, shards, .. } = context;
        let (limit, ledger) = (context.config.outbox_limit, context.ledger.clone());
        let mut shard = Self {
            sessions: Sessions::default(),
            rooms: Rooms::default(),
            peers: Peers::default(),
            probes: Probes::new(node, id),
            transfers: Transfers::default(),
            forwarding: AHashMap::new(),
            pending: PendingRequests::default(),
            timers: Timers::default(),
            outboxes: Outboxes::new(limit, ledger, context.metrics.clone()),
            effects: Effects::default(),
            last_number: 0,
            sequence: 0,
            received: vec![0; shards].into(),
            received_on_all: VersionVector::default(),
            observe_at: now,
            clients_gone: 0,
            context: Rc::new(context),
        };
        if shard.context.cluster.is_shared() {
            shard.timers.add(now + SWEEP_INTERVAL, Timer::Sweep);
        }
        shard
    }

    /// What the shard knows of its node.
    pub(crate) fn context(&self) -> &Rc<ShardContext> {
        &self.context
    }

    /// Takes a message out of the mailbox.
    pub(crate) fn take(&mut self, now: Instant, message: ShardMessage) {
        match message {
            ShardMessage::Broadcast(broadcast) => self.receive_broadcast(now, &broadcast),
            ShardMessage::BeginBroadcast { to, message, volatile } => {
                self.begin_broadcast(None, to, message, volatile);
            }
            ShardMessage::Cluster(delivery) => self.on_cluster_event(now, delivery),
            ShardMessage::SocketCommand(command) => self.socket_command(now, command),
            ShardMessage::Request(request) => self.request(now, request),
            ShardMessage::Transfer(message) => self.transfer_message(now, message),
            ShardMessage::CloseProbe(connection) => self.close_probe(connection),
            ShardMessage::Forget(address) => drop(self.forwarding.remove(&address)),
            ShardMessage::NodeLost(tag) => self.node_lost(now, tag),
            ShardMessage::TaskDone(ticket, result) => self.task_done(now, ticket, result),
            ShardMessage::EvictForBudget(account) => self.evict_for_budget(now, &account),
            ShardMessage::Drain { sessions, peers, turns } => self.drain(now, sessions, peers, turns),
            ShardMessage::Refreshed(principal) => self.peers_refreshed(now, &principal),
            ShardMessage::Stop => self.stop(now),
        }
    }

    /// When the next timer is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due.
    pub(crate) fn fire_timers(&mut self, now: Instant) {
        while let Some((due, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::Session { key, number } => self.session_timer(now, due, key, number),
                Timer::Peer { key, number } => self.peer_timer(now, key, number),
                Timer::Wait { key } => self.wait_is_over(now, key),
                Timer::Acks { key, number, socket } => self.acks_timed_out(now, due, key, number, socket),
                Timer::Expiry { key, number, socket } => self.expiry_is_due(now, due, (key, number, socket)),
                Timer::PeerExpiry { key, number } => self.peer_expiry_is_due(now, due, key, number),
                Timer::Signal { ticket } => self.signal_timed_out(now, ticket),
                Timer::Transfer { sid } => self.transfer_timer(now, due, sid),
                Timer::Probe { key, number } => self.probe_timed_out(key, number),
                Timer::PollGrace { key, number, polls } => self.poll_grace_is_over(now, key, number, polls),
                Timer::Sweep => self.sweep(now),
            }
        }
    }

    /// The shard comes to rest: polls are answered, clients cut off, unused rooms closed. Gives back what is to be done, in order;
    /// `empty` is used for the effects to come.
    pub(crate) fn rest(&mut self, now: Instant, empty: Vec<Effect>) -> Vec<Effect> {
        self.answer_polls();
        self.evict(now);
        for room in self.rooms.close_unused() {
            self.effects.push(Effect::ReleaseRoute { room: room.name, route: room.route });
        }
        self.effects.take(empty)
    }

    /// The next connection that the runtime is to write.
    pub(crate) fn next_dirty(&mut self) -> Option<Rc<Conn>> {
        self.outboxes.next_dirty()
    }

    /// The runtime has written a connection, as much as its client takes.
    pub(crate) fn written(&mut self, conn: &Rc<Conn>) {
        self.outboxes.written(conn);
    }

    /// The runtime has written a slice of the connections: clients that read too slowly are cut off.
    pub(crate) fn after_writing(&mut self, now: Instant) {
        self.evict(now);
        if now >= self.observe_at {
            self.observe_at = now + OBSERVE_EVERY;
            self.context.ledger.observe(now);
        }
        if let Some(victim) = self.context.ledger.next_victim() {
            match victim.home() {
                Home::Shard(shard) => self.effects.send(*shard, ShardMessage::EvictForBudget(victim.clone())),
                Home::Connection(connection) => {
                    self.context.metrics.evictions.with_label_values(&["memory_budget"]).inc();
                    connection.hang_up();
                }
            }
        }
        self.outboxes.flush_counters();
        self.shrink_tables();
    }

    /// Whether there is something to be done or to be written.
    pub(crate) fn is_busy(&self) -> bool {
        !self.effects.is_empty() || self.outboxes.has_dirty()
    }

    /// The address of a new session or socket.
    fn new_address(&self) -> Address {
        (self.context.new_address)(self.context.node, self.context.id)
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Has something started beside the shard.
    fn start(&mut self, task: Task) {
        self.effects.push(Effect::Start(task));
    }

    /// A client has gone.
    fn client_gone(&mut self) {
        self.clients_gone += 1;
    }

    /// Shrinks the tables after many clients have gone.
    fn shrink_tables(&mut self) {
        if self.clients_gone < SHRINK_EVERY {
            return;
        }
        self.clients_gone = 0;
        self.sessions.shrink_if_sparse();
        self.peers.shrink_if_sparse();
        self.probes.shrink_if_sparse();
        self.forwarding.shrink_if_sparse();
        self.pending.shrink_if_sparse();
        self.rooms.shrink_if_sparse();
        self.timers.shrink_if_sparse();
        self.outboxes.shrink_if_sparse();
    }
}
