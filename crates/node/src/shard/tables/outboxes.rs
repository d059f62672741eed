//! What waits to be written: which connections and polls have something, how much it is, and whom to cut off.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use signalbox_engineio::Transport;
use signalbox_socketio::Message;
use signalbox_telemetry::Metrics;
use signalbox_websocket::Frame;

use crate::{
    client_log::ClientLog,
    ledger::{Account, Ledger, OVERHEAD, share},
    session::Session,
    shard::story,
    transport::Conn,
};

/// Smaller queues keep the room they have.
const MIN_CAPACITY: usize = 1024;

/// What happens once per message is counted here, and added to the metrics when the shard comes to rest.
#[derive(Debug, Default)]
struct Counters {
    received: u64,
    received_bytes: u64,
    sent: u64,
    sent_bytes: u64,
    /// Never reset.
    sent_ever: u64,
}

/// A client that is to be cut off.
pub(in crate::shard) enum Evicted {
    Session { key: u32, number: u64 },
    Conn(Rc<Conn>),
}

/// What waits for the clients of a shard.
pub(in crate::shard) struct Outboxes {
    /// Most bytes that wait for one client.
    limit: usize,
    ledger: Arc<Ledger>,
    metrics: Metrics,
    client_log: Arc<ClientLog>,
    counters: Counters,
    /// Connections with something to write.
    dirty: VecDeque<Rc<Conn>>,
    /// Sessions whose pending GET may have a body.
    dirty_polls: Vec<(u32, u64)>,
    /// Clients that are to be cut off, and why.
    evicted: Vec<(Evicted, &'static str)>,
}

impl Outboxes {
    pub(in crate::shard) fn new(
        limit: usize,
        ledger: Arc<Ledger>,
        metrics: Metrics,
        client_log: Arc<ClientLog>,
    ) -> Self {
        Self {
            client_log,
            limit,
            ledger,
            metrics,
            counters: Counters::default(),
            dirty: VecDeque::new(),
            dirty_polls: Vec::new(),
            evicted: Vec::new(),
        }
    }

    /// Lists a connection to be written when the shard comes to rest.
    pub(in crate::shard) fn mark_dirty(&mut self, conn: &Rc<Conn>) {
        if conn.mark_dirty() {
            self.dirty.push_back(conn.clone());
        }
    }

    /// The next connection to be written.
    pub(in crate::shard) fn next_dirty(&mut self) -> Option<Rc<Conn>> {
        let conn = self.dirty.pop_front()?;
        conn.clear_dirty();
        Some(conn)
    }

    pub(in crate::shard) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Puts a frame into a connection's outbox. Whether the outbox is too full shows when it is written: what waits may have come
    /// in one burst.
    pub(in crate::shard) fn push(&mut self, conn: &Rc<Conn>, frame: &Frame) {
        if conn.push(frame) {
            self.counters.sent_bytes += frame.len() as u64;
            self.mark_dirty(conn);
        }
    }

    /// Puts the answer to a ping into a connection's outbox, in the place of one that waits there.
    pub(in crate::shard) fn push_pong(&mut self, conn: &Rc<Conn>, pong: &Frame) {
        if conn.push_pong(pong) {
            self.counters.sent_bytes += pong.len() as u64;
            self.mark_dirty(conn);
        }
    }

    /// Charges the node for a message that many may receive once, and its sender.
    pub(in crate::shard) fn share(&self, sender: Option<&Arc<Account>>, message: Message) -> Message {
        share(&self.ledger, sender, message)
    }

    /// Has a connection closed, once this frame and what waits before it is written.
    pub(in crate::shard) fn close(&mut self, conn: &Rc<Conn>, frame: &Frame) {
        conn.close(frame);
        self.mark_dirty(conn);
    }

    /// Has a connection cut off, whatever waits for it.
    pub(in crate::shard) fn abort(&mut self, conn: &Rc<Conn>) {
        conn.abort();
        self.mark_dirty(conn);
    }

    /// Has a connection read on.
    pub(in crate::shard) fn resume(&mut self, conn: &Rc<Conn>) {
        conn.resume();
        self.list_resumed(conn);
    }

    /// Lists a connection if it is to be read on since a moment ago.
    pub(in crate::shard) fn list_resumed(&mut self, conn: &Rc<Conn>) {
        if conn.is_to_wake() {
            self.mark_dirty(conn);
        }
    }

    /// Puts a frame into a connection's outbox that does not count against its limit.
    pub(in crate::shard) fn push_unbounded(&mut self, conn: &Rc<Conn>, frame: &Frame) {
        conn.allow(frame.len() + OVERHEAD);
        self.push(conn, frame);
    }

    /// A connection was written as far as it takes. Its client is cut off if it does not read.
    pub(in crate::shard) fn written(&mut self, conn: &Rc<Conn>) {
        conn.update_charge();
        if conn.exceeds(self.limit) {
            self.evict(Evicted::Conn(conn.clone()), "slow_reader");
        }
    }

    /// Sends a packet to a session: into the outbox of its WebSocket, or to wait for its next poll. A volatile packet is dropped
    /// unless it would leave at once.
    pub(in crate::shard) fn send(
        &mut self,
        key: u32,
        session: &mut Session,
        message: &Message,
        volatile: bool,
    ) {
        let is_dropped = volatile && !is_ready(session);
        if self.client_log.is_on() {
            story::session_message(&self.client_log, session, message, is_dropped);
        }
        if is_dropped {
            self.metrics.volatile_dropped.inc();
            return;
        }
        self.counters.sent += 1;
        self.counters.sent_ever += 1;
        if let Some(conn) = &session.local.conn {
            if session.engine.is_open() {
                for frame in message.frames() {
                    self.push(conn, frame);
                }
            }
            return;
        }
        let waiting = session.engine.buffered() + OVERHEAD * session.engine.buffered_packets();
        if waiting > 0 && session.local.poll.is_none() && waiting + message.len() > self.limit {
            self.evict(Evicted::Session { key, number: session.local.number }, "slow_reader");
            return;
        }
        for frame in message.frames() {
            session.engine.send(frame.clone());
        }
        self.mark_poll_dirty(key, session);
        session.update_charge();
    }

    /// Notes that a session's pending GET may have a body.
    pub(in crate::shard) fn mark_poll_dirty(&mut self, key: u32, session: &mut Session) {
        if session.local.poll.is_some() && !session.local.is_dirty {
            session.local.is_dirty = true;
            self.dirty_polls.push((key, session.local.number));
        }
    }

    /// Sessions whose pending GET may have a body.
    pub(in crate::shard) fn take_dirty_polls(&mut self) -> Vec<(u32, u64)> {
        std::mem::take(&mut self.dirty_polls)
    }

    /// Has a client cut off when the shard comes to rest.
    pub(in crate::shard) fn evict(&mut self, who: Evicted, reason: &'static str) {
        self.evicted.push((who, reason));
    }

    /// Clients that are to be cut off, and why.
    pub(in crate::shard) fn take_evicted(&mut self) -> Vec<(Evicted, &'static str)> {
        std::mem::take(&mut self.evicted)
    }

    pub(in crate::shard) fn count_received(&mut self) {
        self.counters.received += 1;
    }

    pub(in crate::shard) fn count_received_bytes(&mut self, count: usize) {
        self.counters.received_bytes += count as u64;
    }

    pub(in crate::shard) fn count_sent(&mut self) {
        self.counters.sent += 1;
    }

    /// Deliveries so far; tells how many a message has caused.
    pub(in crate::shard) fn deliveries(&self) -> u64 {
        self.counters.sent_ever
    }

    /// Adds what was counted to the metrics.
    // Never inlined: `cargo xtask bench` looks for it in a profile, to say what metrics cost.
    #[inline(never)]
    pub(in crate::shard) fn flush_counters(&mut self) {
        let sent_ever = self.counters.sent_ever;
        let counted = std::mem::replace(&mut self.counters, Counters { sent_ever, ..Counters::default() });
        for (count, metric) in [
            (counted.received, &self.metrics.received_messages),
            (counted.received_bytes, &self.metrics.received_bytes),
            (counted.sent, &self.metrics.sent_messages),
            (counted.sent_bytes, &self.metrics.sent_bytes),
        ] {
            if count > 0 {
                metric.inc_by(count);
            }
        }
    }

    /// Gives up room that a crowd has left behind.
    pub(in crate::shard) fn shrink_if_sparse(&mut self) {
        if self.dirty.capacity() >= MIN_CAPACITY {
            self.dirty.shrink_to_fit();
        }
    }
}

/// Whether a volatile packet would leave at once.
fn is_ready(session: &Session) -> bool {
    match session.engine.transport() {
        Transport::Polling => session.engine.is_writable(),
        Transport::WebSocket => session.local.conn.as_ref().is_some_and(|conn| conn.is_idle()),
    }
}
