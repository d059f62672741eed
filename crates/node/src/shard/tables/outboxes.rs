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
    transport::{Conn, Listed, Written},
};

/// Smaller queues keep the room they have.
const MIN_CAPACITY: usize = 1024;
/// More clients than these that receive something at once are a crowd: writing it takes milliseconds.
const CROWD: usize = 128;

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
    /// Connections with something to write,
    dirty: VecDeque<Rc<Conn>>,
    /// those of them that have received what a crowd has, for whom the others do not wait,
    crowd: VecDeque<Rc<Conn>>,
    /// and those for which so much waits that it takes several turns.
    long: VecDeque<Rc<Conn>>,
    /// What is sent now is for a crowd.
    is_for_crowd: bool,
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
            crowd: VecDeque::new(),
            long: VecDeque::new(),
            is_for_crowd: false,
            dirty_polls: Vec::new(),
            evicted: Vec::new(),
        }
    }

    /// Lists a connection to be written when the shard comes to rest.
    #[inline]
    pub(in crate::shard) fn mark_dirty(&mut self, conn: &Rc<Conn>) {
        if conn.is_listed_first() {
            return;
        }
        let (list, queue) = if conn.has_long_queue() {
            (Listed::Long, &mut self.long)
        } else if self.is_for_crowd {
            (Listed::Crowd, &mut self.crowd)
        } else {
            (Listed::First, &mut self.dirty)
        };
        if conn.list(list) {
            queue.push_back(conn.clone());
        }
    }

    /// Sends something to so many clients. If they are a crowd, they are written in slices, and others do not wait for them.
    pub(in crate::shard) fn send_to_many(&mut self, receivers: usize, send: impl FnOnce(&mut Self)) {
        self.is_for_crowd = receivers > CROWD;
        send(self);
        self.is_for_crowd = false;
    }

    /// The next connection to be written, of those that others wait for.
    pub(in crate::shard) fn next_dirty(&mut self) -> Option<Rc<Conn>> {
        self.next_of(Listed::First)
    }

    /// The next one of those that have received what a crowd has.
    pub(in crate::shard) fn next_of_crowd(&mut self) -> Option<Rc<Conn>> {
        self.next_of(Listed::Crowd)
    }

    /// The next one of those for which much waits.
    pub(in crate::shard) fn next_long(&mut self) -> Option<Rc<Conn>> {
        self.next_of(Listed::Long)
    }

    #[inline(always)]
    fn next_of(&mut self, list: Listed) -> Option<Rc<Conn>> {
        loop {
            let queue = match list {
                Listed::Crowd => &mut self.crowd,
                Listed::Long => &mut self.long,
                _ => &mut self.dirty,
            };
            // One that is listed elsewhere by now is written there.
            let conn = queue.pop_front()?;
            if !conn.unlist(list) {
                continue;
            }
            if list == Listed::Long || !conn.has_long_queue() {
                return Some(conn);
            }
            self.mark_dirty(&conn);
        }
    }

    /// Whether anything of what was sent has yet to be written, but for what takes several turns.
    pub(in crate::shard) fn has_unwritten(&self) -> bool {
        !self.dirty.is_empty() || !self.crowd.is_empty()
    }

    pub(in crate::shard) fn has_dirty(&self) -> bool {
        self.has_unwritten() || !self.long.is_empty()
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

    /// A connection was written. Its client is cut off if it does not read, or if what waits for it has become twice as much as may
    /// although it does.
    pub(in crate::shard) fn written(&mut self, conn: &Rc<Conn>, written: Written) {
        conn.update_charge();
        let limit = match written {
            Written::Turn => self.limit.saturating_mul(2),
            Written::AsFarAsItGoes => self.limit,
        };
        if conn.exceeds(limit) {
            self.evict(Evicted::Conn(conn.clone()), "slow_reader");
        }
        // Also one that is cut off: if it closes already, what is queued is still written.
        if written == Written::Turn {
            self.mark_dirty(conn);
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
        for queue in [&mut self.dirty, &mut self.crowd, &mut self.long] {
            if queue.capacity() >= MIN_CAPACITY {
                queue.shrink_to_fit();
            }
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
