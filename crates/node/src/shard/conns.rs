//! What connections bring, and what happens when they end.

use std::{
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use signalbox_cluster::Address;
use signalbox_engineio::{CloseReason, Packet};
use signalbox_websocket::{Frame, Message};

use super::{Shard, State, timers::Timer};
use crate::{
    mailbox::{CloseCommand, ConnectionRef, Location, Request, ShardMessage},
    transport::{Conn, Role, conn::Reader},
};

/// How much longer than an upgrade may take a WebSocket waits for word of the session's node, which gives up upgrades by itself.
/// Without an end it would wait for ever: it is not read meanwhile, so that nobody would notice that its client has gone.
const PROBE_GRACE: Duration = Duration::from_secs(5);

/// A WebSocket that wants to take a session over.
pub(super) struct Probe {
    pub(super) conn: Rc<Conn>,
    pub(super) sid: Address,
    pub(super) number: u64,
    /// It was probed; the owner knows.
    is_probed: bool,
}

impl Shard {
    /// Begins to serve a connection; `rest` is what arrived with its handshake.
    pub(crate) fn serve(self: &Rc<Self>, conn: Rc<Conn>, max_payload: usize, rest: Vec<u8>) {
        self.node.open_conns.fetch_add(1, Ordering::AcqRel);
        actix_rt::spawn(Reader::new(conn, self.clone(), max_payload, rest).run());
    }

    /// The connection's task has come to its end.
    pub(crate) fn conn_gone(&self, conn: &Rc<Conn>) {
        self.account(conn);
        self.node.open_conns.fetch_sub(1, Ordering::AcqRel);
    }

    /// Tells the node's budget how what waits for a connection has changed.
    pub(crate) fn account(&self, conn: &Conn) {
        let change = conn.account();
        if change != 0 {
            self.state.borrow_mut().account(change);
        }
    }

    /// Messages sent so far; tells how much a message has caused.
    pub(crate) fn sent_ever(&self) -> u64 {
        self.state.borrow().counters.sent_ever
    }

    pub(crate) fn received_bytes(&self, count: usize) {
        self.state.borrow_mut().counters.received_bytes += count as u64;
    }

    pub(crate) fn conn_push(&self, conn: &Rc<Conn>, frame: &Frame) {
        self.state.borrow_mut().push(conn, frame);
    }

    /// A message has arrived. The caller lets the shard settle once it has no more.
    pub(crate) fn conn_message(&self, conn: &Rc<Conn>, message: Message<'_>) {
        let state = &mut *self.state.borrow_mut();
        let now = Instant::now();
        match conn.owner.get() {
            Role::Session(key) => state.session_message(now, key, message),
            Role::Probe(key) => state.probe_message(key, message),
            Role::Peer(key) => state.peer_message(now, key, message),
            Role::Nobody => {}
        }
    }

    /// The connection is to be closed with this frame: the client closes it, or broke its rules.
    pub(crate) fn conn_closes(&self, conn: &Rc<Conn>, reason: CloseReason, frame: &Frame) {
        let owner = conn.owner.replace(Role::Nobody);
        conn.close(frame);
        self.with(|state, now| state.lost(now, owner, reason));
    }

    /// The connection is lost.
    pub(crate) fn conn_lost(&self, conn: &Rc<Conn>, reason: CloseReason) {
        let owner = conn.owner.replace(Role::Nobody);
        self.with(|state, now| state.lost(now, owner, reason));
    }
}

impl State {
    pub(super) fn lost(&mut self, now: Instant, owner: Role, reason: CloseReason) {
        match owner {
            Role::Session(key) => self.end(now, key, CloseCommand::Lost(reason)),
            Role::Probe(key) => self.probe_lost(key),
            Role::Peer(key) => self.end_peer(now, key, &reason.to_string(), &Frame::close(None)),
            Role::Nobody => {}
        }
    }

    fn session_message(&mut self, now: Instant, key: u32, message: Message<'_>) {
        match message {
            Message::Text(text) => match Packet::decode(text) {
                Ok(packet) => self.receive(now, key, packet),
                Err(_) => {
                    self.sessions[key as usize].engine.receive_invalid();
                    self.after_engine(now, key);
                }
            },
            Message::Binary(bytes) => self.receive(now, key, Packet::Binary(bytes.into())),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    /// A WebSocket wants to take a session over; it is known here before the session's owner is asked.
    pub(crate) fn open_probe(&mut self, conn: &Rc<Conn>, sid: Address) -> ConnectionRef {
        let number = self.next_number();
        let probe = Probe { conn: conn.clone(), sid, number, is_probed: false };
        let key = self.probes.insert(probe) as u32;
        conn.owner.set(Role::Probe(key));
        let patience = self.node.config.engine.upgrade_timeout + PROBE_GRACE;
        self.timers.add(Instant::now() + patience, Timer::Probe { key, number });
        ConnectionRef { node: self.node.tag, shard: self.id, key, number }
    }

    pub(super) fn probe(&mut self, at: ConnectionRef) -> Option<&mut Probe> {
        self.probes.get_mut(at.key as usize).filter(|probe| probe.number == at.number)
    }

    /// Hands a request to the session's owner.
    fn ask_owner(&mut self, sid: Address, request: Request) {
        // The upgrade's own steps are few, and a session that is half upgraded would be worse than a deep inbox.
        match self.node.shard_of(sid) {
            Some(shard) => self.node.inboxes.push(shard, ShardMessage::Request(request)),
            None => self.node.hand(Location::birth(sid), request),
        }
    }

    fn probe_message(&mut self, key: u32, message: Message<'_>) {
        let id = self.id;
        let Some(probe) = self.probes.get_mut(key as usize) else { return };
        let (sid, conn) = (probe.sid, probe.conn.clone());
        let at = ConnectionRef { node: self.node.tag, shard: id, key, number: probe.number };
        let Message::Text(text) = message else {
            if matches!(message, Message::Binary(_)) {
                self.close_probe(at);
                self.ask_owner(sid, Request::AbandonUpgrade { sid, at });
            }
            return;
        };
        match Packet::decode(text) {
            Ok(Packet::Ping("probe")) => {
                self.push(&conn, &Frame::text(signalbox_engineio::packet::PROBE_PONG));
                let is_news =
                    self.probe(at).is_some_and(|probe| !std::mem::replace(&mut probe.is_probed, true));
                if is_news {
                    self.ask_owner(sid, Request::Probed { sid, at });
                }
            }
            Ok(Packet::Upgrade) => {
                // Whatever the client sends from now on waits for the session to be here.
                conn.pause();
                self.ask_owner(sid, Request::Upgrade { sid, at });
            }
            _ => {
                self.close_probe(at);
                self.ask_owner(sid, Request::AbandonUpgrade { sid, at });
            }
        }
    }

    /// The session has not come, and nobody has said that it will not: its node is gone, and its client waits in vain.
    pub(super) fn probe_timed_out(&mut self, key: u32, number: u64) {
        if self.probes.get(key as usize).is_some_and(|probe| probe.number == number) {
            self.probe_lost(key);
        }
    }

    fn probe_lost(&mut self, key: u32) {
        let Some(probe) = self.probes.get(key as usize) else { return };
        let (sid, number) = (probe.sid, probe.number);
        let at = ConnectionRef { node: self.node.tag, shard: self.id, key, number };
        self.close_probe(at);
        self.ask_owner(sid, Request::AbandonUpgrade { sid, at });
    }

    /// Closes a WebSocket that is not to take a session over.
    pub(crate) fn close_probe(&mut self, at: ConnectionRef) {
        if self.probe(at).is_some() {
            let probe = self.probes.remove(at.key as usize);
            if !probe.conn.is_connected() {
                // Its handshake is not answered, and will be refused.
                probe.conn.abort();
                return;
            }
            probe.conn.resume();
            probe.conn.close(&Frame::close(None));
            self.mark_dirty(&probe.conn);
        }
    }
}
