//! What the runtime does when the shard comes to rest: it executes the effects, and writes.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use signalbox_websocket::Frame;

use crate::{
    ledger::EvictAt,
    shard::{Shard, effects::Effect, mailbox::ShardMessage, publish_acks, requests},
    transport::{Conn, Written},
};

/// Ends of clients before the shard looks for collections that have become too large.
const SHRINK_EVERY: u32 = 512;
/// How often a busy shard tells the ledger the time.
const OBSERVE_EVERY: Duration = Duration::from_millis(100);

impl Shard {
    /// When the next timer is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.step.timers.next()
    }

    /// The shard comes to rest: polls are answered, clients cut off, unused rooms closed. Gives back what is to be done, in order;
    /// `empty` is used for the effects to come.
    pub(crate) fn rest(&mut self, now: Instant, empty: Vec<Effect>) -> Vec<Effect> {
        self.step.now = now;
        requests::answer_polls(&mut self.step, &mut self.sessions);
        publish_acks::wait(&mut self.step, &mut self.pending);
        self.step.lists.forget_unused(now);
        self.evict();
        for room in self.rooms.close_unused() {
            if let Some(route) = room.route {
                self.step.effects.push(Effect::ReleaseRoute { room: room.name, route });
            }
        }
        self.step.effects.take(empty)
    }

    /// What was broadcast has been written to all its receivers, as far as they take it.
    fn observe_fanout(&mut self) {
        if let Some(since) = self.step.fanout_since.take() {
            let took = self.step.now.saturating_duration_since(since);
            self.step.context.metrics.fanout_seconds.observe(took.as_secs_f64());
        }
    }

    /// The next connection that the runtime is to write.
    pub(crate) fn next_dirty(&mut self) -> Option<Rc<Conn>> {
        self.step.outboxes.next_dirty()
    }

    /// The next one of those that have received what a crowd has; others do not wait for them.
    pub(crate) fn next_of_crowd(&mut self) -> Option<Rc<Conn>> {
        self.step.outboxes.next_of_crowd()
    }

    /// The next one of those for which so much waits that it takes several turns.
    pub(crate) fn next_long(&mut self) -> Option<Rc<Conn>> {
        self.step.outboxes.next_long()
    }

    /// The runtime has written a connection so far.
    pub(crate) fn written(&mut self, conn: &Rc<Conn>, written: Written) {
        self.step.outboxes.written(conn, written);
    }

    /// A connection's socket takes more of what waits.
    pub(crate) fn list_for_writing(&mut self, conn: &Rc<Conn>) {
        self.step.outboxes.mark_dirty(conn);
    }

    /// The runtime has written a slice of the connections: clients that read too slowly are cut off.
    pub(crate) fn after_writing(&mut self, now: Instant) {
        self.step.now = now;
        if self.step.fanout_since.is_some() && !self.step.outboxes.has_unwritten() {
            self.observe_fanout();
        }
        self.evict();
        if now >= self.observe_at {
            self.observe_at = now + OBSERVE_EVERY;
            self.step.context.ledger.observe(now);
        }
        if let Some(victim) = self.step.context.ledger.next_victim() {
            match victim.evict_at() {
                EvictAt::Shard(shard) => {
                    self.step.effects.send(*shard, ShardMessage::EvictForBudget(victim.clone()))
                }
                EvictAt::Connection(connection) => {
                    self.step.context.metrics.evictions.with_label_values(&["memory_budget"]).inc();
                    connection.hang_up();
                }
            }
        }
        self.step.outboxes.flush_counters();
        self.shrink_tables();
    }

    /// A connection has a ping to answer.
    pub(crate) fn connection_push_pong(&mut self, conn: &Rc<Conn>, pong: &Frame) {
        self.step.outboxes.push_pong(conn, pong);
    }

    pub(crate) fn received_bytes(&mut self, count: usize) {
        self.step.outboxes.count_received_bytes(count);
    }

    /// Deliveries so far; tells how many a message has caused.
    pub(crate) fn deliveries(&self) -> u64 {
        self.step.outboxes.deliveries()
    }

    /// Whether there is something to be done or to be written.
    pub(crate) fn is_busy(&self) -> bool {
        !self.step.effects.is_empty() || self.step.outboxes.has_dirty()
    }

    /// Shrinks the tables after many clients have gone.
    fn shrink_tables(&mut self) {
        if self.step.clients_gone < SHRINK_EVERY {
            return;
        }
        self.step.clients_gone = 0;
        self.sessions.shrink_if_sparse();
        self.peers.shrink_if_sparse();
        self.probes.shrink_if_sparse();
        self.transfers.shrink_if_sparse();
        self.pending.shrink_if_sparse();
        self.rooms.shrink_if_sparse();
        self.step.timers.shrink_if_sparse();
        self.step.outboxes.shrink_if_sparse();
    }
}
