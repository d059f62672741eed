//! A worker thread's part of the node: the sessions and peers it owns, its part of each room, one timer queue, one inbox. No
//! other thread reaches into it, so nothing in it is locked.
//!
//! In the order that data flows:
//!
//! - `conns`: what connections bring, and what happens when they end.
//! - `requests`: what the edge brings: polls, posts, upgrades.
//! - `engine`: Engine.IO sessions: opening, packets, timers, closing.
//! - `packets`: Socket.IO packets: namespaces, events, acks.
//! - `actions`: the vocabulary.
//! - `membership`: joining and leaving rooms.
//! - `fanout`: broadcasts and outboxes.
//! - `socket_command`: what is for one socket.
//! - `signals`: from one socket to another, on whichever node.
//! - `moves`: sessions that move to another shard, or another node.
//! - `seen`: what was heard already, should it come twice.
//! - `peers`: PeerServer clients.
//! - `answers`: what the cluster says.
//! - `shrink`: memory that is given back after a crowd has gone.
//! - `losses`: what is left half done by a node that dies.
//! - `calls`: handlers, middlewares and slow verdicts, which run beside the shard.

mod actions;
mod answers;
mod calls;
mod conns;
mod engine;
mod fanout;
mod losses;
mod membership;
mod moves;
mod packets;
mod peers;
mod requests;
mod rooms;
mod seen;
mod session;
mod shrink;
mod signals;
mod socket_commands;
mod timers;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use ahash::AHashMap;
use signalbox_cluster::{Address, ShardId};
use slab::Slab;
use tokio::sync::{Notify, mpsc::UnboundedReceiver};

pub(crate) use calls::TaskResult;
pub(crate) use peers::Claim as PeerClaim;
pub(crate) use seen::{DeliveryCursor, VersionVector};
pub(crate) use session::{SessionState, Socket};

use self::{
    answers::PendingRequest,
    calls::Task,
    fanout::Counters,
    moves::{IncomingTransfer, OutgoingTransfer, UnconfirmedTransfer},
    peers::{Peer, Wait},
    rooms::Rooms,
    session::Session,
    timers::{Timer, Timers},
};
use crate::{
    mailbox::{Location, ShardMessage},
    node::NodeShared,
    transport::Conn,
};

/// Messages taken out of the inbox before connections have their turn.
const INBOX_SLICE: usize = 128;
/// Connections written before others have their turn, so that a huge room does not starve the rest.
const WRITE_SLICE: usize = 128;

/// A shard, shared by the tasks of its thread.
pub(crate) struct Shard {
    id: ShardId,
    node: Arc<NodeShared>,
    state: RefCell<State>,
    /// Wakes the shard's own task: an earlier timer, or more to write.
    wake: Notify,
    /// When the shard's own task wakes by itself.
    next_wakeup: Cell<Option<Instant>>,
}

/// Everything a shard owns.
pub(crate) struct State {
    id: ShardId,
    node: Arc<NodeShared>,
    sessions: Slab<Session>,
    by_sid: AHashMap<Address, u32>,
    /// Sockets and the keys of their sessions.
    sockets: AHashMap<Address, u32>,
    /// Sessions and sockets that were born here and live on another shard.
    moved_out: AHashMap<Address, Location>,
    rooms: Rooms,
    peers: Slab<Peer>,
    waits: Slab<Wait>,
    /// WebSockets that want to take a session over.
    probes: Slab<conns::Probe>,
    incoming_transfers: AHashMap<Address, IncomingTransfer>,
    outgoing_transfers: AHashMap<Address, OutgoingTransfer>,
    given: AHashMap<Address, UnconfirmedTransfer>,
    timers: Timers,
    /// Questions to the cluster that are not answered yet.
    waiting: AHashMap<u64, PendingRequest>,
    /// Numbers tickets, sessions, peers and probes.
    last_number: u64,
    /// Connections with something to write.
    to_write: VecDeque<Rc<Conn>>,
    /// Sessions whose pending GET may have a body.
    to_reply: Vec<(u32, u64)>,
    /// Clients that are to be cut off.
    to_evict: Vec<fanout::Eviction>,
    calls: Vec<Task>,
    /// Broadcasts that began here.
    sequence: u64,
    /// The last broadcast seen of each shard.
    seen: Box<[u64]>,
    /// The last broadcast of each shard of other nodes that was said everywhere.
    seen_everywhere: VersionVector,
    counters: Counters,
    /// Clients that have gone since collections were shrunk.
    gone: u32,
}

impl Shard {
    /// Starts a shard on the present thread.
    pub(crate) fn start(
        id: ShardId,
        node: Arc<NodeShared>,
        inbox: UnboundedReceiver<ShardMessage>,
    ) -> Rc<Self> {
        let mut state = State {
            id,
            node: node.clone(),
            sessions: Slab::new(),
            by_sid: AHashMap::new(),
            sockets: AHashMap::new(),
            moved_out: AHashMap::new(),
            rooms: Rooms::default(),
            peers: Slab::new(),
            waits: Slab::new(),
            probes: Slab::new(),
            incoming_transfers: AHashMap::new(),
            outgoing_transfers: AHashMap::new(),
            given: AHashMap::new(),
            timers: Timers::default(),
            waiting: AHashMap::new(),
            last_number: 0,
            to_write: VecDeque::new(),
            to_reply: Vec::new(),
            to_evict: Vec::new(),
            calls: Vec::new(),
            sequence: 0,
            seen: vec![0; node.inboxes.len()].into(),
            seen_everywhere: VersionVector::default(),
            counters: Counters::default(),
            gone: 0,
        };
        if node.cluster.is_shared() {
            state.timers.add(Instant::now() + moves::SWEEP, Timer::Sweep);
        }
        let shard = Rc::new(Self {
            id,
            node,
            state: RefCell::new(state),
            wake: Notify::new(),
            next_wakeup: Cell::new(None),
        });
        actix_rt::spawn(shard.clone().run(inbox));
        shard
    }

    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// Does something with the shard's state, and then everything that follows from it.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&mut State, Instant) -> T) -> T {
        let result = what(&mut self.state.borrow_mut(), Instant::now());
        self.settle();
        result
    }

    async fn run(self: Rc<Self>, mut inbox: UnboundedReceiver<ShardMessage>) {
        let mut batch = Vec::with_capacity(INBOX_SLICE);
        loop {
            let next = self.state.borrow().timers.next();
            self.next_wakeup.set(next);
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let received = tokio::select! {
                biased;
                received = inbox.recv_many(&mut batch, INBOX_SLICE) => Some(received),
                () = self.wake.notified() => None,
                () = timer => None,
            };
            if received == Some(0) {
                return;
            }
            if let Some(received) = received {
                self.node.inboxes.taken(self.id, received);
            }
            {
                let state = &mut *self.state.borrow_mut();
                let now = Instant::now();
                for message in batch.drain(..) {
                    state.take(now, message);
                }
                state.fire_timers(now);
            }
            self.settle();
            let is_busy =
                received.is_some_and(|received| received > 0) || !self.state.borrow().to_write.is_empty();
            if is_busy {
                // Connections have their turn before the next slice.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Does everything that follows from what just happened: handlers begin, polls are answered, outboxes are written.
    pub(crate) fn settle(&self) {
        loop {
            let calls = {
                let state = &mut *self.state.borrow_mut();
                state.answer_polls();
                state.evict();
                std::mem::take(&mut state.calls)
            };
            if calls.is_empty() {
                break;
            }
            for call in calls {
                call.begin(self.id, &self.node);
            }
        }
        self.write_some();
        let state = &mut *self.state.borrow_mut();
        state.evict();
        state.keep_budget();
        state.shrink_after_a_crowd();
        state.counters.flush(&self.node.metrics);
        let next = state.timers.next();
        let is_earlier =
            next.is_some_and(|next| self.next_wakeup.get().is_none_or(|next_wakeup| next < next_wakeup));
        if is_earlier || !state.to_write.is_empty() || !state.calls.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Writes a slice of the connections that have something to write.
    fn write_some(&self) {
        for _ in 0..WRITE_SLICE {
            let Some(conn) = self.state.borrow_mut().to_write.pop_front() else { return };
            conn.clear_dirty();
            conn.write();
            let change = conn.account();
            if change != 0 {
                self.state.borrow_mut().account(change);
            }
        }
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes a message out of the inbox.
    fn take(&mut self, now: Instant, message: ShardMessage) {
        match message {
            ShardMessage::Broadcast(broadcast) => {
                self.deliver_broadcast(&broadcast);
                self.check_outgoing_transfers(now, &broadcast);
            }
            ShardMessage::Begin { to, message, volatile } => self.begin_broadcast(to, message, volatile),
            ShardMessage::Cluster(delivery) => self.on_cluster_event(now, delivery),
            ShardMessage::SocketCommand(socket_command) => self.socket_command(now, socket_command),
            ShardMessage::Request(request) => self.request(now, request),
            ShardMessage::Move(step) => self.move_step(now, step),
            ShardMessage::CloseProbe(at) => self.close_probe(at),
            ShardMessage::Forget(addresses) => {
                for address in addresses {
                    self.moved_out.remove(&address);
                }
            }
            ShardMessage::NodeLost(tag) => self.node_lost(now, tag),
            ShardMessage::TaskDone(ticket, outcome) => self.decided(now, ticket, outcome),
            ShardMessage::Relieve => self.evict_for_budget(),
            ShardMessage::Drain { sessions, peers, turns } => self.drain(now, sessions, peers, turns),
            ShardMessage::Stop => self.stop(now),
        }
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some((at, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::Session { key, number } => self.session_timer(now, at, key, number),
                Timer::Peer { key, number } => self.peer_timer(now, key, number),
                Timer::Wait { key } => self.wait_is_over(now, key),
                Timer::Ack { key, number, id } => self.ack_timed_out(key, number, id),
                Timer::Signal { ticket } => self.signal_timed_out(now, ticket),
                Timer::Move { sid } => self.move_timed_out(now, at, sid),
                Timer::Probe { key, number } => self.probe_timed_out(key, number),
                Timer::Silence { key, number, polls } => self.silence_is_over(now, key, number, polls),
                Timer::Sweep => self.sweep(now),
            }
        }
    }
}
