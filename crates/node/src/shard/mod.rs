//! A shard: everything one worker thread owns, as logic without a socket, a clock or a runtime.
//!
//! An input (a packet, a message from the mailbox, a timer) and `now` go in; [`effects`] come out, which [`runtime`] executes when
//! the shard comes to rest. What a shard owns stands in [`tables`]: the members of a room are `tables::rooms::Room::members`. In the
//! order that data flows:
//!
//! - [`mailbox`]: what others send to a shard.
//! - [`runtime`]: the event loop on a worker thread, and the mailboxes.
//! - `dispatch`: which handler gets an input, and with which tables. The handlers follow; each names in its signature the tables that
//!   it reads and changes, behind the `step`, which they all have.
//! - `engineio`, `closing`, `requests`: the life of a session; polls, POSTs and upgrades from wherever they landed.
//! - `upgrades`: WebSockets that want to take a session over.
//! - `socketio`, `actions`, `membership`, `signals`, `replies`, `lists`, `json`: namespaces, events and their answers.
//! - `rules`: what a rules file has a socket do; the rules themselves are evaluated in `signalbox_rules`.
//! - `peerserver`: PeerServer clients.
//! - `expiry`: tokens that end, and those that take their place.
//! - `socket_counts`: sockets in each namespace, for the metrics.
//! - `socket_commands`: operations on one socket from anywhere; `acks`: what clients are asked, and who waits for it.
//! - `story`: what the log tells of clients that are followed.
//! - `fanout`: broadcasts; one leaves the node as an `Effect::Publish` of `begin_broadcast`. `publish_acks`: acks that wait until it has.
//! - [`transfer`], `transfers`: sessions that move to another shard, or another node: the state machine,
//!   and how a shard takes part. `transfers::outgoing` freezes a session and sends it (`send_session`).
//! - `inspection`: what an operator asks; `selection`: which sockets an order is for; `first_entries`: the first of many.
//! - `node_failure`: what another node's death leaves half done.
//! - [`tasks`]: handlers, middlewares and slow verdicts, which run beside the shard.
//! - [`effects`]: what a shard wants done.
//! - `context`: what a shard knows of its node.

mod acks;
mod actions;
mod closing;
mod context;
mod counting;
mod dispatch;
pub(crate) mod effects;
mod engineio;
mod expiry;
mod fanout;
mod first_entries;
#[cfg(test)]
mod inspect;
mod inspection;
pub(crate) mod json;
mod lists;
pub(crate) mod mailbox;
mod membership;
mod node_failure;
pub(crate) mod peerserver;
mod presence;
mod publish_acks;
pub(crate) mod replies;
mod requests;
mod rules;
pub(crate) mod runtime;
mod selection;
mod signals;
mod socket_commands;
mod socket_counts;
mod socketio;
mod step;
mod story;
mod subjects;
mod tables;
pub(crate) mod tasks;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;
mod transfers;
mod upgrades;

use std::{rc::Rc, time::Instant};

pub(crate) use self::context::ShardContext;
use self::{
    step::Step,
    tables::{Peers, PendingRequests, Probes, Rooms, Sequences, Sessions, Timer},
    transfer::table::{SWEEP_INTERVAL, Transfers},
};

/// Everything a shard owns.
pub(crate) struct Shard {
    step: Step,
    sessions: Sessions,
    rooms: Rooms,
    peers: Peers,
    probes: Probes,
    transfers: Transfers,
    pending: PendingRequests,
    sequences: Sequences,
    /// When the ledger is to be told the time.
    observe_at: Instant,
}

impl Shard {
    pub(crate) fn new(now: Instant, context: ShardContext) -> Self {
        let mut shard = Self {
            sessions: Sessions::default(),
            rooms: Rooms::default(),
            peers: Peers::default(),
            probes: Probes::new(context.node, context.id),
            transfers: Transfers::default(),
            pending: PendingRequests::default(),
            sequences: Sequences::new(context.location(), context.shards),
            observe_at: now,
            step: Step::new(now, context),
        };
        if shard.step.context.cluster.is_shared() {
            shard.step.timers.add(now + SWEEP_INTERVAL, Timer::Sweep);
        }
        shard
    }

    /// What the shard knows of its node.
    pub(crate) fn context(&self) -> &Rc<ShardContext> {
        &self.step.context
    }
}
